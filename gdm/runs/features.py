"""Features that samples and data are compared on: pixels, a trained run of ours, or a function by name."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Num

from gdm.batches import filled, padded_size
from gdm.data.dataset import Dataset
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, NotFiniteError, SpecError
from gdm.evaluation.kernel_distance import Scale
from gdm.model import HasClasses, HasFeatures, HasLatent
from gdm.runs.load import open_run
from gdm.runs.registry import load_object
from gdm.runs.sound import as_heard, can_hear
from gdm.runs.trained import TrainedRun

PIXELS = "pixels"


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
  """A map from examples to points, and what it is called in reports.

  Attributes:
    name: pixels, the folder of a run, or the name of a function.
    of_batch: examples [batch, *event] to features [batch, dims].
    batch_size: examples that are given to it at a time; 0 for all at once.
    about: plain facts for a report: of a run its model, its step and the fingerprint of its training split.
  """

  name: str
  of_batch: Callable[[np.ndarray], np.ndarray]
  batch_size: int = 0
  about: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __call__(self, x: Num[np.ndarray, "num *event"]) -> Float[np.ndarray, "num dims"]:
    """Return features in float64.

    Raises:
      DataError: they are not numbers [num, dims].
      NotFiniteError: features of an example, which is named, are NaN or infinite.
    """
    size = self.batch_size or max(len(x), 1)
    parts = []
    for start in range(0, len(x), size):
      part = x[start:start + size]
      found = np.asarray(self.of_batch(part))
      if found.ndim != 2 or len(found) != len(part) or not found.shape[1] or found.dtype.kind not in "fiub":
        raise DataError(f"{self.name} made an array of {found.dtype} of shape {found.shape} from {len(part)} examples; "
                        f"features must be real numbers of shape ({len(part)}, dims).")
      parts.append(found.astype(np.float64))
    points = np.concatenate(parts)
    if not (finite := np.isfinite(points).all(axis=1)).all():
      raise NotFiniteError(f"{self.name}: the features of example {int(np.argmin(finite))} hold NaN or infinity; no "
                           "distance can be taken of them.")
    return points

  def of_split(self, dataset: Dataset, split: str, size: int = 4096) -> Iterator[Float[np.ndarray, "_ dims"]]:
    """Yield features of all examples of a split in order, a few thousand at a time."""
    rows = dataset.split(split)
    for start in range(0, rows.num_examples, size):
      yield self(rows.rows(np.arange(start, min(start + size, rows.num_examples)))["x"])


def pixel_features(spec: DataSpec, train: Num[np.ndarray, "num *event"]) -> Features:
  """Return the data's own values: levels in [0, 1], or real numbers standardized by those of the training split."""
  return Features(PIXELS, Scale.of(spec, train))


def find_features(name: str, run: TrainedRun, train: Num[np.ndarray, "num *event"]) -> Features:
  """Return the features that --features names.

  Args:
    name: "pixels" or "", the folder of a run, or `<module>:<function>`, of examples [n, *event] to numbers [n, dims].
    run: the run whose samples are looked at.
    train: examples of its training split.

  Raises:
    ConfigError: no such function, or a run whose model has neither features nor latents.
    SpecError: a run of another event or other levels.
    WorkdirError, CheckpointError: the folder holds no run.
  """
  if name in ("", PIXELS):
    return pixel_features(run.spec, train)
  module, colon, function = name.partition(":")
  if not colon or Path(name).is_dir():
    return run_features(name, run)
  try:
    found: Any = load_object(module, function)
  except (ImportError, AttributeError, ValueError) as error:
    raise ConfigError(f"--features is {name!r}, which cannot be loaded: {error}; it must be pixels, the folder of a "
                      "trained run, or '<module>:<function>'.") from error
  if not callable(found):
    raise ConfigError(f"--features is {name!r}, which is {type(found).__name__} and no function.")
  return Features(name, lambda x: np.asarray(found(x)), run.config.evaluation.batch_size)


def run_features(folder: str, run: TrainedRun) -> Features:
  """Return features by the model of the run in `folder`: its features, else its latents. Errors as `find_features`."""
  require_folder("--features", folder, "pixels, the folder of a trained run, or '<module>:<function>'")
  other = open_run(folder)
  is_heard = can_hear(other.data, run.data)
  if not is_heard:
    require_same_event("--features", folder, other, run)
  model = other.model
  key = jax.random.key(0)
  if isinstance(model, HasFeatures):
    what, call = "features", lambda x: model.features(other.params, other.carry, {"x": x})
  elif isinstance(model, HasLatent) and not (isinstance(model, HasClasses) and model.class_conditional):
    what, call = "latents", lambda x: model.encode(other.params, other.carry, {"x": x}, key)
  else:
    raise ConfigError(f"--features is {folder!r}, whose model {other.config.model.name} has neither features nor "
                      "latents of examples without labels; name a run of a classifier, an autoencoder or a VAE, say.")
  compiled = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf.reshape(len(leaf), -1), call(x)))
  size = other.config.evaluation.batch_size

  def of_batch(x: np.ndarray) -> np.ndarray:
    shown = as_heard(other.data, run.data, x) if is_heard else x
    found = compiled(filled(served(shown, other), padded_size(len(x), size)))
    return np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(found)], axis=1)[:len(x)]

  return Features(folder, of_batch, size, {"what": what, **about_run(other)})


def require_folder(flag: str, folder: str, right: str) -> None:
  """Raise ConfigError, with what would be right, where a flag names no folder."""
  if not Path(folder).exists():
    raise ConfigError(f"{flag} is {folder!r}, and there is no such folder or file; it must be {right}.")


def require_same_event(flag: str, folder: str, other: TrainedRun, run: TrainedRun) -> None:
  """Raise SpecError unless the run that a flag names is of data of the same event and levels."""
  theirs, ours = ((each.spec.event, each.spec.levels) for each in (other, run))
  if theirs != ours:
    raise SpecError(f"{flag} is {folder!r}, of another event: {other.data.name} has events {theirs[0]} of "
                    f"{_levels(theirs[1])}, but {run.data.name} has {ours[0]} of {_levels(ours[1])}; name a run of "
                    "data of the same kind.")


def about_run(run: TrainedRun) -> dict[str, Any]:
  """Return a run's facts for a report."""
  return {"model": run.config.model.name, "dataset": run.data.name, "step": run.step,
          "train_fingerprint": run.data.identity["train"]}


def served(x: np.ndarray, run: TrainedRun) -> np.ndarray:
  """Return samples in the type in which the run's data are served."""
  dtype = run.data.shapes(1)["x"].dtype
  return x if x.dtype.kind == "f" and dtype.kind != "f" else x.astype(dtype)


def _levels(levels: int | None) -> str:
  return "real numbers" if levels is None else f"{levels} levels"
