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

from absl import flags

from experiments import cli
from gdm import checks
from gdm.errors import ConfigError
from gdm.studies.editing import MODES, edit_run, parse_strengths

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
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", lower_bound=0)
cli.define_run("data", "evaluation")


def main() -> None:
  checks.one_of("--mode", _MODE.value, MODES)
  strengths = parse_strengths(_STRENGTH.value)
  cli.at_least(num=1, examples=1, num_steps=1)
  if _MODE.value == "relabel" and _LABEL.value is None:
    raise ConfigError("--mode is relabel; --label must say which label.")
  if _CLASSIFIER.value and (_MODE.value != "sdedit" or _LABEL.value is None):
    raise ConfigError(f"--classifier is {_CLASSIFIER.value!r}; it goes with --mode=sdedit and --label.")
  cli.show(edit_run(cli.open_run(), _MODE.value, strengths, guide=_GUIDE.value, label=_LABEL.value,
                    guidance=_GUIDANCE.value, classifier=_CLASSIFIER.value, num=_NUM.value,
                    num_examples=_EXAMPLES.value, num_steps=_STEPS.value, split=_SPLIT.value, seed=_SEED.value))


if __name__ == "__main__":
  cli.run(main)
