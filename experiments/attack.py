"""Attacks on a trained classifier, alone and behind a purifier, and whether a density notices them.

  python -m experiments.attack --workdir=runs/cnn [--purifier=runs/pixelcnn] [--norm=linf] [--epsilon=8]
      [--num_steps=40] [--num_restarts=1] [--num=1000] [--split=test] [--aware]
      [--purifier_epsilon=32] [--keep=0] [--deviation=30] [--num_draws=1]

Attacks are the fast gradient sign method, its iteration and projected gradient from random starts, in a ball of radius
epsilon in the data's units: of 256 levels, 8 is the literature's 8/255. Inputs stay integers within their levels.

The purifier is a run whose model has conditionals in raster order (PixelDefend: values move by --purifier_epsilon at
most; with --keep=0.95, only inputs less likely than that share of validation data are purified) or denoises
(--deviation, in the data's units). Its log-likelihood, where it has one, is what detection goes by: as an area under
the ROC curve of attacked against clean, and by p-values among training examples.

Prints accuracy for each attack: of the classifier alone, behind the purifier on the same inputs, and with --aware
behind the purifier on inputs that were made against it (the gradient taken as if purification were the identity, and
averaged over --num_draws draws). Only the last number says what the purifier is worth. Writes `attack_<norm>.json` and
`attack_<norm>.png` into the workdir.
"""

import dataclasses
from typing import Any

import numpy as np
from absl import flags

from experiments import cli
from gdm.evaluation.intervals import Measured, brackets
from gdm.model import HasLogLikelihood
from gdm.robustness.attack import Attack, fgsm, iterated, projected_gradient
from gdm.runs.defence import Row, Scene, examples_of, purifier_of, rows_of, target_of
from gdm.runs.outlier_scores import named_run
from gdm.runs.plotting import save_panels
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import write_json

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_NUM = flags.DEFINE_integer("num", 1000, "Examples, spread over the split; 0 for all.")
_NORM = flags.DEFINE_string("norm", "linf", "linf or l2.")
_EPSILON = flags.DEFINE_float("epsilon", 8.0, "Radius of the ball, in the data's units.")
_STEPS = flags.DEFINE_integer("num_steps", 40, "Steps of the attacks of several steps.")
_RESTARTS = flags.DEFINE_integer("num_restarts", 1, "Starts of projected gradient.")
_PURIFIER = flags.DEFINE_string("purifier", "", "Folder of the run that purifies.")
_AWARE = flags.DEFINE_bool("aware", False, "Whether to attack through the purifier too.")
_REACH = flags.DEFINE_float("purifier_epsilon", 32.0, "How far PixelDefend moves a value, in levels.")
_KEEP = flags.DEFINE_float("keep", 0.0, "Share of validation data that PixelDefend leaves alone.")
_DEVIATION = flags.DEFINE_float("deviation", 30.0, "Deviation of a denoiser's noise, in the data's units.")
_DRAWS = flags.DEFINE_integer("num_draws", 1, "Draws of the purifier for each gradient.")
_SEED = flags.DEFINE_integer("seed", 0, "Of starts and draws.")
cli.define_run("data", "evaluation")
SHOWN = 36


def main() -> None:
  attacks = attacks_of(_NORM.value, _EPSILON.value, _STEPS.value, _RESTARTS.value)
  run = cli.open_run()
  bare = target_of(run)
  by = named_run("--purifier", _PURIFIER.value, run, "a run of an autoregressive model or a denoiser"
                 ) if _PURIFIER.value else None
  purifier = None if by is None else purifier_of(by, _REACH.value, _DEVIATION.value, _KEEP.value)
  behind = None if by is None else target_of(run, purifier, by, _DRAWS.value)
  x, y = examples_of(run, _SPLIT.value, _NUM.value)
  scene = Scene(bare, behind, x, y, run.config.evaluation.batch_size, _SEED.value)
  noticed_by = by if by is not None and isinstance(by.model, HasLogLikelihood) else None
  print(f"{run.config.model.name} on {run.dataset.name} · {_SPLIT.value} · {len(y)} examples · {_NORM.value} "
        f"{_EPSILON.value:g}" + ("" if by is None else f" · purified by {by.config.model.name} on {by.dataset.name}"))
  rows, panels = {}, {}
  for name, row, inputs in rows_of(scene, attacks, _AWARE.value, noticed_by):
    rows[name] = row
    panels |= {title: images[np.linspace(0, len(y) - 1, min(SHOWN, len(y))).astype(int)]
               for title, images in inputs.items()}
    print(line(name, row))
  write_json(run.folder / f"attack_{_NORM.value}.json", report(run, by, attacks, rows))
  save_panels(run, f"attack_{_NORM.value}", panels)


def attacks_of(norm: str, epsilon: float, num_steps: int, num_restarts: int) -> dict[str, Attack]:
  """Return the attacks by name. Raise ConfigError for settings out of range."""
  return {"fgsm": fgsm(epsilon, norm), "iterated": iterated(epsilon, norm, num_steps),
          "projected gradient": projected_gradient(epsilon, norm, num_steps, num_restarts=num_restarts)}


def line(name: str, row: Row) -> str:
  """Return a line for an attack: accuracies, the area under the ROC curve of detection, alarms."""
  shown = [f"{name}: right {brackets(*row.accuracy)}"]
  for words, measured in (("purified", row.purified), ("attacked through the purifier", row.aware),
                          ("AUROC of detection", row.noticed and row.noticed.auroc)):
    if measured is not None:
      shown.append(f"{words} {brackets(*measured)}")
  if row.alarms is not None:
    shown.append(f"p-value at most 0.05 in {row.alarms:.3f}")
  return ", ".join(shown)


def report(run: TrainedRun, by: TrainedRun | None, attacks: dict[str, Attack], rows: dict[str, Row]) -> dict[str, Any]:
  """Return all numbers and the settings they are of."""
  def plain(row: Row) -> dict[str, Any]:
    fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    fields["noticed"] = row.noticed and {name: each._asdict() for name, each in row.noticed._asdict().items()}
    return {name: value._asdict() if isinstance(value, Measured) else value for name, value in fields.items()}

  settings = {"num": _NUM.value, "split": _SPLIT.value, "seed": _SEED.value, "purifier_epsilon": _REACH.value,
              "keep": _KEEP.value, "deviation": _DEVIATION.value, "num_draws": _DRAWS.value}
  return {"model": run.config.model.name, "dataset": run.dataset.name, "step": run.step, "parameters": run.parameters,
          "purifier": None if by is None else {"folder": _PURIFIER.value, "model": by.config.model.name,
                                               "dataset": by.dataset.name, "step": by.step},
          **settings, "attacks": {name: dataclasses.asdict(attack) for name, attack in attacks.items()},
          "rows": {name: plain(row) for name, row in rows.items()}}


if __name__ == "__main__":
  cli.run(main)
