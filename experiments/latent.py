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

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments import cli
from gdm.data.initial import sample_examples
from gdm.errors import ConfigError
from gdm.model import HasCodes
from gdm.paths import write_whole
from gdm.runs.codes import decode_codes, write_codes
from gdm.runs.latents import PATHS, Encoded, Latents, direction, num_active, plane_grid
from gdm.runs.trained import TrainedRun
from gdm.visualization.images import save_grid, save_side_by_side
from gdm.visualization.latents import save_map

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

MOST = 10_000  # examples whose latents are looked at for activity, maps and directions
MOST_LABELS = 20
MANIFOLD_SIDE, DEVIATIONS = 20, 3.0


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  for name, value, least in (("pairs", _PAIRS.value, 1), ("steps", _STEPS.value, 2), ("traverse", _TRAVERSE.value, 0)):
    if value < least:
      raise ConfigError(f"--{name} is {value}; it must be at least {least}.")
  if _PATH.value not in PATHS:
    raise ConfigError(f"--path is {_PATH.value!r}; it must be circle or line.")
  triples, strengths = [_triple(text) for text in _ARITHMETIC.value], _numbers(_STRENGTHS.value)
  run = cli.open_run()
  if isinstance(run.model, HasCodes):
    _of_codes(run)
    return
  for name, value in (("codes", _CODES.value), ("decode", _DECODE.value)):
    if value is not None:
      raise ConfigError(f"--{name} is {value}, but {run.config.model.name} has no discrete codes; name a run of vqvae.")
  latents, num = Latents(run), run.dataset.num_examples(_SPLIT.value)
  if not latents.has_encoder:
    _of_prior(run, latents)
    return
  for triple in triples:
    if not 0 <= min(triple) <= max(triple) < num:
      raise ConfigError(f"--arithmetic names {triple}; {_SPLIT.value} has examples 0 to {num - 1}.")
  many = latents.encode(_SPLIT.value, sample_examples(num, MOST))
  written = []
  if many.z.ndim == 2 and many.z.shape[1] == 2:
    save_map(run.folder / "latent_map.png", many.z, many.y, f"{run.config.model.name} · {run.data.name}")
    written.append("latent_map.png")
  if run.spec.is_image:
    written += _pictures(run.folder, run, latents, many, triples, strengths)
  elif not written:
    raise ConfigError(f"experiments.latent shows images, and latents in the plane, but {run.data.name} has events "
                      f"{run.spec.event}.")
  print(f"{num_active(many.z)} of {many.z[0].size} latents vary over the {_SPLIT.value} split.")
  print(f"{', '.join(written)} in {run.folder}")


def _of_codes(run: TrainedRun) -> None:
  """Write what there is of a model with discrete codes."""
  levels, written = run.spec.levels, []
  if _CODES.value is not None:
    shapes = write_codes(run, Path(_CODES.value))
    print(", ".join(f"{split} {'x'.join(map(str, shape))}" for split, shape in shapes.items()) + f" in {_CODES.value}")
  if _DECODE.value is not None:
    x = decode_codes(run, _codes_in(Path(_DECODE.value)))
    write_whole(run.folder / "decoded.npz", lambda file: np.savez_compressed(file, allow_pickle=False, x=x))
    written.append("decoded.npz")
    if run.spec.is_image:
      save_grid(run.folder / "decoded.png", _shown(x[:64], levels), levels=None)
      written.append("decoded.png")
  if run.spec.is_image:
    examples = np.linspace(0, run.dataset.num_examples(_SPLIT.value) - 1, 2 * _PAIRS.value).astype(int)
    found = Latents(run).encode(_SPLIT.value, examples)
    save_side_by_side(run.folder / "reconstructions.png", {
        "data": _shown(found.x, levels), "reconstructions": _shown(decode_codes(run, found.z), levels)}, levels=None)
    written.append("reconstructions.png")
  if written:
    print(f"{', '.join(written)} in {run.folder}")


def _of_prior(run: TrainedRun, latents: Latents) -> None:
  """Write what there is of a model that can draw latents, and not infer them."""
  name, spec = run.config.model.name, run.spec
  for flag in (_ARITHMETIC, _ATTRIBUTE, _WITHOUT, _TRAVERSE):
    if flag.value != flag.default:
      raise ConfigError(f"--{flag.name} is of the latents of examples, which {name} cannot infer; leave it out.")
  if not spec.is_image:
    raise ConfigError(f"experiments.latent shows images, but {run.data.name} has events {spec.event}.")
  pairs, classes = _PAIRS.value, min(spec.num_classes or 0, MOST_LABELS)
  z, shares = latents.from_prior(2 * pairs), np.linspace(0.0, 1.0, _STEPS.value).tolist()
  labels = np.arange(pairs) % classes if latents.is_conditional else None
  pictures = {"interpolations": [latents.decode(PATHS[_PATH.value](z[:pairs], z[pairs:], share), labels)
                                 for share in shares]}
  if latents.is_conditional:
    pictures["labels"] = [latents.decode(z[:pairs], np.full(pairs, label)) for label in range(classes)]
  _save_columns(run.folder, pictures, spec.levels)
  print(f"{', '.join(f'{picture}.png' for picture in pictures)} in {run.folder}")


def _codes_in(path: Path) -> np.ndarray:
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return arrays["x"]
  except (OSError, ValueError, KeyError) as error:
    raise ConfigError(f"--decode is {path}, which cannot be read ({error}); it must be an .npz file with an array x, "
                      "such as samples.npz.") from error


def _pictures(path: Path, run: TrainedRun, latents: Latents, many: Encoded, triples: list[tuple[int, int, int]],
              strengths: list[float]) -> list[str]:
  """Write the pictures of images; return their names."""
  num, levels, pictures = run.dataset.num_examples(_SPLIT.value), run.spec.levels, {}
  ends = latents.encode(_SPLIT.value, np.linspace(0, num - 1, min(2 * _PAIRS.value, num - num % 2)).astype(int))
  save_side_by_side(path / "reconstructions.png", {
      "data": _shown(ends.x, levels), "reconstructions": _shown(latents.decode(ends.z, ends.y), levels)}, levels=None)
  half, shares = len(ends.x) // 2, np.linspace(0.0, 1.0, _STEPS.value).tolist()
  # Of a class-conditional model the label changes half way.
  labels = [None if ends.y is None else ends.y[:half] if share < 0.5 else ends.y[half:] for share in shares]
  pictures["interpolations"] = [latents.decode(PATHS[_PATH.value](ends.z[:half], ends.z[half:], share), label)
                                for share, label in zip(shares, labels, strict=True)]
  if triples:
    a, b, c = (latents.encode(_SPLIT.value, np.array(column)) for column in zip(*triples, strict=True))
    pictures["arithmetic"] = [a.x, b.x, c.x, latents.decode(a.z - b.z + c.z, a.y)]
  if _ATTRIBUTE.value is not None:
    train = sample_examples(run.dataset.num_examples("train"), MOST)
    way = direction(latents.encode("train", train), _ATTRIBUTE.value, _WITHOUT.value)
    assert many.y is not None  # or there were no direction
    others = many.y != _ATTRIBUTE.value if _WITHOUT.value is None else many.y == _WITHOUT.value
    z, y = many.z[others][:_PAIRS.value], many.y[others][:_PAIRS.value]
    pictures["attribute"] = [many.x[others][:_PAIRS.value], *(latents.decode(z + strength * way, y)
                                                              for strength in strengths)]
  if _TRAVERSE.value:
    pictures["traversals"] = _traversals(latents, many)
  _save_columns(path, pictures, levels)
  if many.z.ndim == 2 and many.z.shape[1] == 2 and not latents.is_conditional:
    save_grid(path / "manifold.png", _shown(latents.decode(plane_grid(MANIFOLD_SIDE), None), levels), levels=None,
              columns=MANIFOLD_SIDE)
    pictures["manifold"] = []
  return ["reconstructions.png", *(f"{name}.png" for name in pictures)]


def _traversals(latents: Latents, many: Encoded) -> list[np.ndarray]:
  """Return columns of images: each row moves one latent of the first example, from end to end."""
  flat = many.z.reshape(len(many.z), -1)
  spread, centre = flat.std(axis=0), flat.mean(axis=0)
  dims = np.argsort(-spread)[:_TRAVERSE.value]
  columns = []
  for share in np.linspace(-DEVIATIONS, DEVIATIONS, _STEPS.value):
    z = np.repeat(flat[:1], len(dims), axis=0)
    z[np.arange(len(dims)), dims] = centre[dims] + share * spread[dims]
    y = None if many.y is None else np.repeat(many.y[:1], len(dims))
    columns.append(latents.decode(z.reshape(-1, *many.z.shape[1:]), y))
  return columns


def _save_columns(path: Path, pictures: dict[str, list[np.ndarray]], levels: int | None) -> None:
  """Write a picture for each list of columns of images."""
  for name, columns in pictures.items():
    images = np.stack([_shown(column, levels) for column in columns], axis=1)
    save_grid(path / f"{name}.png", images.reshape(-1, *images.shape[2:]), levels=None, columns=len(columns))


def _shown(x: np.ndarray, levels: int | None) -> np.ndarray:
  """Return images as real numbers in [0, 1]."""
  return np.asarray(x, np.float32) if levels is None else np.asarray(x, np.float32) / (levels - 1)


def _triple(text: str) -> tuple[int, int, int]:
  parts = text.split(",")
  if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
    raise ConfigError(f"--arithmetic is {text!r}; it must be the numbers of three examples, as 3,17,25.")
  a, b, c = map(int, parts)
  return a, b, c


def _numbers(text: str) -> list[float]:
  try:
    return [float(part) for part in text.split(",")]
  except ValueError:
    raise ConfigError(f"--strengths is {text!r}; it must be numbers, as -1,0,1,2.") from None


if __name__ == "__main__":
  cli.run(main)
