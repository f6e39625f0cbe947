"""The parts of energies that both sides build from a `Case`. The standard library alone.

An "mlp" has `num_layers` hidden layers of `width`, on vectors of `context` real numbers. A "convolutional" energy has
`num_layers` convolutions, of `width` channels and then twice as many, on images of `context` pixels a side and `levels`
values. Data are noise: no speed depends on what they show. Training is by cold chains
from a replay buffer, unadjusted Langevin steps, and a penalty on the energies' squares (Du and Mordatch, 2019).
"""

NUM_STEPS = 20
STEP_SIZE = 0.01
NOISE = 0.1
RESTART = 0.05
CHAIN_SHARDS, CHAINS_PER_SHARD = 8, 64
PENALTY = 0.01
LEARNING_RATE = 1e-5  # on one batch again and again, so that nothing diverges


def hidden(model: str, num_layers: int, width: int) -> tuple[int, ...]:
  """Sizes of the hidden layers, or channels of the convolutions."""
  wider = 2 * width if model == "convolutional" else width
  return (width, *(wider for _ in range(num_layers - 1)))
