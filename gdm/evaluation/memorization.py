"""A test for copies of training data: are samples closer to it than held-out data are?

The distances to the nearest training example of samples and of held-out data are compared by their ranks (Mann and
Whitney, 1947; Meehan et al., arXiv:2004.05675, section 3: their test with one cell). Both sets have the same training
set, so that samples of the data's own distribution give z of mean 0 and deviation 1, whatever data and features are.
z far below 0 means copies or near copies, z far above 0 samples far from all training data.

A model that copies one sample in ten and draws the others too far away may score 0, since ranks are averaged; look at
the closest samples (`neighbours.png`). And where the training split itself has near copies of held-out examples, so may
samples.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gdm.errors import DataError
from gdm.evaluation.intervals import Measured
from gdm.evaluation.outliers import separation

LEAST = 20  # distances of either kind, below which z is not nearly normal
_DIGITS = 9  # to which equal distances agree, whichever way they were rounded


class CopyTest(NamedTuple):
  """Distances of samples to their nearest training examples against those of held-out data.

  Attributes:
    z: the rank statistic over its standard deviation under equal distributions; below -5 are copies.
    closer: probability that a sample is closer to the training data than a held-out example, half of ties counted; 0.5
      of honest samples.
    median_ratio: median distance of samples over that of held-out data; None where the latter is 0.
    num: samples.
    num_heldout: held-out examples.
  """

  z: float
  closer: Measured
  median_ratio: float | None
  num: int
  num_heldout: int


def copy_test(samples: Float[np.ndarray, " n"], heldout: Float[np.ndarray, " m"]) -> CopyTest:
  """Compare distances to the nearest training examples. Raise DataError where there are too few of either."""
  n, m = len(samples), len(heldout)
  for num, what in ((n, "samples"), (m, "held-out examples")):
    if num < LEAST:
      raise DataError(f"{num} {what} are too few for a test of memorization; it takes at least {LEAST}.")
  from scipy import stats  # here, since importing it takes a second

  both = np.concatenate([samples, heldout])
  scale = float(np.max(both)) or 1.0
  rounded = np.round(both / scale, _DIGITS)
  ranks = stats.rankdata(rounded)
  u = float(np.sum(ranks[:n])) - n * (n + 1) / 2.0  # pairs in which the sample is the farther one, ties by half
  _, ties = np.unique(ranks, return_counts=True)
  total = n + m
  variance = n * m / 12.0 * (total + 1.0 - float(np.sum(ties.astype(float) ** 3 - ties)) / (total * (total - 1.0)))
  z = (u - n * m / 2.0) / math.sqrt(variance) if variance > 0.0 else 0.0
  # An area under a ROC curve, with an interval that stays open where all samples are copies.
  closer = Measured(*separation(-rounded[:n], -rounded[n:]))
  median = float(np.median(heldout))
  return CopyTest(z, closer, float(np.median(samples)) / median if median > 0.0 else None, n, m)
