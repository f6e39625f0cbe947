"""Settings of every section: how large to measure, how often, and on which data."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from gdm.data.dataset import Dataset
from gdm.data.load import load_dataset
from gdm.dataspec import DataSpec

# Sizes of a measurement: the default, `--quick`, and what the tests take, where only the rows' form matters.
FULL, QUICK, TINY = "full", "quick", "tiny"

ADULT_DIMS = 123
ADULT_SIZES = {"train": 5000, "valid": 1414, "test": 26147}
TINY_SIZES = {"train": 40, "valid": 10, "test": 30}


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of a benchmark.

  Attributes:
    data: an npz of binary data; "" for synthetic data of the shape of adult.
    data_dir: where TFDS data lies.
    repeats: timings of which the median is taken.
    size: one of FULL, QUICK, TINY.
    peer_python: the python of an environment with PyTorch, to compare with; "" for none.
    peers: a folder of environments of other libraries, each under the library's name; "" for none.
  """

  data: str = ""
  data_dir: str = ""
  repeats: int = 7
  size: str = FULL
  peer_python: str = ""
  peers: str = ""

  def dataset(self) -> Dataset:
    """Return the data to train and score on, in memory."""
    return load_dataset("npz", path=self.data) if self.data else synthetic(self.split_sizes)

  @property
  def split_sizes(self) -> Mapping[str, int]:
    return TINY_SIZES if self.size == TINY else ADULT_SIZES


def synthetic(sizes: Mapping[str, int], dims: int = ADULT_DIMS) -> Dataset:
  """Independent fair bits: speed does not depend on what the bits mean."""
  generator = np.random.default_rng(0)
  splits = {name: {"x": generator.integers(0, 2, (num, dims), np.uint8)} for name, num in sizes.items()}
  return Dataset(f"synthetic bits [{dims}]", DataSpec((dims,), levels=2), splits)
