"""The log-likelihood of every example beside a report, and what two models differ by on the same examples.

Models agree on which examples are hard, so a difference paired by example is far surer than its two terms.
"""

import functools
import math
import operator
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gdm.errors import DataError
from gdm.evaluation.intervals import NORMAL_975, Interval, combined, ratio_stderr, student_975
from gdm.evaluation.report import Report
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.likelihood import Kind
from gdm.paths import write_whole

# The mean of the examples and the mean in the report are the same sum, but for its rounding.
_TOLERANCE = 1e-9


class Scores(NamedTuple):
  """Scores of a split in its order.

  Attributes:
    nats: log-likelihood of each example.
    num_dims: dimensions of each.
    kind: what kind of number they are.
    normalizer_stderr: standard error, in nats, of what all examples share; 0 where nothing is estimated.
    normalizer_halves: how far, in nats, the 95 % interval of what all share reaches below and above the scores.
  """

  nats: Float[np.ndarray, " examples"]
  num_dims: Int[np.ndarray, " examples"]
  kind: Kind = Kind.EXACT
  normalizer_stderr: float = 0.0
  normalizer_halves: tuple[float, float] = (0.0, 0.0)


class Difference(NamedTuple):
  """A model's score minus another's: in bits/dim of a probability mass (negative is better), else in nats.

  Attributes:
    mean: over the examples.
    stderr: its standard error over examples, and of what all share.
    ci95: its 95 % interval.
    kind: what the difference of the log-likelihoods is: exact where both are, else a bound of the true one, or an
      estimate. The interval is about the difference of the numbers, whatever they are.
  """

  mean: float
  stderr: float
  ci95: Interval
  kind: Kind

  def widened(self, *halves: float) -> "Difference":
    """Return it with an interval that is wider by independent errors of these half widths."""
    low, high = self.ci95
    return self._replace(ci95=Interval.around(self.mean, combined(self.mean - low, *halves),
                                              combined(high - self.mean, *halves)))


def scores_path(report: str | os.PathLike) -> Path:
  """Return the place of the scores of `likelihood_<split>.json`: `scores_<split>.npz`."""
  path = Path(report)
  return path.with_name(path.name.replace("likelihood_", "scores_")).with_suffix(".npz")


def write_scores(path: str | os.PathLike, likelihood: SplitLikelihood) -> None:
  """Write the scores whole or not at all; raises WorkdirError where they cannot be written."""
  write_whole(path, lambda file: np.savez(
      file, nats=likelihood.nats, num_dims=likelihood.num_dims,
      normalizer_stderr=np.float64(likelihood.normalizer_stderr),
      normalizer_halves=np.array(likelihood.normalizer_halves, np.float64)))


def read_scores(path: str | os.PathLike, report: Report) -> Scores | None:
  """Return the scores that a report is the mean of; None where there are none, or those of another evaluation.

  Raise DataError where the file is damaged.
  """
  try:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
      stderr = float(arrays["normalizer_stderr"])
      halves = arrays["normalizer_halves"] if "normalizer_halves" in arrays else NORMAL_975 * stderr * np.ones(2)
      below, above = halves.tolist()
      scores = Scores(arrays["nats"], arrays["num_dims"], Kind(report["kind"]), stderr, (below, above))
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise DataError(f"{path} holds no scores ({error}); evaluate again to replace it.") from error
  if scores.nats.shape != (report["num_examples"],) or scores.num_dims.shape != scores.nats.shape:
    return None
  same = math.isclose(float(np.mean(scores.nats)), report["nats_mean"], rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
  return scores if same else None


def paired_difference(several: Sequence[Scores], others: Sequence[Scores], is_discrete: bool) -> Difference:
  """Return what the mean of `several` scores differs by from that of `others`, on the same examples.

  What occurs on both sides, by identity, cancels as far as it does. Intervals are Student's over examples, combined
  with those of what the examples share.

  Raise DataError for a single example.
  """
  num = len(several[0].nats)
  if num < 2:
    raise DataError("one example shows no spread; a paired difference needs at least two.")
  parts = list(_contrast(several, others))
  nats = sum((weight * scores.nats for scores, weight in parts), np.zeros(num))
  dims = several[0].num_dims if is_discrete else np.ones(num)
  ratio, scale, spread = float(nats.sum() / dims.sum()), float(dims.mean()), ratio_stderr(nats, dims)
  stderr = math.hypot(spread, *(weight * scores.normalizer_stderr / scale for scores, weight in parts))
  # What is subtracted too much is missing: its sides change places.
  sides = [(weight / scale, scores.normalizer_halves[::1 if weight > 0 else -1]) for scores, weight in parts]
  below, above = (combined(student_975(num - 1) * spread, *(weight * halves[side] for weight, halves in sides))
                  for side in (0, 1))
  kind = functools.reduce(operator.add, (scores.kind if weight > 0 else -scores.kind for scores, weight in parts),
                          Kind.EXACT)
  if not is_discrete:
    return Difference(ratio, stderr, Interval.around(ratio, below, above), kind)
  bits, bit = -ratio / math.log(2.0), math.log(2.0)
  return Difference(bits, stderr / bit, Interval.around(bits, above / bit, below / bit), kind)


def _contrast(several: Sequence[Scores], others: Sequence[Scores]) -> Iterator[tuple[Scores, float]]:
  """Return the weight of each model's scores in the difference of two means, where it is not 0."""
  distinct = {id(scores): scores for scores in (*several, *others)}
  for identity, scores in distinct.items():
    counts = [sum(id(each) == identity for each in side) / len(side) for side in (several, others)]
    if counts[0] != counts[1]:
      yield scores, counts[0] - counts[1]
