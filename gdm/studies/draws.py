"""Samples of a trained run, completed examples and denoised ones, written as arrays and as pictures, sound or music."""

from collections.abc import Iterator, Mapping

import jax
import numpy as np

from gdm.data.columns import as_table, to_csv
from gdm.errors import ConfigError
from gdm.model import HasComplete, HasDenoise
from gdm.paths import write_arrays, write_whole
from gdm.precision import at_highest_precision
from gdm.runs.plotting import require_shown, save_panels, save_trajectory, shown_split
from gdm.runs.sampling import annealing_options, complete, conditions, draw, in_batches, mixing
from gdm.runs.sound import save_sound
from gdm.runs.trained import TrainedRun
from gdm.studies.music import save_music
from gdm.studies.outlier_scores import spread
from gdm.training.streams import stream_key

_HEARD = 64  # at most so many are written as MIDI files, or as sound

Arrays = Mapping[str, np.ndarray]


@at_highest_precision
def save_samples(run: TrainedRun, num_frames: int = 0) -> Iterator[str]:
  """Write `sampling.num` samples as `samples.npz` and more into the run's folder; yield lines about them.

  With frames, `trajectory.png` and `trajectory.gif` have so many states on the way from noise, samples included.

  Raise ConfigError where the model cannot sample with the run's settings, or goes no way that can be shown.
  """
  if num_frames:
    require_shown(run)
  drawn = draw(run, num_frames)
  if num_frames:
    save_trajectory(run, np.asarray(drawn.info["trajectory"], np.float32))
  if words := mixing(drawn.info):
    yield words
  x = np.asarray(drawn.x)
  way = ", the way there in trajectory.png and trajectory.gif" if num_frames else ""
  yield _save(run, "samples", {"x": x, **conditions(run)}, {"samples": x}) + way


@at_highest_precision
def save_completions(run: TrainedRun, share: float) -> Iterator[str]:
  """Write `sampling.num` test examples, of which a share from the start is known and the rest is drawn, as
  `completions.npz` and more; yield lines about them. Raise ConfigError where the model cannot complete examples."""
  if not isinstance(run.model, HasComplete):
    raise ConfigError(f"{run.config.model.name} cannot complete examples; leave --complete out to sample.")
  spec, original = run.spec, _examples(run)
  known = (np.arange(spec.num_dims) < round(share * spec.num_dims)).reshape(spec.event)
  completed = complete(run, original, known, run.config.sampling.seed)
  if words := mixing(completed.info):
    yield words
  x = np.asarray(completed.x)
  yield _save(run, "completions", {"x": x, "original": original, "known": known},
              {"known": np.where(known, original, 0), "completed": x})


@at_highest_precision
def save_denoised(run: TrainedRun, deviation: float) -> Iterator[str]:
  """Write `sampling.num` test examples from which noise was taken as `denoised.npz` and more; yield lines about them,
  with how far they are from the originals before and after.

  The deviation of the noise, which is added first, is in the data's units. Raise ConfigError where the model cannot.
  """
  if not isinstance(run.model, HasDenoise):
    raise ConfigError(f"{run.config.model.name} cannot take noise off examples; leave --denoise out to sample.")
  spec, original = run.spec, _examples(run)
  noise = np.random.default_rng(run.config.sampling.seed).normal(scale=deviation, size=original.shape)
  noised = (original + noise).astype(np.float32)
  key = stream_key(jax.random.key(run.config.sampling.seed), "denoising", 0)
  model, options = run.model, annealing_options(run, run.model.denoise)
  cleaned = in_batches(run, lambda params, carry, key, rows: model.denoise(
      params, carry, key, rows, deviation, **options), key, len(noised), noised)
  if words := mixing(cleaned.info):
    yield words
  x = np.asarray(cleaned.x)
  before, after = (float(np.sqrt(np.mean((each - original) ** 2))) for each in (noised, x))
  yield (f"root mean squared error {before:.4g} before, {after:.4g} after, in the data's units.")
  shown = {"noised": noised, "denoised": x}
  if spec.levels is not None:
    shown = {name: np.clip(np.rint(each), 0, spec.levels - 1).astype(np.int32) for name, each in shown.items()}
  yield _save(run, "denoised", {"x": x, "original": original, "noised": noised}, shown)


def _save(run: TrainedRun, name: str, arrays: Arrays, panels: Arrays) -> str:
  """Write arrays, and what is shown of them in the form of the data; return a line about the files."""
  write_arrays(run.folder / f"{name}.npz", arrays)
  save_panels(run, name, panels)
  is_music = "music" in run.data.info
  if is_music:
    save_music(run, name, arrays["x"][:_HEARD])
  sounds = save_sound(run, name, arrays["x"][:_HEARD])
  if rows := as_table(run.data.info, run.spec, arrays["x"], arrays.get("y")):
    write_whole(run.folder / f"{name}.csv", lambda file: file.write(to_csv(rows)))
  return (f"{len(arrays['x'])} {name} in {run.folder / name}.npz"
          + (f" and {name}.png" if run.spec.is_image else "")
          + (f" and {name}.csv" if rows else "")
          + (f" and {name}_000.wav and so on" if sounds else "")
          + (f", {name}_000.mid and so on, and {name}_score.png" if is_music else ""))


def _examples(run: TrainedRun) -> np.ndarray:
  """Return `sampling.num` test examples, spread over the split."""
  split = shown_split(run.dataset)
  return split.rows(spread(split.num_examples, run.config.sampling.num))["x"]
