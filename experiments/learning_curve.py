"""Learning curves: the error of models of labels by the number of training examples, on the same draws.

  python -m experiments.learning_curve --data=FILE.npz --workdir=runs/spam [--models=naive_bayes,logistic_regression]
      [--features=presence] [--sizes=20,50,100,200,500,1000,2000] [--folds=10] [--draws=1] [--deduplicate]

The file is an npz with arrays `x` and `label`, or lines of a label, a tab and a text. Examples are put into folds,
equal ones into the same; --deduplicate keeps only the first of equal ones. Each fold is tested on by models of examples
drawn from the other folds: so many of each size, `draws` times, and all of them. Models are those that are solved.

Features are made of the training part alone: `presence` (which are above 0; of texts, its 1,000 most frequent words),
`standardized`, or `logarithms` (log(0.1 + x), standardized).

Prints the mean error at each size with its 95 % interval over folds and draws, and where the first two curves cross.
Writes `learning_curve_<features>.json` and `.png` into the workdir.
"""

from collections.abc import Sequence

import jax
import numpy as np
from absl import flags

from experiments import cli
from gdm import checks
from gdm.errors import ConfigError
from gdm.evaluation.intervals import plus_minus
from gdm.evaluation.learning_curve import crossing, draw_training, grouped_folds, mean_error
from gdm.model import HasLabelProbs, HasSolve
from gdm.runs.labelled import FEATURES, Labelled, Prepared, deduplicated, read_labelled
from gdm.runs.registry import build_model
from gdm.runs.workdir import write_json
from gdm.visualization.learning import save_learning_curves

_DATA = flags.DEFINE_string("data", None, "An npz with x and label, or lines of label, tab, text.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the results.")
_MODELS = flags.DEFINE_list("models", ["naive_bayes", "logistic_regression"], "Names of models that are solved.")
_FEATURES = flags.DEFINE_string("features", "presence", "presence, standardized or logarithms.")
_SIZES = flags.DEFINE_list("sizes", ["20", "50", "100", "200", "500", "1000", "2000"], "Numbers of training examples.")
_FOLDS = flags.DEFINE_integer("folds", 10, "Folds.")
_DRAWS = flags.DEFINE_integer("draws", 1, "Training sets of each size for each fold.")
_DEDUPLICATE = flags.DEFINE_bool("deduplicate", False, "Whether only the first of equal examples is kept.")
_SEED = flags.DEFINE_integer("seed", 0, "Of folds and draws.")


def main() -> None:
  checks.one_of("--features", _FEATURES.value, FEATURES)
  checks.at_least("--draws", _DRAWS.value, 1)
  sizes = sizes_of(_SIZES.value)
  data, workdir = read_labelled(cli.require_path("data")), cli.require_path("workdir")
  if _DEDUPLICATE.value:
    data = deduplicated(data)
  folds = grouped_folds(data.x, _FOLDS.value, _SEED.value)
  smallest = int(min(np.sum(folds != fold) for fold in range(_FOLDS.value)))
  for size in (size for size in sizes if size > smallest):
    raise ConfigError(f"--sizes has {size}, but the other folds of one hold {smallest} examples.")
  print(f"{len(data.y):,} examples, {len(np.unique(data.x.reshape(len(data.x), -1), axis=0)):,} distinct, in "
        f"{_FOLDS.value} folds; features: {_FEATURES.value}")
  errors = {name: np.zeros((len(sizes) + 1, _FOLDS.value * _DRAWS.value)) for name in _MODELS.value}
  for row, size in enumerate((*sizes, 0)):
    for fold in range(_FOLDS.value):
      for draw in range(_DRAWS.value):
        prepared, y, truth = part_of(data, folds, fold, size, draw)
        for name in _MODELS.value:
          errors[name][row, fold * _DRAWS.value + draw] = error_of(name, prepared, y, truth)
    shown = ", ".join(f"{name} {plus_minus(100 * found.value, [100 * end for end in found.ci95], 2)}"
                      for name, found in ((name, mean_error(errors[name][row])) for name in _MODELS.value))
    print(f"{size or 'all'}: errors in per cent: {shown}")
  ends = (*sizes, int(np.mean([np.sum(folds != fold) for fold in range(_FOLDS.value)])))
  found = crossing(ends, *(errors[name] for name in _MODELS.value[:2])) if len(_MODELS.value) > 1 else None
  if len(_MODELS.value) > 1:
    first, second = _MODELS.value[:2]
    print(f"{first} and {second} do not cross." if found is None else
          f"{first} is better up to {found.below} examples, {second} from {found.above} on"
          f"{'' if found.is_sure else '; not on both sides beyond the intervals'}.")
  points = {name: [mean_error(row) for row in rows] for name, rows in errors.items()}
  workdir.mkdir(parents=True, exist_ok=True)
  place = workdir / f"learning_curve_{_FEATURES.value}.json"
  write_json(place, {
      "data": str(_DATA.value), "num_examples": len(data.y), "deduplicated": _DEDUPLICATE.value, "folds": _FOLDS.value,
      "draws": _DRAWS.value, "seed": _SEED.value, "features": _FEATURES.value, "sizes": list(ends),
      "errors": {name: [point._asdict() for point in each] for name, each in points.items()},
      "crossing": found and found._asdict()})
  save_learning_curves(place.with_suffix(".png"), ends,
                       {name: [(point.value, point.ci95.low, point.ci95.high) for point in each]
                        for name, each in points.items()},
                       title=f"{cli.require_path('data').stem} · {_FEATURES.value}")


def part_of(data: Labelled, folds: np.ndarray, fold: int, size: int, draw: int
            ) -> tuple[Prepared, np.ndarray, np.ndarray]:
  """Return features of a training part of a size, all of the other folds for 0, and of the fold; labels of both."""
  rest, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
  if size:
    rng = np.random.default_rng([_SEED.value, fold, size, draw])
    rest = rest[draw_training(data.y[rest], size, rng)]
  return FEATURES[_FEATURES.value](data, rest, test), data.y[rest], data.y[test]


def error_of(name: str, prepared: Prepared, y: np.ndarray, truth: np.ndarray) -> float:
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


def sizes_of(texts: Sequence[str]) -> list[int]:
  """Return rising sizes. Raise ConfigError for other texts."""
  if not texts or not all(text.isdecimal() for text in texts) or sorted(set(map(int, texts))) != list(map(int, texts)):
    raise ConfigError(f"--sizes is {','.join(texts)!r}; it must be rising numbers of examples, separated by commas.")
  return list(map(int, texts))


if __name__ == "__main__":
  cli.run(main)
