"""The pictures of a run: curves, samples beside data, completions, ways from noise; in the plane densities and scores.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from gdm.batches import given
from gdm.data.dataset import Dataset
from gdm.data.initial import sample_examples
from gdm.data.split import Split
from gdm.errors import ConfigError, DataError, WorkdirError
from gdm.evaluation.distances import Neighbours
from gdm.inference.diagnostics import failure
from gdm.likelihood import Kind
from gdm.model import HasLatent, HasLogLikelihood, HasNoised, HasSample, HasScore, HasUnnormalized
from gdm.runs.comparison import SampleComparison
from gdm.runs.plane import learned, panels
from gdm.runs.sampling import draw
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import Workdir
from gdm.training.metrics import read_metrics
from gdm.visualization.curves import save_curves
from gdm.visualization.density import save_density
from gdm.visualization.fields import save_score_fields
from gdm.visualization.images import save_side_by_side
from gdm.visualization.landscapes import LandscapeRow, save_landscapes
from gdm.visualization.nfe import NFEPoint, save_nfe
from gdm.visualization.trajectory import image_pictures, point_pictures, save_gif, save_point_strip, save_strip

_SCORE_TIMES = (0.5, 0.2, 0.05)
_LANDSCAPE_CELLS = 256  # along each axis
_VISIBLE_NOISE = 0.1  # nats from draw to draw, beyond which a density is not drawn
_NEIGHBOUR_ROWS = 10  # samples whose nearest training examples are shown
_STRIP_ROWS, _GIF_IMAGES = 8, 64  # samples whose way is shown


def draw_samples(run: TrainedRun) -> np.ndarray:
  """`sampling.num` samples [num, *event] by the settings of the config's `sampling` section.

  Warns where they are not from the model.
  """
  drawn = draw(run)
  if words := failure(drawn.info):
    logging.warning("the samples that are shown are not from the model: %s.", words)
  return np.asarray(drawn.x)


def draw_model(run: TrainedRun) -> None:
  """`samples.png`: samples of images beside data; of the plane `density.png`, `landscape.png` of an energy, and
  `scores.png`, as far as there are.

  A model that bounds its log-likelihood only has no density to draw.
  """
  if not isinstance(run.model, HasSample):
    return
  samples, spec = draw_samples(run), run.spec
  save_panels(run, "samples", {"samples": samples})
  if spec.event != (2,) or spec.is_discrete or given(run.model):  # a condition has no picture
    return
  shown = shown_split(run.dataset)
  data = shown.rows(sample_examples(shown.num_examples, 4000))["x"]
  if isinstance(run.model, HasLogLikelihood):
    _draw_density(run, run.model, data, samples)
  if isinstance(run.model, HasUnnormalized):
    shown = panels({run.config.model.name: learned(run, _LANDSCAPE_CELLS)})
    save_landscapes(run.folder / "landscape.png", [LandscapeRow(run.data.name, data, shown)])
  if isinstance(run.model, HasScore):
    _draw_scores(run, run.model, data, samples)


def _draw_density(run: TrainedRun, model: HasLogLikelihood, data: np.ndarray, samples: np.ndarray) -> None:
  kinds = set()

  @jax.jit
  def log_prob(x, seed=0):
    found = model.log_likelihood(run.params, run.carry, {"x": x}, jax.random.key(seed))
    kinds.add(found.kind)
    return found.nats

  jax.eval_shape(log_prob, data[:1])
  if kinds & {Kind.LOWER_BOUND, Kind.SAMPLER_BOUND}:
    return  # of real numbers: a draw of it, whose exponential is anything but a density
  some = data[:100]
  if Kind.ESTIMATE in kinds and float(jnp.mean(jnp.abs(log_prob(some, 1) - log_prob(some, 2)))) > _VISIBLE_NOISE:
    return  # as that of a mixture of such bounds, whose picture would be one of their noise
  save_density(run.folder / "density.png", data, samples, log_prob, true_log_prob=run.dataset.log_prob,
               from_latent=_from_latent(run, model))


def _draw_scores(run: TrainedRun, model: HasScore, data: np.ndarray, samples: np.ndarray) -> None:
  score = jax.jit(model.score)

  def noised(t: int | float) -> np.ndarray:
    if not isinstance(model, HasNoised):
      return data
    return np.asarray(model.noised(run.params, run.carry, jax.random.key(0), jnp.asarray(data), np.float32(t)))

  save_score_fields(run.folder / "scores.png", data, samples,
                    lambda x, t: score(run.params, run.carry, x, np.float32(t)), _SCORE_TIMES, noised=noised)


def save_trajectory(run: TrainedRun, frames: np.ndarray) -> None:
  """`trajectory.png` and `trajectory.gif` of frames [frames, num, *event] of images or of points of the plane.

  Raise ConfigError of data that are neither.
  """
  strip, film, spec = run.folder / "trajectory.png", run.folder / "trajectory.gif", run.spec
  require_shown(run)
  if spec.is_image:
    save_strip(strip, frames[:, :_STRIP_ROWS], levels=spec.levels)
    save_gif(film, image_pictures(frames[:, :_GIF_IMAGES], levels=spec.levels))
  else:
    save_point_strip(strip, frames)
    save_gif(film, point_pictures(frames))


def require_shown(run: TrainedRun) -> None:
  """Raise ConfigError unless there are pictures of the data's trajectories."""
  spec = run.spec
  if not spec.is_image and (spec.event != (2,) or spec.is_discrete):
    raise ConfigError(f"--frames shows images and points of the plane, but {run.data.name} has events {spec.event}.")


def _from_latent(run: TrainedRun, model: Any) -> Callable[[np.ndarray], np.ndarray] | None:
  """Return the model's grid of its latent plane; None where its latents are no points of a plane."""
  if not isinstance(model, HasLatent):
    return None
  key = jax.random.key(0)

  @jax.jit
  def place(z):
    return model.decode(run.params, run.carry, z, key)

  points = np.asarray(model.encode(run.params, run.carry, {"x": np.zeros((1, 2), np.float32)}, key))
  return place if points.shape == (1, 2) else None


def save_panels(run: TrainedRun, name: str, panels: Mapping[str, np.ndarray]) -> None:
  """`<name>.png`, where the data are images: test data, then each panel; these alone where the data are not here."""
  if not run.spec.is_image:
    return
  num = min(64, *(len(images) for images in panels.values()))
  shown = {k: v[:num] for k, v in panels.items()}
  try:
    split = shown_split(run.dataset)
    # Spread over the split: some test splits are sorted by class.
    shown = {"data": split.rows(np.linspace(0, split.num_examples - 1, num).astype(int))["x"], **shown}
  except (DataError, WorkdirError) as error:
    logging.warning("%s.png shows no data: %s", name, error)
  save_side_by_side(run.folder / f"{name}.png", shown, levels=run.spec.levels)


def shown_split(dataset: Dataset) -> Split:
  """Return the split whose examples are shown: test, or validation where the data have none."""
  return dataset.split("test" if "test" in dataset.splits else "valid")


def draw_neighbours(run: TrainedRun, samples: np.ndarray, near: Neighbours) -> bool:
  """`neighbours.png`: samples beside their nearest training examples, where the data are images; whether it was
  written. To the right of samples as they were drawn stand those that are closest to a training example."""
  if not run.spec.is_image:
    return False
  order, train, panels = np.argsort(near.distances[:, 0], kind="stable"), run.dataset.split("train"), {}
  for what, ranks, shown in (("sample", ("nearest", "2nd", "3rd"), np.arange(len(samples))),
                             ("closest", ("its 1st", "its 2nd", "its 3rd"), order)):
    shown = shown[:_NEIGHBOUR_ROWS]
    panels[what] = samples[shown]
    panels |= {rank: train.rows(near.places[shown, i])["x"] for i, rank in enumerate(ranks)}
  save_side_by_side(run.folder / "neighbours.png", panels, levels=run.spec.levels, columns=1)
  return True


def draw_nfe(folder: Path, found: SampleComparison) -> bool:
  """`nfe.png`: distance from the data against network evaluations, of several samplers; whether it was written."""
  panels: dict[str, dict[str, list[NFEPoint]]] = {}
  for kernel in found.floor.squared:
    panels[kernel] = defaultdict(list)
    for row in found.rows:
      if row.sampler is not None and row.nfe is not None:
        panels[kernel][row.sampler].append(NFEPoint(row.nfe, row.squared[kernel].value, row.squared[kernel].half))
  if not all(sum(map(len, curves.values())) > 1 for curves in panels.values()):
    return False
  about = found.about
  floors = {kernel: (floor.value, floor.half) for kernel, floor in found.floor.squared.items()}
  save_nfe(folder / "nfe.png", panels, floors,
           title=f"{about['model']} · {about['dataset']} · {about['split']}")
  return True


def draw_curves(workdir: Workdir, title: str, units: Mapping[str, str]) -> None:
  """`curves.png`: every metric of the run against its step; `units` of losses, by their names."""
  rows: list[dict[str, Any]] = read_metrics(workdir.metrics)
  save_curves(workdir.path / "curves.png", rows, title, units)
