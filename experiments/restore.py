"""Restores test examples from measurements, by a trained model, and scores the draws.

  python -m experiments.restore --workdir=runs/edm --operator=downsample:2 --sampler=pigdm --num=19
  python -m experiments.restore --workdir=runs/edm --operator=mask:box,blur:1,radon:6 --sampler=ddrm,dps,particles
      [--noise=0.5] [--examples=50] [--num_steps=100] [--num_particles=256] [--guidance=1] [--labels] [--timed]
      [--classifier=runs/classifier]

Operators are mask:<share known, or hidden region>, lowest:<rows>, blur:<deviation>, downsample:<factor>, grey,
project:<number>, fourier:<one in so many lines>, radon:<angles> and quantize:<step>; joined by "+" they follow each
other. Samplers of diffusion models are replacement, repaint, projection, ddrm, pigdm, dps, particles and twisted; of
energies, flows and GANs posterior (measurements with noise); of models that complete examples completion (masks without
noise). docs/guides/inverse.md says which is right when. Commas make a table of all pairs.

Prints the PSNR of what a linear operator's pseudo-inverse makes of the measurements, without a model. Then PSNR and
SSIM of the mean of the draws, the share of values inside intervals between draws beside the stated one, the distance
of draws from data, and network evaluations. With --classifier, a run that tells labels, also how often it is right: of
the examples, without a model, and of draws. Writes `restored.json`, and for each pair
`restored_<operator>_<sampler>.png` and `.npz` into the workdir; of spectrograms WAV files, too.
"""

from typing import Any

import numpy as np
from absl import flags

from experiments import cli
from gdm import checks
from gdm.errors import ConfigError, UserError
from gdm.inverse.samplers.named import SAMPLERS, fitting, require_fitting
from gdm.paths import write_whole
from gdm.runs import restoration
from gdm.runs.labels import Labeler
from gdm.runs.workdir import write_json

_OPERATOR = flags.DEFINE_string("operator", "downsample:2", "Operators, separated by commas.")
_SAMPLER = flags.DEFINE_string("sampler", "", "Samplers, separated by commas; the model's own first choice for none.")
_NUM = flags.DEFINE_integer("num", 19, "Draws of each example; 19 are the fewest for intervals of 90 %.")
_EXAMPLES = flags.DEFINE_integer("examples", 50, "Examples, spread over the split.")
_NOISE = flags.DEFINE_float("noise", 0.0, "Deviation of the measurements' noise, in the data's units.")
_STEPS = flags.DEFINE_integer("num_steps", 0, "Steps; 0 is each sampler's own choice.")
_PARTICLES = flags.DEFINE_integer("num_particles", 0, "Particles of each example; 0 is the sampler's own choice.")
_GUIDANCE = flags.DEFINE_float("guidance", 1.0, "With --labels: how much more than given the labels.")
_LABELS = flags.DEFINE_bool("labels", False, "Whether the model is given the examples' labels.")
_CLASSIFIER = flags.DEFINE_string("classifier", "", "Folder of a trained run that tells labels.")
_TIMED = flags.DEFINE_bool("timed", False, "Whether to restore twice, to tell the speed without compiling.")
_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_SEED = flags.DEFINE_integer("seed", 0, "Of operators, noise and draws.")
cli.define_run("data", "evaluation")

_WITH_PARTICLES = tuple(name for name, method in SAMPLERS.items() if method.particles)


def main() -> None:
  samplers, operators = ([part.strip() for part in text.split(",")] for text in (_SAMPLER.value, _OPERATOR.value))
  checks.at_least("--num", _NUM.value, 1)
  checks.at_least("--examples", _EXAMPLES.value, 1)
  checks.at_least("--noise", _NOISE.value, 0.0)
  run, rows, without = cli.open_run(), [], []
  for name in samplers:
    require_fitting(run.model, name)
  samplers = [name or fitting(run.model)[0] for name in samplers]
  labeler = Labeler(_CLASSIFIER.value, run) if _CLASSIFIER.value else None
  only = len(samplers) * len(operators) == 1
  for text in operators:
    found = restoration.measured(run, text, _NOISE.value, _EXAMPLES.value, _SPLIT.value, _SEED.value, _LABELS.value)
    print(f"{text}, noise {_NOISE.value:g}, {len(found.truth)} examples of {run.data.name} {_SPLIT.value}, "
          f"{_NUM.value} draws of each")
    without += _without_model(run, found, text, labeler)
    for sampler in samplers:
      try:
        rows.append(_row(run, found, text, sampler, labeler))
      except UserError as error:
        if only:
          raise
        print(f"{sampler:12} left out: {error}")
        rows.append({"operator": text, "sampler": sampler, "left_out": str(error)})
  write_json(run.folder / "restored.json", {
      "noise": _NOISE.value, "num": _NUM.value, "examples": _EXAMPLES.value, "split": _SPLIT.value,
      "seed": _SEED.value, "step": run.step, "rows": rows, "without_model": without})


def _without_model(run: Any, found: restoration.Measured, text: str, labeler: Labeler | None) -> list[dict[str, Any]]:
  """Print and return what is restored without a model, a row for each way."""
  ways, right = restoration.plain(run, found), {}
  if labeler is not None and found.labels is not None:
    right = {name: restoration.told_right(run, labeler, found.labels, x)
             for name, x in {"truth": found.truth, **ways}.items()}
    print(f"{'truth':12} labels told right {100 * right['truth']:.1f} %")
  rows = []
  for name, value in restoration.plain_scores(run, found, ways).items():
    told = {"told_right": right[name]} if right else {}
    print(f"{name:12} PSNR {value:5.2f} dB" + (f", labels told right {100 * right[name]:.1f} %" if right else ""))
    rows.append({"operator": text, "way": name, "psnr": value, **told})
  return rows


def _row(run: Any, found: restoration.Measured, text: str, sampler: str, labeler: Labeler | None) -> dict[str, Any]:
  """Restore, print, draw and return the scores of one sampler."""
  settings = {name: value for name, value in (("num_steps", _STEPS.value), ("num_particles", _PARTICLES.value))
              if value and (name != "num_particles" or sampler in _WITH_PARTICLES)}
  if _PARTICLES.value and not any(name.strip() in _WITH_PARTICLES for name in _SAMPLER.value.split(",")):
    raise ConfigError(f"--num_particles is {_PARTICLES.value}, but {sampler} has none; choose --sampler=particles.")
  result, seconds = restoration.restored(run, found, sampler, _NUM.value, _GUIDANCE.value, _SEED.value, settings,
                                          _TIMED.value)
  scores = restoration.scores_of(run, found, result, seconds, _SPLIT.value, _TIMED.value)
  told = {} if labeler is None or found.labels is None else {
      "told_right": restoration.told_right(run, labeler, found.labels, np.asarray(result.x[0]))}
  print(restoration.line(sampler, scores)
        + "".join(f", labels told right {100 * share:.1f} % of draws" for share in told.values()))
  name = f"restored_{text.replace(':', '')}_{sampler}"
  arrays = {"x": np.asarray(result.x), "truth": found.truth, "y": np.asarray(found.y), "mean": np.asarray(result.mean),
            "deviation": np.asarray(result.deviation)}
  write_whole(run.folder / f"{name}.npz", lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
  restoration.save_restored(run, found, result, name)
  return {"operator": text, "sampler": sampler, **restoration.as_fields(scores), **told}


if __name__ == "__main__":
  cli.run(main)
