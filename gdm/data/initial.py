"""The examples that data-dependent initialization sees: a random sample of the whole training split.

Files come in order of time or class, so that their first rows stand for nothing.
"""

import numpy as np
from jaxtyping import Integer

from gdm.data.dataset import Dataset
from gdm.data.split import Split, chunks

SEED = 20241129  # of the sample, whatever the config's seed: statistics belong to the data


def initial_batch(dataset: Dataset, num: int) -> dict[str, np.ndarray]:
  """Return `num` rows of the training split, or all where it has no more, drawn without replacement, in its order.

  A dimension of real data that is constant among these and not in the whole split gets one row more where it differs,
  so that nothing takes a rare value for impossible.

  Args:
    dataset: the data.
    num: rows to draw, at least 1.
  """
  split = dataset.split("train")
  examples = sample_examples(split.num_examples, num)
  rows = split.rows(examples)
  if dataset.spec.is_discrete or len(examples) == split.num_examples or not split.in_memory:
    return rows
  more = _where_constants_differ(split, rows["x"])
  return split.rows(np.union1d(examples, more)) if len(more) else rows


def sample_examples(num_examples: int, num: int) -> Integer[np.ndarray, " sample"]:
  """Return the indices of `num` of so many examples, or of all, without replacement and in order."""
  if num >= num_examples:
    return np.arange(num_examples)
  return np.sort(np.random.Generator(np.random.Philox(SEED)).choice(num_examples, num, replace=False))


def _where_constants_differ(split: Split, sample: np.ndarray) -> Integer[np.ndarray, " more"]:
  """Return, for each dimension that is constant in the sample, the first example of the split with another value
  there."""
  flat = sample.reshape(len(sample), -1)
  dims = np.flatnonzero((flat == flat[0]).all(axis=0))
  found = set()
  for examples, rows in chunks(split):
    if not len(dims):
      break
    differs = rows["x"].reshape(len(examples), -1)[:, dims] != flat[0, dims]
    some = differs.any(axis=0)
    found |= set(examples[differs[:, some].argmax(axis=0)].tolist())
    dims = dims[~some]
  return np.array(sorted(found), int)
