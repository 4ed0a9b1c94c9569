"""The networks: a U-Net over spectrograms, and a ResNet-18 that looks at the scene."""
