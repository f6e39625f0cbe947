"""Edits test examples, or images of one's own, by a trained diffusion model.

  python -m experiments.edit --workdir=runs/edm --mode=sdedit --strength=0.3,0.5,0.7 [--guide=strokes.npy] [--label=3]
  python -m experiments.edit --workdir=runs/edm --mode=relabel --label=8 --strength=0.6 [--guidance=2]
  python -m experiments.edit --workdir=runs/ddpm --strength=1 --label=3 --classifier=runs/noised [--guidance=2]
  python -m experiments.edit --workdir=runs/edm --mode=vary --strength=0.3
  python -m experiments.edit --workdir=runs/edm --mode=interpolate

sdedit noises a guide up to a strength and denoises it; relabel takes examples to noise under their own labels and back
under another; vary turns their noise toward fresh noise by a share of a right angle, --strength; interpolate goes
between pairs. With --classifier, the run of a classifier that was trained on noise (--config.model.noise=80), sdedit
moves a model without labels to --label, by the classifier's gradient. A guide is an array [number, *event] in the
data's units, as of strokes; test examples without it.

Prints the distance from the guides, and of the draws from data. Writes `edited_<mode>.png` and `.npz`, and where there
are several strengths `edited_<mode>_strengths.png`, into the workdir.
"""

from collections.abc import Callable

import numpy as np
from absl import flags

from experiments import cli
from gdm import checks
from gdm.errors import ConfigError
from gdm.paths import write_whole
from gdm.runs import editing
from gdm.runs.outlier_scores import named_run
from gdm.runs.plotting import save_panels
from gdm.runs.trained import TrainedRun

MODES = ("sdedit", "relabel", "vary", "interpolate")
_MODE = flags.DEFINE_string("mode", "sdedit", "sdedit, relabel, vary or interpolate.")
_STRENGTH = flags.DEFINE_string("strength", "0.5", "0 (the guide) to 1 (forgets it); several are separated by commas.")
_GUIDE = flags.DEFINE_string("guide", "", "A .npy file of guides [number, *event]; test examples without it.")
_LABEL = flags.DEFINE_integer("label", None, "Label of what is wanted; of models that are given labels.")
_GUIDANCE = flags.DEFINE_float("guidance", 1.0, "With --label: how much more than given the label.")
_CLASSIFIER = flags.DEFINE_string("classifier", "", "With --label, of sdedit: run of a classifier of noised examples.")
_NUM = flags.DEFINE_integer("num", 4, "Draws of each guide, of sdedit and vary.")
_EXAMPLES = flags.DEFINE_integer("examples", 16, "Guides.")
_STEPS = flags.DEFINE_integer("num_steps", 50, "Steps.")
_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.")
cli.define_run("data", "evaluation")


def main() -> None:
  checks.one_of("--mode", _MODE.value, MODES)
  strengths = _strengths(_STRENGTH.value)
  for name, flag in (("--num", _NUM), ("--examples", _EXAMPLES), ("--num_steps", _STEPS)):
    checks.at_least(name, flag.value, 1)
  if _MODE.value == "relabel" and _LABEL.value is None:
    raise ConfigError("--mode is relabel; --label must say which label.")
  if _CLASSIFIER.value and (_MODE.value != "sdedit" or _LABEL.value is None):
    raise ConfigError(f"--classifier is {_CLASSIFIER.value!r}; it goes with --mode=sdedit and --label.")
  run = cli.open_run()
  if _LABEL.value is not None and not 0 <= _LABEL.value < (run.spec.num_classes or 0):
    raise ConfigError(f"--label is {_LABEL.value}; it must be one of the {run.spec.num_classes or 0} labels of "
                      f"{run.data.name}, from 0.")
  guides = editing.guides_of(run, _GUIDE.value, _EXAMPLES.value, _SPLIT.value)
  found, arrays, panels = [], {"guide": guides.x}, {"guides": guides.x}
  edits = _edits(run, guides)
  for strength in strengths if _MODE.value != "interpolate" else [1.0]:
    edited = editing.judged(run, guides, edits[_MODE.value](strength), _SPLIT.value)
    words = f"{_MODE.value}, strength {strength:g}: {edited.guide_distance:.4g} from the guides, in the data's units"
    if edited.data_distance is not None:
      words += f", kernel distance from data {1e3 * edited.data_distance:.1f} e-3"
    print(words)
    found.append(edited)
    arrays[f"x_{strength:g}"] = edited.x
    panels |= _panels(edited.x, strength)
  name = f"edited_{_MODE.value}"
  write_whole(run.folder / f"{name}.npz", lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
  save_panels(run, name, panels)
  if len(found) > 1:
    editing.save_strengths(run.folder / f"{name}_strengths.png", strengths, found)


def _edits(run: TrainedRun, guides: editing.Guides) -> dict[str, Callable[[float], np.ndarray]]:
  """Return what makes edited examples [num, batch, *event] at a strength, by mode."""
  num, steps, label, guidance = _NUM.value, _STEPS.value, _LABEL.value, _GUIDANCE.value
  classifier = named_run("--classifier", _CLASSIFIER.value, run, "a run of a classifier") if _CLASSIFIER.value else None
  return {
      "sdedit": lambda strength: editing.by_strength(run, guides, num, strength, steps, label, guidance, _SEED.value,
                                                     classifier),
      "relabel": lambda strength: editing.relabelled(run, guides, label or 0, strength, steps, guidance),
      "vary": lambda strength: editing.varied(run, guides, num, strength, steps, _SEED.value),
      "interpolate": lambda strength: editing.between(run, guides, steps)}


def _panels(x: np.ndarray, strength: float) -> dict[str, np.ndarray]:
  """Return what is shown: the first draw of each guide, or the ways between examples."""
  if _MODE.value == "interpolate":
    return {"between": np.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])}
  return {f"{strength:g}": x[0]}


def _strengths(text: str) -> list[float]:
  try:
    strengths = [float(part) for part in text.split(",")]
  except ValueError:
    strengths = []
  if not strengths or not all(0.0 <= strength <= 1.0 for strength in strengths):
    raise ConfigError(f"--strength is {text!r}; it must be one or several numbers in [0, 1], separated by commas.")
  return strengths


if __name__ == "__main__":
  cli.run(main)
