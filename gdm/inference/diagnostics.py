"""Whether chains have mixed: split R-hat and effective sample size of a scalar (Vehtari et al., arXiv:1903.08008);
and whether they moved at all.

On the host, in float64: chains are looked at once, after they ran.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special
from jaxtyping import Num
from numpy import ndarray

from gdm.errors import ConfigError

MIN_ACCEPTANCE = 0.05  # of proposals, below which chains don't move to speak of
MIN_PATH = 0.05  # deviations, below which a move goes nowhere
MAX_STUCK = 0.01  # share of chains
# What `failure` looks at.
FAILURES = ("lost", "least_acceptance", "least_acceptance_beta", "stuck", "least_path", "acceptance")


def failure(info: Mapping[str, Any]) -> str:
  """Say what shows that draws are not from their model, by what its sampler tells of them; "" where nothing does.

  What is not found here may still be wrong: a part of the density that no chain comes to shows nowhere.

  Args:
    info: of `Samples`; of it those of FAILURES count that are there.
  """
  found = []
  if _number(info, "lost", 0.0) > 0.0:
    found.append(f"{_number(info, 'lost'):.2g} of the chains have left the finite numbers")
  if _number(info, "least_acceptance", 1.0) < MIN_ACCEPTANCE:
    found.append(f"annealing accepted only {_number(info, 'least_acceptance'):.2g} of its moves at inverse temperature "
                 f"{_number(info, 'least_acceptance_beta'):.3g}")
  if _number(info, "stuck", 0.0) > MAX_STUCK:
    found.append(f"{_number(info, 'stuck'):.2g} of the chains stood still towards the end of annealing")
  if _number(info, "least_path", 1.0) < MIN_PATH:
    found.append(f"annealing's moves were as short as {_number(info, 'least_path'):.2g} deviations")
  if _number(info, "acceptance", 1.0) < MIN_ACCEPTANCE:
    found.append(f"only {_number(info, 'acceptance'):.2g} of the further steps were accepted")
  return "; ".join(found)


def of_batches(infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Return what samplers tell of several batches, each of as many chains, as if of one batch.

  Arrays by chain are joined along the chains, "trajectory" along its second axis. Of numbers, what counts chains is
  summed, the least is taken of what is a least of its kind, and the mean of all others.
  """
  if len(infos) == 1:
    return dict(infos[0])
  of_all = {}
  for name in infos[0]:
    values = [np.asarray(info[name]) for info in infos]
    if values[0].ndim:
      of_all[name] = np.concatenate(values, axis=1 if name == "trajectory" else 0)
    else:
      of_all[name] = _SUMMARIES.get(name, np.mean)(np.stack(values))
  if "least_acceptance" in of_all:
    least = int(np.argmin([info["least_acceptance"] for info in infos]))
    of_all["least_acceptance_beta"] = infos[least]["least_acceptance_beta"]
  return of_all


_SUMMARIES = {"effective_sample_size": np.sum, "ancestors": np.sum, "least_acceptance": np.min, "least_path": np.min,
              "solved": np.all}


def _number(info: Mapping[str, Any], name: str, default: float = float("nan")) -> float:
  return float(info.get(name, default))


def split_rhat(draws: Num[ndarray, "chains draws"]) -> float:
  """Split R-hat (equations 1 to 4, each chain cut in two halves): near 1 where chains agree; above 1.01 is suspect.

  Raise ConfigError for fewer than 4 draws a chain. Draws that never change give NaN: they say nothing of mixing.
  """
  halves = _halves(draws)
  num = halves.shape[1]
  between = num * np.var(halves.mean(axis=1), ddof=1)
  within = np.mean(np.var(halves, axis=1, ddof=1))
  if within == 0:
    return float("nan") if between == 0 else float("inf")
  return float(np.sqrt((num - 1) / num + between / (num * within)))


def rank_rhat(draws: Num[ndarray, "chains draws"]) -> float:
  """Return the larger split R-hat of the rank-normalized draws and of their folded distances from the median
  (section 4).

  It also sees chains of different spread, and heavy tails do not mislead it.
  """
  draws = np.asarray(draws, np.float64)
  folded = np.abs(draws - np.median(draws))
  # Draws of two values have one distance from the median, which says nothing; then the draws themselves count.
  return float(np.fmax(split_rhat(rank_normalize(draws)), split_rhat(rank_normalize(folded))))


def agreement(name: str, draws: Num[ndarray, "chains draws"]) -> str:
  """Say whether chains agree on a number of theirs, in words also where there is nothing to measure.

  Args:
    name: what the number is of, as "log f".
    draws: the number after every step, of at least 4.
  """
  draws = np.asarray(draws, np.float64)
  lost = int(np.sum(~np.isfinite(draws).all(axis=1)))
  if lost:
    return f"{name} is not finite in {lost} of {len(draws)} chains, so that they have no R-hat"
  if np.ptp(draws) == 0:
    return f"{name} never changes, which says nothing of whether chains agree"
  rhat, size = rank_rhat(draws), effective_sample_size(draws)
  if np.isfinite(rhat) and np.isfinite(size):
    return f"R-hat {rhat:.3f} and effective sample size {size:.0f} of {draws.size} values of {name}"
  return f"{name} stays where each chain began, at other values in others: R-hat is infinite, the chains do not mix"


def in_words(value: float, digits: int = 3) -> str:
  """Return the number in so many digits, or "unknown" for what is none."""
  return f"{value:.{digits}g}" if np.isfinite(value) else "unknown"


def rank_normalize(draws: Num[ndarray, "chains draws"]) -> Num[ndarray, "chains draws"]:
  """Normal scores of the draws' ranks among all chains (equation 14); ties share their mean rank."""
  from scipy import stats  # here, since importing it takes a second

  ranks = stats.rankdata(draws, method="average").reshape(np.shape(draws))
  return scipy.special.ndtri((ranks - 0.375) / (ranks.size + 0.25))


def effective_sample_size(draws: Num[ndarray, "chains draws"]) -> float:
  """Return how many independent draws would give the mean of all chains the same variance (section 3.2, equations 10
  to 13).

  Autocorrelations are summed over Geyer's initial monotone sequence, of split chains.
  """
  halves = _halves(draws)
  num = halves.shape[1]
  covariances = np.stack([_autocovariance(chain) for chain in halves])
  within = np.mean(covariances[:, 0]) * num / (num - 1)
  if within == 0:
    return float("nan")
  total = within * (num - 1) / num + np.var(halves.mean(axis=1), ddof=1)
  correlation = 1.0 - (within - np.mean(covariances, axis=0) * num / (num - 1)) / total
  correlation[0] = 1.0
  pairs = correlation[:num // 2 * 2].reshape(-1, 2).sum(axis=1)  # positive and falling for a reversible chain
  negative = np.flatnonzero(pairs <= 0)
  pairs = np.minimum.accumulate(pairs[:negative[0]] if len(negative) else pairs)
  # A chain that alternates may beat independent draws; the bound keeps its noise within reason.
  time = max(-1.0 + 2.0 * float(np.sum(pairs)), 1.0 / np.log10(halves.size))
  return float(halves.size / time)


def _halves(draws: Num[ndarray, "chains draws"]) -> Num[ndarray, "halves length"]:
  """First and second half of every chain; the middle draw of an odd number is left out."""
  draws = np.asarray(draws, np.float64)
  if draws.ndim != 2 or draws.shape[1] < 4:
    raise ConfigError(f"draws has shape {draws.shape}; it must be [chains, draws] with at least 4 draws a chain.")
  half = draws.shape[1] // 2
  return np.concatenate([draws[:, :half], draws[:, -half:]])


def _autocovariance(chain: Num[ndarray, " draws"]) -> Num[ndarray, " draws"]:
  """Biased autocovariance at every lag, by Fourier transform."""
  centred = chain - chain.mean()
  spectrum = np.fft.rfft(centred, 2 * len(chain))
  return np.fft.irfft(np.square(np.abs(spectrum)))[:len(chain)] / len(chain)
