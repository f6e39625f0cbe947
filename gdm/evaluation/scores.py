"""The log-likelihood of every example beside a report, and what two models differ by on the same examples.

Models agree on which examples are hard, so a difference paired by example is far surer than its two terms.
"""

import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gdm.errors import DataError, WorkdirError
from gdm.evaluation.likelihood import SplitLikelihood
from gdm.evaluation.report import Report

# The mean of the examples and the mean in the report are the same sum, but for its rounding.
_TOLERANCE = 1e-9


class Scores(NamedTuple):
  """Scores of a split in its order.

  Attributes:
    nats: log-likelihood of each example.
    num_dims: dimensions of each.
    normalizer_stderr: standard error, in nats, of what all examples share; 0 where nothing is estimated.
  """

  nats: Float[np.ndarray, " examples"]
  num_dims: Int[np.ndarray, " examples"]
  normalizer_stderr: float = 0.0


class Difference(NamedTuple):
  """A model's score minus another's: bits/dim of a probability mass (negative is better), else nats; its error."""

  mean: float
  stderr: float


def scores_path(report: str | os.PathLike) -> Path:
  """Where the scores of `likelihood_<split>.json` are: `scores_<split>.npz`."""
  path = Path(report)
  return path.with_name(path.name.replace("likelihood_", "scores_")).with_suffix(".npz")


def write_scores(path: str | os.PathLike, likelihood: SplitLikelihood) -> None:
  """Writes the scores whole or not at all; raises WorkdirError where they cannot be written."""
  path = Path(path)
  partial = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with open(partial, "wb") as file:
      np.savez(file, nats=likelihood.nats, num_dims=likelihood.num_dims,
               normalizer_stderr=np.float64(likelihood.normalizer_stderr))
    os.replace(partial, path)
  except OSError as error:
    partial.unlink(missing_ok=True)
    raise WorkdirError(f"cannot write {path}: {error.strerror}.") from error


def read_scores(path: str | os.PathLike, report: Report) -> Scores | None:
  """The scores that a report is the mean of; None where there are none, or those of another evaluation.

  Raises DataError where the file is damaged.
  """
  try:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
      scores = Scores(arrays["nats"], arrays["num_dims"], float(arrays["normalizer_stderr"]))
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise DataError(f"{path} holds no scores ({error}); evaluate again to replace it.") from error
  if scores.nats.shape != (report["num_examples"],) or scores.num_dims.shape != scores.nats.shape:
    return None
  same = math.isclose(float(np.mean(scores.nats)), report["nats_mean"], rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
  return scores if same else None


def mean_scores(several: Sequence[Scores]) -> Scores:
  """The mean of several models' scores of each example."""
  return Scores(np.mean([scores.nats for scores in several], axis=0), several[0].num_dims,
                math.hypot(*(scores.normalizer_stderr for scores in several)) / len(several))


def paired_difference(scores: Scores, other: Scores, is_discrete: bool) -> Difference:
  """What `scores` differ from `other` by on the same examples, with the standard error over examples.

  Bits/dim is a ratio of sums, whose error is that of its linearization; raises DataError for a single example.
  """
  num = len(scores.nats)
  if num < 2:
    raise DataError("one example shows no spread; a paired difference needs at least two.")
  nats = scores.nats - other.nats
  dims = scores.num_dims if is_discrete else np.ones(num)
  ratio = float(nats.sum() / dims.sum())
  spread = math.sqrt(float(np.sum((nats - ratio * dims) ** 2)) / (num * (num - 1)))
  spread = math.hypot(spread, scores.normalizer_stderr, other.normalizer_stderr) / float(dims.mean())
  return Difference(-ratio / math.log(2.0), spread / math.log(2.0)) if is_discrete else Difference(ratio, spread)
