"""The networks: a U-Net over spectrograms, and what looks at the scene."""
