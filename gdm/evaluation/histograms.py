"""How samples are spread over classes that are counted: modes of a mixture, labels."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gdm.errors import DataError
from gdm.evaluation.intervals import NORMAL_975, Interval, Measured

Counts = Int[np.ndarray, " classes"]


class Divergence(NamedTuple):
  """KL(samples || reference) of two histograms, in nats: the reverse KL where the reference is the truth.

  Attributes:
    value: less its bias in the numbers counted (Miller and Madow); it may fall below 0.
    ci95: its interval over draws of the samples, and of the reference where that was counted; 0 is its least end.
    plug_in: of the histograms as they are, as tables have it; too large, by (classes - 1) / 2 n of equal ones.
  """

  value: float
  ci95: Interval
  plug_in: float


def divergence(counts: Counts, reference: Counts | Float[np.ndarray, " classes"]) -> Divergence:
  """Return KL(samples || reference) by counts of the samples.

  The variance is that of the linear part, less what noise adds to its own estimate, and of the quadratic part, which is
  all there is where the two are equal: half the classes less one, times (1 / n + 1 / m)^2.

  Args:
    counts: of the samples.
    reference: probabilities, all positive and exact; or counts of m data (integers), to each of which half a one is
      added, so that a class that no example of the data has leaves the divergence finite.

  Raise DataError where nothing was counted.
  """
  num, num_reference = int(counts.sum()), math.inf
  if np.issubdtype(reference.dtype, np.integer):
    num_reference = int(reference.sum())
    reference = (reference + 0.5) / (num_reference + 0.5 * len(reference))
  if not (num and num_reference):
    raise DataError(f"{num} samples and {num_reference} data were counted; a divergence takes at least one of each.")
  p, seen = counts / num, counts > 0
  ratio = p / reference
  log_ratio = np.log(np.where(seen, ratio, 1.0))
  plug_in = float(np.sum(p * log_ratio))

  free = int(seen.sum()) - 1
  scale = 1.0 / num + 1.0 / num_reference
  bias = free / (2.0 * num) + float(np.sum(p * (1.0 - reference) / reference)) / (2.0 * num_reference)
  noise = free * scale
  linear = max(float(np.sum(p * log_ratio**2)) - plug_in**2 - noise, 0.0) / num
  linear += max(float(np.sum(reference * ratio**2)) - 1.0 - noise, 0.0) / num_reference
  half = NORMAL_975 * math.sqrt(linear + 0.5 * free * scale**2)
  value = plug_in - bias
  return Divergence(value, Interval(max(value - half, 0.0), max(value + half, 0.0)), plug_in)


def distinct(counts: Counts) -> Measured:
  """Return how many classes were found, with the interval of the expected number of as many draws.

  The variance is S (1 - S / S'), where S' adds to the S classes found those that are likely there and were not, by the
  numbers of classes found once and twice (Chao, Scandinavian Journal of Statistics 1984; Colwell et al., Journal of
  Plant Ecology 2012): none where every class was found often.
  """
  found, once, twice = (int(np.sum(test)) for test in (counts > 0, counts == 1, counts == 2))
  num = max(int(counts.sum()), 1)
  hidden = (num - 1) / num * (once**2 / (2.0 * twice) if twice else once * (once - 1) / 2.0)
  hidden = min(hidden, len(counts) - found)
  half = NORMAL_975 * math.sqrt(found * hidden / (found + hidden)) if found else 0.0
  return Measured(float(found), Interval(max(found - half, 0.0), min(found + half, float(len(counts)))))
