"""Draws from a trained run, fills in the missing part of real examples, or takes noise off them.

  python -m experiments.sample --workdir=runs/made --num=64 [--config.sampling.temperature=0.9]
  python -m experiments.sample --workdir=runs/made --complete [--known=0.5]
  python -m experiments.sample --workdir=runs/ebm --denoise=4
  python -m experiments.sample --workdir=runs/ddpm --frames=10 [--config.sampling.sampler=ddim
      --config.sampling.num_steps=20 --config.sampling.guidance=2]

Writes `samples.npz` (or `completions.npz`, `denoised.npz`) into the workdir, for images the same as PNG, for sound WAV
files, and for music MIDI files and a picture of the score. With `--frames`, of models that go from noise to samples,
`trajectory.png` and `trajectory.gif` show the way of some of them.
"""

import jax
import numpy as np
from absl import flags

from experiments import cli
from gdm.data.columns import as_table, to_csv
from gdm.errors import ConfigError
from gdm.model import HasComplete, HasDenoise
from gdm.paths import write_whole
from gdm.runs.music import save_music
from gdm.runs.plotting import require_shown, save_panels, save_trajectory, shown_split
from gdm.runs.sampling import annealing_options, complete, conditions, draw, in_batches, mixing
from gdm.runs.sound import save_sound
from gdm.runs.trained import TrainedRun
from gdm.training.streams import stream_key

_NUM = flags.DEFINE_integer("num", None, "How many to draw; sampling.num of the config by default.")
_COMPLETE = flags.DEFINE_boolean("complete", False, "Fill in test examples instead of drawing from nothing.")
_KNOWN = flags.DEFINE_float("known", 0.5, "With --complete: the share of an example, from its start, that is kept.")
_DENOISE = flags.DEFINE_float("denoise", 0.0, "Deviation, in the data's units, of Gaussian noise that is added to test "
                              "examples and taken off again; 0 for none.")
_FRAMES = flags.DEFINE_integer("frames", 0, "How many states on the way from noise to samples to show, the samples "
                               "included; 0 for none.")
cli.define_run("sampling", "data", "evaluation", with_data=True)

_HEARD = 64  # at most so many are written as MIDI files, or as sound

Arrays = dict[str, np.ndarray]


def main() -> None:
  if _NUM.value is not None and _NUM.value < 1:
    raise ConfigError(f"--num is {_NUM.value}; it must be at least 1.")
  if not 0.0 <= _KNOWN.value <= 1.0:
    raise ConfigError(f"--known is {_KNOWN.value}; it must be in [0, 1].")
  if _DENOISE.value < 0.0:
    raise ConfigError(f"--denoise is {_DENOISE.value}; it must be positive, or 0 for none.")
  if _FRAMES.value == 1 or _FRAMES.value < 0:
    raise ConfigError(f"--frames is {_FRAMES.value}; it must be at least 2, or 0 for none.")
  if (_FRAMES.value > 0) + _COMPLETE.value + (_DENOISE.value > 0) > 1:
    raise ConfigError(f"--frames is {_FRAMES.value}, --complete {_COMPLETE.value} and --denoise {_DENOISE.value}; only "
                      "one of them can be asked for at a time.")
  num = {} if _NUM.value is None else {"sampling.num": _NUM.value}
  run = cli.open_run(num)
  name, make = ("completions", _complete) if _COMPLETE.value else (
      ("denoised", _denoise) if _DENOISE.value else ("samples", _sample))
  arrays, panels = make(run)
  write_whole(run.folder / f"{name}.npz", lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
  save_panels(run, name, panels)
  is_music = "music" in run.data.info
  if is_music:
    save_music(run, name, arrays["x"][:_HEARD])
  sounds = save_sound(run, name, arrays["x"][:_HEARD])
  if rows := as_table(run.data.info, run.spec, arrays["x"], arrays.get("y")):
    write_whole(run.folder / f"{name}.csv", lambda file: file.write(to_csv(rows)))
  print(f"{len(arrays['x'])} {name} in {run.folder / name}.npz"
        + (f" and {name}.png" if run.spec.is_image else "")
        + (f" and {name}.csv" if rows else "")
        + (f" and {name}_000.wav and so on" if sounds else "")
        + (f", {name}_000.mid and so on, and {name}_score.png" if is_music else "")
        + (", the way there in trajectory.png and trajectory.gif" if _FRAMES.value else ""))


def _sample(run: TrainedRun) -> tuple[Arrays, Arrays]:
  """Draw; and what is shown of them."""
  if _FRAMES.value:
    require_shown(run)
  drawn = draw(run, _FRAMES.value)
  if _FRAMES.value:
    save_trajectory(run, np.asarray(drawn.info["trajectory"], np.float32))
  if words := mixing(drawn.info):
    print(words)
  x = np.asarray(drawn.x)
  return {"x": x, **conditions(run)}, {"samples": x}


def _complete(run: TrainedRun) -> tuple[Arrays, Arrays]:
  """Completions of test examples, spread over the split."""
  if not isinstance(run.model, HasComplete):
    raise ConfigError(f"{run.config.model.name} cannot complete examples; leave --complete out to sample.")
  spec, original = run.spec, _examples(run)
  known = (np.arange(spec.num_dims) < round(_KNOWN.value * spec.num_dims)).reshape(spec.event)
  completed = complete(run, original, known, run.config.sampling.seed)
  if words := mixing(completed.info):
    print(words)
  x = np.asarray(completed.x)
  return {"x": x, "original": original, "known": known}, {"known": np.where(known, original, 0), "completed": x}


def _denoise(run: TrainedRun) -> tuple[Arrays, Arrays]:
  """Test examples, spread over the split, from which noise was taken; prints how far either is from the originals."""
  if not isinstance(run.model, HasDenoise):
    raise ConfigError(f"{run.config.model.name} cannot take noise off examples; leave --denoise out to sample.")
  spec, original = run.spec, _examples(run)
  noise = np.random.default_rng(run.config.sampling.seed).normal(scale=_DENOISE.value, size=original.shape)
  noised = (original + noise).astype(np.float32)
  key = stream_key(jax.random.key(run.config.sampling.seed), "denoising", 0)
  model, options, deviation = run.model, annealing_options(run, run.model.denoise), _DENOISE.value
  cleaned = in_batches(run, lambda params, carry, key, rows: model.denoise(
      params, carry, key, rows, deviation, **options), key, len(noised), noised)
  if words := mixing(cleaned.info):
    print(words)
  x = np.asarray(cleaned.x)
  before, after = (float(np.sqrt(np.mean((each - original) ** 2))) for each in (noised, x))
  print(f"root mean squared error {before:.4g} before, {after:.4g} after, in the data's units.")
  shown = {"noised": noised, "denoised": x}
  if spec.levels is not None:
    shown = {name: np.clip(np.rint(each), 0, spec.levels - 1).astype(np.int32) for name, each in shown.items()}
  return {"x": x, "original": original, "noised": noised}, shown


def _examples(run: TrainedRun) -> np.ndarray:
  """`sampling.num` test examples, spread over the split."""
  split = shown_split(run.dataset)
  rows = np.linspace(0, split.num_examples - 1, min(run.config.sampling.num, split.num_examples)).astype(int)
  return split.rows(rows)["x"]


if __name__ == "__main__":
  cli.run(main)
