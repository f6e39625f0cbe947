"""Classifiers: a training step of the convolutional network beside PyTorch.

For PyTorch see section sequences: --peer_python names the python of its environment.
"""

import dataclasses

from experiments.speed.beside import num_threads, training
from experiments.speed.peers.protocol import Case
from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings

OURS, PEER = "experiments.speed.peers.gdm_classifiers", "experiments.speed.peers.torch_classifiers"
TARGET = 0.9  # over PyTorch


@dataclasses.dataclass(frozen=True)
class Size:
  """Stages, channels of the first, side of the images, batch, and seconds of a timing."""

  stages: int = 3
  width: int = 32
  side: int = 28
  batch: int = 100
  seconds: float = 2.0


SIZES = {FULL: Size(), QUICK: Size(seconds=0.5), TINY: Size(stages=2, width=2, side=8, batch=4, seconds=0.01)}


def run(settings: Settings) -> list[Row]:
  size = SIZES[settings.size]
  case = Case("convolutional", size.stages, size.width, 256, size.side, size.batch, num_threads())
  what = f"classifier, {size.stages} stages from {size.width} channels, {size.side}x{size.side}, batch {size.batch}"
  return training(what, case, OURS, PEER, settings, size.seconds, TARGET, choose_threads=True)
