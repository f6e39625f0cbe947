"""Looks into a model's latents: what comes back, what lies between real images, and sums of them.

  python -m experiments.latent --workdir=runs/glow [--split=test] [--pairs=8] [--steps=9] [--arithmetic=3,17,25 ...]
      [--checkpoint=best|last|STEP] [--config.data.data_dir=DIR]

Writes into the workdir, of real images: `reconstructions.png`; `interpolations.png`, a row per pair, from one image to
the other along the great circle between their latents; and with --arithmetic=A,B,C (numbers of examples; may be
repeated) `arithmetic.png`, whose rows are A, B, C and A - B + C.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array

from experiments import cli
from gdm.errors import ConfigError
from gdm.model import HasClasses, HasLatent
from gdm.runs.interpolation import great_circle
from gdm.runs.load import TrainedRun, load_run
from gdm.runs.workdir import Workdir
from gdm.training.streams import stream_key
from gdm.visualization.images import save_grid, save_side_by_side

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by validation), last, or a step.")
_PAIRS = flags.DEFINE_integer("pairs", 8, "How many pairs of images to go between.")
_STEPS = flags.DEFINE_integer("steps", 9, "Images from one end to the other, both included.")
_ARITHMETIC = flags.DEFINE_multi_string("arithmetic", [], "Numbers of three examples A,B,C: shows A - B + C.")
cli.define_overrides("data", "evaluation")


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  for name, value, least in (("pairs", _PAIRS.value, 1), ("steps", _STEPS.value, 2)):
    if value < least:
      raise ConfigError(f"--{name} is {value}; it must be at least {least}.")
  triples = [_triple(text) for text in _ARITHMETIC.value]
  workdir = Workdir(cli.require_flag("workdir"))
  run = load_run(workdir, cli.overrides(), _CHECKPOINT.value)
  if not isinstance(run.model, HasLatent):
    raise ConfigError(f"{run.config.model.name} has no latents to look into.")
  if not run.dataset.spec.is_image:
    raise ConfigError(f"experiments.latent shows images, but {run.dataset.name} has events {run.dataset.spec.event}.")
  num = run.dataset.num_examples(_SPLIT.value)
  for triple in triples:
    if not 0 <= min(triple) <= max(triple) < num:
      raise ConfigError(f"--arithmetic names {triple}; {_SPLIT.value} has examples 0 to {num - 1}.")
  levels = run.dataset.spec.levels
  ends = np.linspace(0, num - 1, min(2 * _PAIRS.value, num - num % 2)).astype(int)
  x, z, y = _encode(run, ends)
  save_side_by_side(workdir.path / "reconstructions.png", {"data": x, "reconstructions": _decode(run, z, y)},
                    levels=levels)
  half, written = len(ends) // 2, ["reconstructions.png", "interpolations.png"]
  between = [great_circle(z[:half], z[half:], share) for share in np.linspace(0.0, 1.0, _STEPS.value)]
  # Of a class-conditional model the label changes half way.
  labels = [None if y is None else jnp.where(share < 0.5, y[:half], y[half:])
            for share in np.linspace(0.0, 1.0, _STEPS.value)]
  rows = np.stack([_decode(run, latent, label) for latent, label in zip(between, labels, strict=True)], axis=1)
  save_grid(workdir.path / "interpolations.png", rows.reshape(-1, *rows.shape[2:]), levels=levels,
            columns=_STEPS.value)
  if triples:
    parts = [_encode(run, np.array(column)) for column in zip(*triples, strict=True)]
    (_, a, label), (_, b, _), (_, c, _) = parts
    sums = _decode(run, a - b + c, label)
    images = np.stack([*(x for x, _, _ in parts), sums], axis=1)
    save_grid(workdir.path / "arithmetic.png", images.reshape(-1, *images.shape[2:]), levels=levels, columns=4)
    written.append("arithmetic.png")
  print(f"{', '.join(written)} in {workdir.path}")


def _triple(text: str) -> tuple[int, int, int]:
  parts = text.split(",")
  if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
    raise ConfigError(f"--arithmetic is {text!r}; it must be the numbers of three examples, as 3,17,25.")
  a, b, c = map(int, parts)
  return a, b, c


def _encode(run: TrainedRun, examples: np.ndarray) -> tuple[np.ndarray, Array, Array | None]:
  """Return the examples, their latents, and where the model is conditional on them their labels."""
  rows, model = run.dataset.split(_SPLIT.value).rows(examples), run.model
  assert isinstance(model, HasLatent)
  key = stream_key(jax.random.key(0), "latent", 0)
  z = jax.jit(lambda batch: model.encode(run.params, run.carry, batch, key))(rows)
  conditional = isinstance(model, HasClasses) and model.class_conditional
  return rows["x"], z, jnp.asarray(rows["y"]) if conditional else None


def _decode(run: TrainedRun, z: Array, y: Array | None) -> np.ndarray:
  assert isinstance(run.model, HasLatent)
  options = {} if y is None else {"condition": y}
  return np.asarray(run.model.decode(run.params, run.carry, z, jax.random.key(0), **options))


if __name__ == "__main__":
  cli.run(main)
