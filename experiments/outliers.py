"""Anomaly detection: how well a run's scores tell its own test data from other data, as the area under the ROC curve.

  python -m experiments.outliers --workdir=runs/ebm [--against=rotated,shuffled,patches] [--pictures=cifar10_small.npz]

The score is the log-density, up to a constant where a model knows no more. `rotated` are the test pictures turned by a
quarter, `shuffled` each with its pixels in an order of its own, `patches` cut out of the pictures of an npz (with an
array `test` of bytes), grey where the data is. Prints a line for each, with a 95 % interval that takes both sets for
independent (it is rather too wide where one is made of the other), and writes `outliers.json` and `outliers.png` into
the workdir.
"""

from collections.abc import Sequence

import jax
import numpy as np
from absl import flags

from experiments import cli
from gdm.data.load import load_dataset
from gdm.errors import ConfigError, nearest
from gdm.evaluation.intervals import brackets
from gdm.evaluation.outliers import MADE_OF_DATA, patches, separation
from gdm.evaluation.ranking import scores
from gdm.runs.load import TrainedRun, load_run
from gdm.runs.plotting import save_panels
from gdm.runs.workdir import Workdir, write_json

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by validation), last, or a step.")
_AGAINST = flags.DEFINE_list("against", list(MADE_OF_DATA), "The other data: rotated, shuffled, patches.")
_PICTURES = flags.DEFINE_string("pictures", "", "An npz of pictures, to cut patches out of.")
_SEED = flags.DEFINE_integer("seed", 0, "Of orders, places and the model's noise.")
cli.define_overrides("data", "evaluation")
SHOWN = 64


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  workdir, known = Workdir(cli.require_flag("workdir")), (*MADE_OF_DATA, "patches")
  for name in _AGAINST.value:
    if name not in known:
      raise ConfigError(f"--against has {name!r}; {nearest(name, known)}")
  if "patches" in _AGAINST.value and not _PICTURES.value:
    raise ConfigError("--against has 'patches', but --pictures is empty; it must name an npz of pictures.")
  run = load_run(workdir, cli.overrides(), _CHECKPOINT.value)
  if not run.dataset.spec.is_image:
    raise ConfigError(f"{run.dataset.name} is {run.dataset.spec.event}; other data is made for images only.")
  inside = run.dataset.split("test").rows(slice(None))["x"]
  others = {name: _other(run, name, inside) for name in _AGAINST.value}
  own, found = _scores(run, inside), {}
  for name, x in others.items():
    found[name] = separation(own, _scores(run, x))
    print(f"AUROC against {name}: {brackets(*found[name])} (95 % interval, {len(own)} test examples, {len(x)} others)")
  write_json(workdir.path / "outliers.json", {
      "model": run.config.model.name, "dataset": run.dataset.name, "step": run.step, "parameters": run.parameters,
      "seed": _SEED.value, "num_examples": len(own), "against": {name: each._asdict() for name, each in found.items()}})
  shown = np.linspace(0, len(inside) - 1, SHOWN).astype(int)
  save_panels(run, "outliers", {name: x[shown] for name, x in others.items()})


def _other(run: TrainedRun, name: str, inside: np.ndarray) -> np.ndarray:
  if name in MADE_OF_DATA:
    return MADE_OF_DATA[name](inside, _SEED.value)
  pictures = load_dataset("npz", path=_PICTURES.value).split("test").rows(slice(None))["x"]
  return patches(pictures, run.dataset.spec, len(inside), _SEED.value)


def _scores(run: TrainedRun, x: np.ndarray) -> np.ndarray:
  return scores(run.model, run.params, run.carry, x, jax.random.key(_SEED.value), run.config.evaluation.batch_size)


if __name__ == "__main__":
  cli.run(main)
