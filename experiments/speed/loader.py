"""Examples/s of the loader: data in memory by indexing, data on disk through Grain."""

import dataclasses
from collections.abc import Callable

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, rates, summary
from gdm.data.dataset import Dataset
from gdm.data.loader import Loader
from gdm.data.sources import tfds
from gdm.data.sources.request import Request
from gdm.errors import DataError

ON_DISK = "binarized_mnist"


@dataclasses.dataclass(frozen=True)
class Size:
  """Batch size, and calls of the loader per timing."""

  batch: int = 100
  memory_calls: int = 2000
  disk_calls: int = 50


SIZES = {FULL: Size(), QUICK: Size(memory_calls=500, disk_calls=20), TINY: Size(10, 3, 2)}


def run(settings: Settings) -> list[Row]:
  size, dataset = SIZES[settings.size], settings.dataset()
  calls = {1: _reader(dataset, size.batch, 1), 10: _reader(dataset, size.batch, 10)}
  times = alternate(calls, settings.repeats, size.memory_calls)
  rows = [summary(f"in memory, {steps} step{'s' * (steps > 1)} per call", rates(times[steps], steps * size.batch),
                  "examples/s", f"batch {size.batch}, {size.memory_calls} calls a time")
          for steps in calls]
  return [*rows, _disk_row(settings, size)]


def _disk_row(settings: Settings, size: Size) -> Row:
  name = "on disk, 1 step per call"
  try:
    # A limit of 0 leaves on disk what would fit in memory: the images are decoded as they are read.
    dataset = tfds.load(Request("tfds", ON_DISK, data_dir=settings.data_dir), memory_limit=0)
  except DataError as error:
    return Row(name, None, "examples/s", f"not measured: {str(error).partition('. ')[0]}")
  times = alternate({"disk": _reader(dataset, size.batch, 1)}, settings.repeats, size.disk_calls)
  return summary(name, rates(times["disk"], size.batch), "examples/s",
                 f"tfds:{ON_DISK}, decoded by Grain's threads, batch {size.batch}, {size.disk_calls} calls a time")


def _reader(dataset: Dataset, batch_size: int, steps: int) -> Callable[[], object]:
  loader = Loader(dataset, batch_size, seed=0)
  return lambda: loader.next_batches(steps)
