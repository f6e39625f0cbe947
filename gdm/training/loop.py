"""The loop around the compiled step: it feeds batches, gathers metrics, and calls hooks at their steps.

It imports no evaluator, no data source and no checkpoint format: validation, logging and saving are hooks.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from gdm import mesh as meshes
from gdm.errors import ConfigError, NotFiniteError
from gdm.training.metrics import MetricsWindow, pack
from gdm.training.state import TrainState, state_sharding
from gdm.training.step import TrainStep, is_count, repeat_step


@runtime_checkable
class BatchSource(Protocol):
  """A source of batches; `gdm.data.loader.Loader` is one."""

  def next_batches(self, k: int | None = None) -> Mapping[str, np.ndarray]:
    """Return the next k steps' batches: leaves [k, minibatches, rows, ...], this process's rows of each batch."""
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


@dataclasses.dataclass(frozen=True)
class CompiledStep:
  """A compiled call of `steps_per_call` steps on a mesh.

  Attributes:
    call: (state, batch, key, votes) -> (state, packed metrics, whether any process votes to stop).
    steps_per_call: steps of a call.
    mesh: where it runs.
    flops: floating-point operations of one step over all devices, as the compiler counts them before it optimizes;
      what is in a loop is counted once. None where the compiler does not say.
    temporary_bytes: memory of one device beyond its part of the state and the batch. None likewise.
  """

  call: Callable
  steps_per_call: int
  mesh: Mesh
  flops: float | None
  temporary_bytes: int | None


def fit(step: TrainStep | CompiledStep, state: TrainState, batches: BatchSource, *, key: Key[Array, ""],
        num_steps: int, steps_per_call: int = 1, unroll: bool = True, mesh: Mesh | None = None,
        window: MetricsWindow | None = None, hooks: Sequence[Hook] = (),
        interrupted: Callable[[], bool] = lambda: False,
        diagnose: Callable[[TrainState], str] = lambda state: "") -> tuple[TrainState, Ended]:
  """Train from `state.step` to `num_steps`.

  Args:
    step: from `make_train_step`, not compiled; or from `compile_step`, to which `steps_per_call`, `unroll` and `mesh`
      were given then.
    state: from `init_state` or a checkpoint; donated, so not to be used afterwards.
    batches: serves the batches that follow `state.step`.
    key: root key of the run, the same after a resume.
    num_steps: steps in all, those before a resume included.
    steps_per_call: steps per dispatch; it must divide num_steps and every hook's period.
    unroll: write these steps out instead of looping over them (see `gdm.training.step.apply_objective`).
    mesh: the mesh of the state; all devices by default.
    window: gathers the metrics; by default one that drops them.
    hooks: called in order after their steps, with metrics up to that step already emitted.
    interrupted: asked after each call; a true answer ends the loop. Of several processes one answer ends all of them,
      at the same step.
    diagnose: asked of the state where a metric is not finite, up to two calls after its step; what it says ends the
      error's message.

  Returns:
    The state after the last step, and why the loop ended.

  Raises:
    ConfigError: an argument of another kind, or steps_per_call does not divide a period; a batch of other minibatches
      than the step takes.
    NotFiniteError: a metric is NaN or infinite; names the step.
  """
  _check_kinds(step, state, batches, key, hooks, window)
  if isinstance(step, CompiledStep):
    steps_per_call, mesh = step.steps_per_call, step.mesh
  for name, count in [("steps_per_call", steps_per_call), ("num_steps", num_steps),
                      *((f"the period of hook {i}", hook.every) for i, hook in enumerate(hooks))]:
    if not is_count(count):
      raise ConfigError(f"{name} is {count!r}; it must be an integer of at least 1.")
    if count % steps_per_call:
      raise ConfigError(f"training.steps_per_call is {steps_per_call}, which does not divide {name} ({count}).")
  mesh = mesh or meshes.make_mesh()
  window = window or MetricsWindow(1, lambda step, row: None)
  sharding = meshes.batch_sharding(mesh, leading_axes=2)
  several = jax.process_count() > 1
  ballot = _Ballot(mesh)
  done = int(state.step)
  try:
    while done < num_steps:
      batch = batches.next_batches(steps_per_call)
      if not isinstance(step, CompiledStep):
        step = compile_step(step, state, batch, mesh, steps_per_call, unroll)
      # Of one process, the compiled call places host arrays itself, and on a CPU faster.
      if several and not all(isinstance(x, jax.Array) for x in batch.values()):
        batch = meshes.put_batch(batch, sharding)
      state, metrics, stop = step.call(state, batch, key, ballot.cast(interrupted) if several else None)
      done += steps_per_call
      window.push(done, metrics)
      for hook in hooks:
        if done % hook.every == 0:
          window.flush()
          if hook.call(state, done):
            return state, Ended.STOPPED
      if (ballot.count(stop) if several else interrupted()) and done < num_steps:
        window.flush()
        return state, Ended.INTERRUPTED
    window.flush()
  except NotFiniteError as error:
    words = diagnose(state)
    raise NotFiniteError(f"{error} {words}" if words else str(error)) from error
  return state, Ended.FINISHED


def _check_kinds(step: Any, state: Any, batches: Any, key: Any, hooks: Any, window: Any) -> None:
  """Raise ConfigError for an argument of `fit` that is of another kind than it must be."""
  if not isinstance(hooks, Sequence):
    raise ConfigError(f"hooks is a {type(hooks).__name__}; it must be a sequence of Hooks.")
  key_like = hasattr(key, "dtype") and (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.dtype == jnp.uint32)
  for name, value, right, must in (
      ("step", step, callable(step) or isinstance(step, CompiledStep),
       "what make_train_step or compile_step returns (of a LoweredStep, its compile())"),
      ("state", state, isinstance(state, TrainState), "a TrainState, as init_state returns it"),
      ("batches", batches, isinstance(batches, BatchSource),
       "an object with next_batches(k), as gdm.data.loader.Loader"),
      ("key", key, key_like, "a JAX key, as jax.random.key(0)"),
      ("window", window, window is None or isinstance(window, MetricsWindow), "a MetricsWindow, or None"),
      *((f"hooks[{i}]", hook, isinstance(hook, Hook), "a Hook(every, call)") for i, hook in enumerate(hooks))):
    if not right:
      raise ConfigError(f"{name} is a {type(value).__name__}; it must be {must}.")


@dataclasses.dataclass(frozen=True)
class LoweredStep:
  """A call of `steps_per_call` steps that is traced, so that what cannot be has been told, and not yet compiled."""

  lowered: Any
  steps_per_call: int
  mesh: Mesh
  unroll: bool

  def compile(self) -> CompiledStep:
    with jax.set_mesh(self.mesh):
      compiled = self.lowered.compile()
    flops = (self.lowered.cost_analysis() or {}).get("flops")
    memory = compiled.memory_analysis()
    return CompiledStep(compiled, self.steps_per_call, self.mesh,
                        flops and flops / (self.steps_per_call if self.unroll else 1),
                        None if memory is None else memory.temp_size_in_bytes)


def lower_step(step: TrainStep, state: TrainState, batch: Mapping[str, Any], mesh: Mesh, steps_per_call: int = 1,
               unroll: bool = True) -> LoweredStep:
  """Trace a call of `steps_per_call` steps: state donated and kept on its shards, metrics packed and replicated.

  It takes host arrays as its batch: placing them first by `jax.device_put` costs more than the call does. And it is
  compiled ahead of time, which makes the call of a small step faster by a fifth.

  Args:
    step: from `make_train_step`.
    state: the state, or its shapes.
    batch: what one call gets of this process, [steps_per_call, minibatches, rows, ...], or its shapes.
    mesh: the mesh of the state.
    steps_per_call: steps of a call.
    unroll: write them out instead of looping over them.

  Raises:
    ConfigError: the devices cannot share the batch.
    UserError: what else the model finds wrong with such a batch.
  """
  shapes = {name: _whole_shape(x, mesh) for name, x in batch.items()}
  meshes.require_divisible(mesh, next(iter(shapes.values())).shape[2], "data.batch_size")
  repeated = repeat_step(step, steps_per_call, unroll)

  def call(state, batch, key, votes):
    state, metrics = repeated(state, batch, key)
    return state, pack(metrics), None if votes is None else jnp.max(votes)

  sharding, whole = state_sharding(state, mesh), meshes.replicated(mesh)
  votes = None if jax.process_count() == 1 else _Ballot(mesh).shape
  jitted = jax.jit(call, donate_argnums=0, out_shardings=(sharding, whole, whole),
                   in_shardings=(sharding, meshes.batch_sharding(mesh, leading_axes=2), None, _Ballot(mesh).sharding))
  with jax.set_mesh(mesh):
    key = jax.eval_shape(lambda: jax.random.key(0))  # its shape: the devices of the mesh need not be here
    return LoweredStep(jitted.lower(state, shapes, key, votes), steps_per_call, mesh, unroll)


def compile_step(step: TrainStep, state: TrainState, batch: Mapping[str, Any], mesh: Mesh, steps_per_call: int = 1,
                 unroll: bool = True) -> CompiledStep:
  """Compiles a call of `steps_per_call` steps; see `lower_step`."""
  return lower_step(step, state, batch, mesh, steps_per_call, unroll).compile()


class _Ballot:
  """The vote of processes on the step to stop after: each votes with every call, and the answer is read one call late.

  The device counts, as part of the step, so that nobody waits for anybody.
  """

  def __init__(self, mesh: Mesh):
    self.sharding = meshes.batch_sharding(mesh, leading_axes=0)
    self.shape = jax.ShapeDtypeStruct((meshes.batch_shards(mesh),), jnp.int32)
    self._local = meshes.local_shards(mesh)
    self._previous: Any = None

  def cast(self, stop: Callable[[], bool]) -> jax.Array:
    return meshes.put_batch(np.full(self._local, stop(), np.int32), self.sharding)

  def count(self, result: jax.Array) -> bool:
    """Return whether anybody voted to stop before the previous call; `result` is the latest one's."""
    previous, self._previous = self._previous, result
    return previous is not None and bool(previous)


def _whole_shape(local: Any, mesh: Mesh) -> jax.ShapeDtypeStruct:
  """Shape and dtype of the batch of which this process serves the rows [steps, minibatches, rows, ...]."""
  if len(local.shape) < 3:
    raise ConfigError(f"an entry of the batch has shape {list(local.shape)}; it must be [steps, minibatches, batch, "
                      "...].")
  steps, minibatches, rows, *event = local.shape
  return jax.ShapeDtypeStruct((steps, minibatches, meshes.whole_batch_size(mesh, rows), *event), local.dtype)
