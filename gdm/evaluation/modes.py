"""Modes of a known mixture that samples reach, as tables of adversarial models count them.

A sample belongs to the nearest centre, and is of high quality within three standard deviations of it (Srivastava et
al., arXiv:1705.07761, section 4; Lin et al., arXiv:1712.04086, section 4.1). Of the mixture itself 98.9 % are, in two
dimensions: 1 - exp(-9 / 2). A mode is reached if a sample of high quality belongs to it. The reverse KL is
KL(samples || truth) of the histogram of modes over samples of high quality, against uniform modes, as the authors of
PacGAN compute it: 0 for modes alike, log(25 / 17) = 0.39 for 17 of 25 modes alike and no others.

All these depend on the number of samples: few cannot reach many modes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gdm.evaluation.distances import require_finite, row_chunks
from gdm.evaluation.histograms import Divergence, distinct, divergence
from gdm.evaluation.intervals import Measured, share_interval

DEVIATIONS = 3.0  # from the nearest centre, within which a sample is of high quality


class ModeScores(NamedTuple):
  """What samples reach of a mixture.

  Attributes:
    num_modes: modes with a sample of high quality; its interval is for the expected number of as many samples.
    known: modes of the mixture.
    high_quality: share of samples of high quality, with Clopper and Pearson's interval.
    reverse_kl: of modes, in nats; None where no sample is of high quality.
    num: samples.
  """

  num_modes: Measured
  known: int
  high_quality: Measured
  reverse_kl: Divergence | None
  num: int


def count_modes(samples: Float[np.ndarray, "num dims"], centers: Float[np.ndarray, "modes dims"],
                deviation: Float[np.ndarray, " dims"]) -> ModeScores:
  """Return what samples reach of a mixture of equal parts.

  Args:
    samples: the samples.
    centers: of the parts.
    deviation: standard deviation of all parts in each dimension.

  Raise NotFiniteError where a sample is NaN or infinite.
  """
  require_finite(samples, "sample")
  places, is_high = _nearest_modes(samples, centers, deviation)
  counts = np.bincount(places[is_high], minlength=len(centers))
  share = float(np.mean(is_high))
  uniform = np.full(len(centers), 1.0 / len(centers))
  return ModeScores(distinct(counts), len(centers), Measured(share, share_interval(share, len(samples))),
                    divergence(counts, uniform) if is_high.any() else None, len(samples))


def _nearest_modes(samples: np.ndarray, centers: np.ndarray, deviation: np.ndarray
                   ) -> tuple[Int[np.ndarray, " num"], np.ndarray]:
  """Return the number of the nearest centre of each sample, and whether it is of high quality."""
  places, is_high = np.zeros(len(samples), int), np.zeros(len(samples), bool)
  for rows in row_chunks(len(samples), centers.size):
    squares = np.sum(((samples[rows, None].astype(np.float64) - centers) / deviation) ** 2, axis=2)
    places[rows] = np.argmin(squares, axis=1)
    is_high[rows] = np.min(squares, axis=1) < DEVIATIONS**2
  return places, is_high
