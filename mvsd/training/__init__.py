"""Training of both converters in the closed loop: configuration, loop, checkpoints, averages and logs."""
