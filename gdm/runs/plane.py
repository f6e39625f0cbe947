"""The learned density of a run in the plane, by quadrature: its log Z, and how far it is from what it was to learn."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from gdm.data.initial import initial_batch
from gdm.errors import ConfigError
from gdm.evaluation.plane_divergence import PlaneDivergence, PlaneGrid, divergence
from gdm.likelihood import LogNormalizer
from gdm.model import HasUnnormalized
from gdm.runs.trained import TrainedRun
from gdm.training.streams import stream_key
from gdm.visualization.landscapes import Landscape
from gdm.visualization.plane import Points

_POINTS = 4000  # of the training split


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
  """A run's density on a grid.

  Attributes:
    points: training examples, around which the grid lies.
    grid: where.
    log_density: the model's, in nats, normalized by the first of its log Z.
    log_normalizer: that one.
    truth: the data's log density, where it is known.
    target: what training was to find: the truth, or of a model of noised data the density of these.
    divergence: KL(target || model).
  """

  points: Points
  grid: PlaneGrid
  log_density: Float[np.ndarray, "rows columns"]
  log_normalizer: LogNormalizer
  truth: Float[np.ndarray, "rows columns"] | None
  target: Float[np.ndarray, "rows columns"] | None
  divergence: PlaneDivergence | None


def learned(run: TrainedRun, num: int = 512) -> Learned:
  """Tabulates the density of a run; `num` is the grid's cells along each axis.

  Raise ConfigError where the model has no energy of points of the plane.
  """
  spec, model = run.spec, run.model
  if spec.event != (2,) or spec.is_discrete or not isinstance(model, HasUnnormalized):
    raise ConfigError(f"{run.config.model.name} on {run.data.name} is no energy of points of the plane.")
  key = stream_key(jax.random.key(run.config.seed), "plane", run.step)
  points = initial_batch(run.dataset, _POINTS)["x"]
  log_z = model.log_normalizer(run.params, run.carry, key, points)[0]

  @jax.jit
  def log_prob(x):
    return model.unnormalized_log_prob(run.params, run.carry, {"x": x}) - log_z.nats

  grid = PlaneGrid.around(points, num)
  found = grid.table(lambda x: log_prob(x.astype(np.float32)))
  if run.dataset.log_prob is None:
    return Learned(points, grid, found, log_z, None, None, None)
  truth, noise = grid.table(run.dataset.log_prob), noise_of(run)
  target = truth if noise is None else grid.noised(truth, noise)
  return Learned(points, grid, found, log_z, truth, target, divergence(grid, target, found))


def noise_of(run: TrainedRun) -> tuple[float, float] | None:
  """Return the deviations, in the data's values, of the noise that denoising score matching adds to the data; else
  None."""
  settings: dict[str, Any] = run.config.model.to_dict()
  if settings.get("objective") != "denoising":
    return None
  wide, high = np.broadcast_to(settings["denoising_scale"] * np.asarray(run.params["base"]["scale"]), (2,)).tolist()
  return wide, high


def describe(run: TrainedRun, found: Learned) -> dict[str, Any]:
  """Return a run's entries of the report: nats, and seconds of training. The divergence's error is that of log Z
  too."""
  log_z = found.log_normalizer
  described = {"step": run.step, "parameters": run.parameters, "train_seconds": run.train_seconds,
               "log_z": float(log_z.nats), "log_z_stderr": float(log_z.stderr), "log_z_kind": str(log_z.kind)}
  if found.divergence is None:
    return described
  apart = found.divergence
  return {**described, "noise": noise_of(run), "kl": apart.nats, "kl_error": apart.error + float(log_z.stderr),
          "true_mass": apart.true_mass, "mass": apart.mass}


def table(described: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """Lines of a table of runs that `describe` described, with their target, objective and seed."""
  yield f"{'target':10} {'objective':12} {'seed':>4} {'KL (nats)':>10} {'error':>8} {'log Z':>9} {'error':>8} {'s':>5}"
  for each in described:
    yield (f"{each['target']:10} {each['objective']:12} {each['seed']:4} {each['kl']:10.4f} {each['kl_error']:8.0e} "
           f"{each['log_z']:9.4f} {each['log_z_stderr']:8.0e} {each['train_seconds']:5.0f}")


def panels(found: Mapping[str, Learned]) -> list[Landscape]:
  """Return the truth, and what each has learned of it, with its divergence; before a model of noised data, the truth
  of these.

  Args:
    found: of runs on the same data, by name.
  """
  shown = []
  for name, each in found.items():
    if not shown and each.truth is not None:
      shown.append(Landscape("truth", each.truth, each.grid.window))
    if each.target is not None and each.target is not each.truth:
      shown.append(Landscape("truth, noised", each.target, each.grid.window))
    apart = "" if each.divergence is None else f"\nKL {each.divergence.nats:.4f} nats"
    shown.append(Landscape(f"{name}{apart}", each.log_density, each.grid.window))
  return shown
