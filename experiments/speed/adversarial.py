"""Adversarial models: a training step of DCGAN, and of WGAN-GP with its critic's steps, beside PyTorch.

For PyTorch see section sequences: --peer_python names the python of its environment.
"""

import dataclasses

from experiments.speed.beside import num_threads, training
from experiments.speed.peers.protocol import Case
from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings

OURS, PEER = "experiments.speed.peers.gdm_adversarial", "experiments.speed.peers.torch_adversarial"
TARGET = 1.0  # over PyTorch


@dataclasses.dataclass(frozen=True)
class Size:
  """Steps of each model's critic, channels of the largest images, their side, batch, and seconds of a timing."""

  critic_steps: tuple[tuple[str, int], ...] = (("dcgan", 1), ("wgan_gp", 2))
  width: int = 32
  side: int = 28
  batch: int = 64
  seconds: float = 2.0


SIZES = {FULL: Size(), QUICK: Size(seconds=0.5), TINY: Size(width=2, side=8, batch=4, seconds=0.01)}


def run(settings: Settings) -> list[Row]:
  size, rows = SIZES[settings.size], []
  for model, steps in size.critic_steps:
    case = Case(model, steps, size.width, 256, size.side, size.batch, num_threads())
    what = f"{model}, {size.width} channels, {size.side}x{size.side}, batch {size.batch}, {steps} critic step"
    rows += training(f"{what}{'s' * (steps > 1)}", case, OURS, PEER, settings, size.seconds, TARGET,
                     choose_threads=True)
  return rows
