"""Learning curves of models of labels, measured on the folds of a file: as lines, in a file and as a picture."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from gdm.errors import ConfigError
from gdm.evaluation.intervals import plus_minus
from gdm.evaluation.learning_curve import Crossing, crossing, draw_training, grouped_folds, mean_error
from gdm.model import HasLabelProbs, HasSolve
from gdm.precision import at_highest_precision
from gdm.runs.registry import build_model
from gdm.runs.workdir import write_json
from gdm.studies.labelled import FEATURES, PreparedParts, deduplicated, read_labelled
from gdm.visualization.learning import save_learning_curves


@at_highest_precision
def learn(path: Path, folder: Path, models: Sequence[str], sizes: Sequence[int], *, name: str = "",
          features: str = "presence", num_folds: int = 10, num_draws: int = 1, is_deduplicated: bool = False,
          seed: int = 0) -> Iterator[str]:
  """Measure learning curves; yield a line for each size, and about where the first two cross.

  Writes `learning_curve_<features>.json` and `.png` into the folder at the end.

  Args:
    path: file of labelled examples, see `gdm.studies.labelled.read_labelled`.
    folder: for the results; made if absent.
    models: names of models that are solved.
    sizes: rising numbers of training examples.
    name: of the file in the results; "" for its path.
    features: a name in `gdm.studies.labelled.FEATURES`.
    num_folds: folds, each of which is tested on.
    num_draws: training sets of each size for each fold.
    is_deduplicated: whether only the first of equal examples is kept.
    seed: of folds and draws.

  Raises:
    ConfigError: a size that the folds do not hold, or a model that is not solved, or tells no labels.
    DataError: the file holds no labelled examples, or ones from which the features cannot be made.
  """
  data = read_labelled(path)
  if is_deduplicated:
    data = deduplicated(data)
  folds = grouped_folds(data.x, num_folds, seed)
  smallest = int(min(np.sum(folds != fold) for fold in range(num_folds)))
  for size in (size for size in sizes if size > smallest):
    raise ConfigError(f"--sizes has {size}, but the other folds of one hold {smallest} examples.")

  def part(fold: int, size: int, draw: int) -> tuple[PreparedParts, np.ndarray, np.ndarray]:
    """Return features of a training part of a size, all of the other folds for 0, and of the fold; labels of both."""
    rest, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    if size:
      rng = np.random.default_rng([seed, fold, size, draw])
      rest = rest[draw_training(data.y[rest], size, rng)]
    return FEATURES[features](data, rest, test), data.y[rest], data.y[test]

  yield (f"{len(data.y):,} examples, {len(np.unique(data.x.reshape(len(data.x), -1), axis=0)):,} distinct, in "
         f"{num_folds} folds; features: {features}")
  errors = {model: np.zeros((len(sizes) + 1, num_folds * num_draws)) for model in models}
  for row, size in enumerate((*sizes, 0)):
    for fold in range(num_folds):
      for draw in range(num_draws):
        prepared, y, truth = part(fold, size, draw)
        for model in models:
          errors[model][row, fold * num_draws + draw] = error_of(model, prepared, y, truth)
    shown = ", ".join(f"{model} {plus_minus(100 * found.value, [100 * end for end in found.ci95], 2)}"
                      for model, found in ((model, mean_error(each[row])) for model, each in errors.items()))
    yield f"{size or 'all'}: errors in per cent: {shown}"
  ends, found = (*sizes, int(np.mean([np.sum(folds != fold) for fold in range(num_folds)]))), None
  if len(models) > 1:
    found = _last_crossing(ends, errors, models[:2])
    yield (f"{models[0]} and {models[1]} do not cross." if found is None else
           f"{found.models[0]} is better up to {found.place.below} examples, {found.models[1]} from "
           f"{found.place.above} on{'' if found.place.is_sure else '; not on both sides beyond the intervals'}.")
  points = {model: [mean_error(row) for row in rows] for model, rows in errors.items()}
  folder.mkdir(parents=True, exist_ok=True)
  place = folder / f"learning_curve_{features}.json"
  write_json(place, {
      "data": name or str(path), "num_examples": len(data.y), "deduplicated": is_deduplicated, "folds": num_folds,
      "draws": num_draws, "seed": seed, "features": features, "sizes": list(ends),
      "errors": {model: [point._asdict() for point in each] for model, each in points.items()},
      "crossing": found and {**found.place._asdict(), "models": list(found.models)}})
  save_learning_curves(place.with_suffix(".png"), ends,
                       {model: [(point.value, point.ci95.low, point.ci95.high) for point in each]
                        for model, each in points.items()},
                       title=f"{path.stem} · {features}")


class _Crossed(NamedTuple):
  """The last crossing of two curves, and the models that are better before it and after it."""

  place: Crossing
  models: tuple[str, str]


def _last_crossing(sizes: Sequence[int], errors: Mapping[str, np.ndarray], models: Sequence[str]) -> _Crossed | None:
  """Return the last crossing of two models' curves, whichever of them is the better one first; None for none."""
  first, second = models
  found = [_Crossed(place, names) for names in ((first, second), (second, first))
           if (place := crossing(sizes, errors[names[0]], errors[names[1]])) is not None]
  return max(found, key=lambda each: each.place.below, default=None)


def error_of(name: str, prepared: PreparedParts, y: np.ndarray, truth: np.ndarray) -> float:
  """Return the share of the test part that a model of the training part labels wrongly.

  Raise ConfigError for a model that is not solved, or tells no labels.
  """
  model = build_model({"name": name}, prepared.spec)
  if not isinstance(model, HasSolve) or not isinstance(model, HasLabelProbs):
    raise ConfigError(f"--models has {name!r}, which is not a model of labels that is solved; choose naive_bayes or "
                      "logistic_regression.")
  params, carry = model.solve(jax.random.key(0), [{"x": prepared.train, "y": y}])
  log_probs = np.asarray(model.log_label_probs(params, carry, {"x": prepared.test}))
  return float(np.mean(log_probs.argmax(axis=1) != truth))


def parse_sizes(texts: Sequence[str]) -> list[int]:
  """Return rising sizes. Raise ConfigError, naming --sizes, for other texts."""
  if not texts or not all(text.isdecimal() and int(text) for text in texts) or sorted(
      set(map(int, texts))) != list(map(int, texts)):
    raise ConfigError(f"--sizes is {','.join(texts)!r}; it must be rising numbers of examples, separated by commas.")
  return list(map(int, texts))
