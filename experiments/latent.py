"""Looks into a model's latents: what comes back, what lies between examples, sums of them, and directions of labels.

  python -m experiments.latent --workdir=runs/vae [--split=test] [--pairs=8] [--steps=9] [--path=circle|line]
      [--arithmetic=3,17,25 ...] [--attribute=LABEL [--without=LABEL] [--strengths=-1,0,1,2]] [--traverse=N]
      [--checkpoint=best|last|STEP] [--config.data.data_dir=DIR]

Says how many latents are active. Writes into the workdir, of images:
  reconstructions.png
  interpolations.png  a row per pair, from one image to the other, along great circles or straight lines
  arithmetic.png      with --arithmetic=A,B,C (numbers of examples; may be repeated): A, B, C and A - B + C
  attribute.png       with --attribute: images with the mean latent of that label minus that without it added, so many
                      times as --strengths says; means are over training examples
  traversals.png      with --traverse=N: the N latents that vary most, each from -3 to 3 deviations
and of latents in the plane latent_map.png, coloured by label, and manifold.png, images at even quantiles of a normal.

A model without an encoder, a GAN say, gets interpolations.png between latents drawn from the prior. A class-conditional
one also gets labels.png: a row for each latent, a column for each label (at most 20). Flags about examples are refused.

Of a model with discrete codes:

  python -m experiments.latent --workdir=runs/vqvae [--codes=FILE.npz] [--decode=SAMPLES.npz]

writes reconstructions.png; with --codes the codes of all splits, data for any model of integers
(`--config.data.name=npz --config.data.path=FILE.npz`); with --decode what samples of such a model become, decoded.npz
and decoded.png.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from gdm.errors import ConfigError
from gdm.model import HasCodes
from gdm.runs.latents import PATHS, Latents
from gdm.studies.latent_pictures import Wanted, look, look_at_codes, look_from_prior

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_PAIRS = flags.DEFINE_integer("pairs", 8, "How many pairs of images to go between.")
_STEPS = flags.DEFINE_integer("steps", 9, "Images from one end to the other, both included.")
_PATH = flags.DEFINE_string("path", "circle", "circle or line: the way between two latents.")
_ARITHMETIC = flags.DEFINE_multi_string("arithmetic", [], "Numbers of three examples A,B,C: shows A - B + C.")
_ATTRIBUTE = flags.DEFINE_integer("attribute", None, "A label, whose direction is added to images without it.")
_WITHOUT = flags.DEFINE_integer("without", None, "The label of those images; any other by default.")
_STRENGTHS = flags.DEFINE_string("strengths", "-1,0,1,2", "How many times the direction is added.")
_CODES = flags.DEFINE_string("codes", None, "Of a model with codes: the .npz file to write those of all splits to.")
_DECODE = flags.DEFINE_string("decode", None, "Of a model with codes: an .npz file whose array x holds codes.")
_TRAVERSE = flags.DEFINE_integer("traverse", 0, "How many latents to traverse, those that vary most first.")
cli.define_run("data", "evaluation", with_data=True)


def main() -> None:
  wanted = _wanted()
  run = cli.open_run()
  if isinstance(run.model, HasCodes):
    codes, decode = (None if flag.value is None else Path(flag.value) for flag in (_CODES, _DECODE))
    if written := look_at_codes(run, wanted, codes, decode):
      print(f"{', '.join(written)} in {run.folder}")
    return
  for name, value in (("codes", _CODES.value), ("decode", _DECODE.value)):
    if value is not None:
      raise ConfigError(f"--{name} is {value}, but {run.config.model.name} has no discrete codes; name a run of vqvae.")
  latents = Latents(run)
  if latents.has_encoder:
    written, active, total = look(run, latents, wanted)
    print(f"{active} of {total} latents vary over the {wanted.split} split.")
  else:
    written = look_from_prior(run, latents, wanted)
  print(f"{', '.join(written)} in {run.folder}")


def _wanted() -> Wanted:
  """Return what the flags ask for. Raise ConfigError, naming the flag, for what cannot be."""
  cli.at_least(pairs=1, steps=2, traverse=0)
  if _PATH.value not in PATHS:
    raise ConfigError(f"--path is {_PATH.value!r}; it must be circle or line.")
  try:
    strengths = tuple(float(part) for part in _STRENGTHS.value.split(","))
  except ValueError:
    raise ConfigError(f"--strengths is {_STRENGTHS.value!r}; it must be numbers, as -1,0,1,2.") from None
  triples = tuple(map(_triple, _ARITHMETIC.value))
  return Wanted(_SPLIT.value, _PAIRS.value, _STEPS.value, _PATH.value, triples, _ATTRIBUTE.value, _WITHOUT.value,
                strengths, _TRAVERSE.value)


def _triple(text: str) -> tuple[int, int, int]:
  parts = text.split(",")
  if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
    raise ConfigError(f"--arithmetic is {text!r}; it must be the numbers of three examples, as 3,17,25.")
  a, b, c = map(int, parts)
  return a, b, c


if __name__ == "__main__":
  cli.run(main)
