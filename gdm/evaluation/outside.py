"""Rows of the leaderboard by scorers from outside this package: any program that gives log p(x) of every example."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, WorkdirError
from gdm.evaluation.report import build_report, write_report
from gdm.evaluation.scores import scores_path, write_scores
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.likelihood import Kind, require_finite


@runtime_checkable
class ScoredData(Protocol):
  """What a row must know of its data; a `gdm.data.dataset.Dataset` is that."""

  @property
  def name(self) -> str: ...

  @property
  def spec(self) -> DataSpec: ...

  @property
  def transforms(self) -> tuple[str, ...]: ...

  @property
  def units(self) -> Mapping[str, Mapping[str, int]]: ...

  def split(self, name: str) -> Any: ...

  def fingerprint(self, split: str) -> str: ...


def add_row(folder: str | os.PathLike, nats: Float[np.ndarray, " examples"], dataset: ScoredData,
            split: str = "test", *, kind: str = "exact", model: str = "", num_params: int = 0,
            train_seconds: float = 0.0, num_draws: int = 1, given: Sequence[str] = (),
            evaluation: Mapping[str, Any] | None = None) -> Path:
  """Write the scores of another program as a row of the leaderboard, with its interval and paired differences.

  Args:
    folder: of the row, made if absent; a row that is there already is replaced.
    nats: log p(x) of every example of the split, natural logarithm, in the split's order: of the data as served, so
      the mass of integers or the density of real numbers.
    dataset: the data, as `load_dataset` gives them.
    split: the split that was scored.
    kind: exact, lower_bound, upper_bound or estimate.
    model: its name in the table; by default the folder's.
    num_params: number of its parameters, 0 where it is not known.
    train_seconds: seconds of its training.
    num_draws: repeats that were averaged, of what is random.
    given: names of the batch entries that the scores are conditional on, as ("y",) for log p(x | y).
    evaluation: further settings of the scorer, for the record.

  Returns:
    The report's path.

  Raises:
    ConfigError: an unknown kind.
    DataError: another number of scores than the split has examples.
    NotFiniteError: a score is NaN or infinite; its example is named.
    WorkdirError: the folder is that of a trained run, or cannot be written.

  Example:
    data = load_dataset("npz:wine.npz", transforms=("standardize",))
    nats = scipy.stats.multivariate_normal(mean, cov).logpdf(data.split("test")["x"])
    add_row("runs/gaussian", nats, data, "test")
  """
  folder = Path(folder)
  if kind not in list(Kind):
    raise ConfigError(f"kind is {kind!r}; it must be one of {', '.join(Kind)}.")
  if (folder / "config.json").exists():
    raise WorkdirError(f"{folder} is the workdir of a trained run; name another folder for the row.")
  rows = dataset.split(split)
  nats = np.asarray(nats, np.float64)
  if nats.shape != (rows.num_examples,):
    raise DataError(f"nats has shape {nats.shape}, but split {split!r} of {dataset.name} has {rows.num_examples} "
                    "examples; there must be one score for each.")
  require_finite(nats, 0, "log-likelihood")
  dims = np.asarray(rows["length"][:]) if "length" in rows else np.full(len(nats), dataset.spec.num_dims)
  likelihood = SplitLikelihood(nats, dims.astype(np.int64), Kind(kind), tuple(given), num_draws,
                               dataset.spec.is_discrete, dtype="float64")
  report = build_report(
      likelihood, model=model or folder.name, dataset=dataset.name, split=split, step=0,
      data_fingerprint=dataset.fingerprint(split), parameters="live", num_params=num_params,
      train_seconds=train_seconds, evaluation=dict(evaluation or {}), units=dataset.units.get(split),
      transforms=dataset.transforms)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise WorkdirError(f"{folder} cannot be made: {error.strerror}; name another folder.") from error
  path = folder / f"likelihood_{split}.json"
  write_scores(scores_path(path), likelihood)
  write_report(path, report)
  return path
