"""The parts of diffusion that both sides build from a `Case`. The standard library alone.

The U-Net has `num_layers` residual blocks per resolution, of `width` channels at the full one and twice as many at half
of it, where attention follows each block. Images have `context` pixels a side and `levels` channels, and are noise: no
speed depends on what they show.
"""

MULTIPLIERS = (1, 2)
NUM_STEPS = 20  # of DDIM, each one evaluation of the network
