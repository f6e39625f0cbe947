"""Scikit-learn's handwritten digits: 1,797 real images, 8x8x1 with 17 levels, offline (Alpaydin and Kaynak 1998)."""

import numpy as np

from gdm.data.dataset import Dataset
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.dataspec import DataSpec

PERMUTATION_SEED = 20240601  # the same permutation for everyone, whatever the config's seed
SIZES = (1297, 200, 300)


def load(request: Request) -> Dataset:
  """Return the set, permuted once by `PERMUTATION_SEED` and cut into 1297 / 200 / 300."""
  del request
  from sklearn.datasets import load_digits  # here, since importing scikit-learn takes most of a second

  x, y = load_digits(return_X_y=True)
  x = x.reshape(-1, 8, 8, 1).astype(np.uint8)
  order = np.random.Generator(np.random.Philox(PERMUTATION_SEED)).permutation(len(x))
  parts = np.split(order, np.cumsum(SIZES)[:-1])
  splits = {name: MemorySplit({"x": x[part], "y": y[part].astype(np.int32)})
            for name, part in zip(("train", "valid", "test"), parts, strict=True)}
  info = {"source": "sklearn.datasets.load_digits", "permutation_seed": PERMUTATION_SEED}
  return Dataset("digits", DataSpec(event=(8, 8, 1), levels=17, num_classes=10), splits, info)
