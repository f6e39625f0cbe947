"""The loop around the compiled step: it feeds batches, gathers metrics, and calls hooks at their steps.

It imports no evaluator, no data source and no checkpoint format: validation, logging and saving are hooks.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from gdm.errors import ConfigError
from gdm.training import mesh as meshes
from gdm.training.metrics import MetricsWindow, pack
from gdm.training.state import TrainState, state_sharding
from gdm.training.step import TrainStep, repeat_step


@runtime_checkable
class BatchSource(Protocol):
  """Where batches come from; `gdm.data.loader.Loader` is one."""

  def next_batches(self, k: int | None = None) -> Mapping[str, np.ndarray]:
    """The next k steps' batches: leaves [k, minibatches, batch, ...], this process's slice of the batch."""
    ...


class Ended(enum.StrEnum):
  """Why the loop returned."""

  FINISHED = "finished"  # all steps are done
  STOPPED = "stopped"  # a hook asked for it: early stopping
  INTERRUPTED = "interrupted"  # Ctrl-C, SIGTERM or a time limit: resume later


@dataclasses.dataclass(frozen=True)
class Hook:
  """Calls `call(state, step)` after every `every` steps; a true answer stops the run."""

  every: int
  call: Callable[[TrainState, int], bool | None]


def fit(step: TrainStep, state: TrainState, batches: BatchSource, *, key: Key[Array, ""], num_steps: int,
        steps_per_call: int = 1, unroll: bool = True, mesh: Mesh | None = None, window: MetricsWindow | None = None,
        hooks: Sequence[Hook] = (), interrupted: Callable[[], bool] = lambda: False) -> tuple[TrainState, Ended]:
  """Trains from `state.step` to `num_steps`.

  Args:
    step: from `make_train_step`, not compiled.
    state: from `init_state` or a checkpoint; donated, so not to be used afterwards.
    batches: serves the batches that follow `state.step`.
    key: root key of the run, the same after a resume.
    num_steps: steps in all, those before a resume included.
    steps_per_call: steps per dispatch; it must divide num_steps and every hook's period.
    unroll: write these steps out instead of looping over them (see `gdm.training.step.apply_objective`).
    mesh: the mesh of the state; all devices by default.
    window: gathers the metrics; by default one that drops them.
    hooks: called in order after their steps, with metrics up to that step already emitted.
    interrupted: asked after each call; a true answer ends the loop.

  Returns:
    The state after the last step, and why the loop ended.

  Raises:
    ConfigError: steps_per_call does not divide a period.
    NotFiniteError: a metric is NaN or infinite; names the step.
  """
  for name, period in [("num_steps", num_steps), *((f"the period of hook {i}", hook.every)
                                                   for i, hook in enumerate(hooks))]:
    if steps_per_call < 1 or period < 1 or period % steps_per_call:
      raise ConfigError(f"training.steps_per_call is {steps_per_call}, which does not divide {name} ({period}).")
  mesh = mesh or meshes.make_mesh()
  window = window or MetricsWindow(1, lambda step, row: None)
  compiled = compile_step(step, state, mesh, steps_per_call, unroll)
  sharding = meshes.batch_sharding(mesh, leading_axes=2)
  several = jax.process_count() > 1
  done = int(state.step)
  while done < num_steps:
    batch = batches.next_batches(steps_per_call)
    if several:  # of one process, the compiled call places host arrays itself, and faster
      batch = meshes.put_batch(batch, sharding)
    state, metrics = compiled(state, batch, key)
    done += steps_per_call
    window.push(done, metrics)
    for hook in hooks:
      if done % hook.every == 0:
        window.flush()
        if hook.call(state, done):
          return state, Ended.STOPPED
    if interrupted() and done < num_steps:
      window.flush()
      return state, Ended.INTERRUPTED
  window.flush()
  return state, Ended.FINISHED


def compile_step(step: TrainStep, state: TrainState, mesh: Mesh, steps_per_call: int, unroll: bool) -> Callable:
  """The jitted call of `steps_per_call` steps: state donated and kept on its shards, metrics packed and replicated.

  It takes host arrays as its batch: placing them first by `jax.device_put` costs more than the call does.
  """
  sharding, repeated = state_sharding(state, mesh), repeat_step(step, steps_per_call, unroll)

  def call(state, batch, key):
    state, metrics = repeated(state, batch, key)
    return state, pack(metrics)

  return jax.jit(call, donate_argnums=0, in_shardings=(sharding, meshes.batch_sharding(mesh, leading_axes=2), None),
                 out_shardings=(sharding, meshes.replicated(mesh)))


