"""The one train step: it differentiates each objective with respect to the groups it moves, and knows no family.

Two optimizers, replay chains, batch statistics, learned schedules and averaging all pass through the same lines.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Float, Key

from gdm import platforms
from gdm.errors import ConfigError, nearest
from gdm.mesh import constrain_batch
from gdm.model import Batch, Carry, Mean, Model, Objective, PyTree
from gdm.precision import highest_precision
from gdm.stages import STAGE
from gdm.training.precision import bfloat16_products
from gdm.training.state import Optimizers, TrainState, averages_of, check_optimizers
from gdm.training.streams import stream_key

_logger = logging.getLogger(__name__)

Metrics = Mapping[str, Mean]
# (state, batch [minibatches, batch, ...], root key) -> (state, metrics)
TrainStep = Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, Metrics]]

# What a gradient function is computed in.
PRECISIONS: Mapping[str, Callable[[Callable], Callable]] = {
    "float32": lambda gradient: gradient,  # products as the machine has them: on TPUs and newer GPUs rounded
    "bfloat16": bfloat16_products,
    "highest": lambda gradient: highest_precision()(gradient),
}

# What of the forward pass is kept for the backward pass; the rest is computed again there.
REMATERIALIZATIONS: Mapping[str, Callable[[Callable], Callable]] = {
    "none": lambda loss: loss,  # everything is kept
    "products": functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable),
    "stages": functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names(STAGE)),
}


def apply_objective(objective: Objective, optimizers: Optimizers, state: TrainState, batch: Batch,
                    key: Key[Array, ""], *, accumulate: int = 1, axis_name: str | None = None, unroll: bool = True,
                    precision: str = "float32", remat: str = "none") -> tuple[TrainState, Metrics]:
  """One update of the groups that `objective` moves, on one minibatch.

  Args:
    objective: the loss and its groups; all other groups are constants to it.
    optimizers: parameter group -> optimizer.
    state: the state before; its `step` is left for the caller to advance.
    batch: one minibatch, leaves [batch, ...].
    key: the key of this update.
    accumulate: micro-batches whose gradients are averaged before the update; it must divide the batch. The update is
      the one of the whole minibatch, in expectation over what the loss draws (exactly where it draws nothing, or in
      `Objective.prepare`), at the memory of one micro-batch and one more gradient. "statistics" of the carry all start
      from the state before and are averaged; other entries ("chains") go from micro-batch to micro-batch.
    axis_name: with a name, gradients and metrics are reduced over it, for use under `jax.pmap` and `jax.shard_map`.
    unroll: write micro-batches out instead of looping over them; on the CPU backend the weight gradient of a
      convolution inside a loop is many times slower.
    precision: "bfloat16" computes matrix products and convolutions of the loss and its gradient in bfloat16, with sums
      in float32; parameters, and all other arithmetic, stay float32 (see `gdm.training.precision`). "float32" leaves
      products as the machine has them by default, which on a TPU or a newer GPU are rounded; "highest" does not (see
      `gdm.precision`).
    remat: what the backward pass finds of the forward pass, to save memory: "none" computes nothing again, "products"
      all but matrix products, "stages" all but the outputs of the network's stages (see `gdm.stages`). On a
      CPU it saves nothing: the compiler there merges what is computed twice.

  Returns:
    The state after, and the metrics of the minibatch, the loss and the gradient norm among them.

  Raises:
    ConfigError: `accumulate` does not divide the batch, or the loss is one of whole minibatches only.
  """
  _check_accumulate(objective, accumulate)
  if accumulate > 1 and "chains" in state.carry:
    _logger.info("The chains move in each of the %d micro-batches of a step (training.accumulate).", accumulate)
  moved = {group: state.params[group] for group in objective.groups}

  @_named("training.remat", REMATERIALIZATIONS, remat)
  def loss(moved, carry, batch, key):
    out = objective.loss({**state.params, **moved}, carry, batch, key, state.step)
    return out.loss, out

  gradient = _named("training.precision", PRECISIONS, precision)(jax.grad(loss, has_aux=True))

  if axis_name is not None:
    key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
  if objective.prepare is not None:
    batch = objective.prepare(state.params, state.carry, batch, jax.random.fold_in(key, 0))

  def micro_step(carry, indexed):
    index, batch = indexed
    grads, out = gradient(moved, carry, jax.tree.map(constrain_batch, batch), jax.random.fold_in(key, index))
    return grads, out.carry, {"loss": Mean.of(out.loss), **out.metrics}

  grads, carry, metrics = _accumulated(micro_step, moved, state.carry, batch, accumulate, unroll)
  if axis_name is not None:
    grads = jax.lax.pmean(grads, axis_name)
    metrics = jax.lax.psum(metrics, axis_name)
    carry = {name: jax.lax.pmean(tree, axis_name) if name == "statistics" else tree for name, tree in carry.items()}

  params, opt_state = dict(state.params), dict(state.opt_state)
  for group in objective.groups:
    updates, opt_state[group] = optimizers[group].update(grads[group], state.opt_state[group], params[group])
    params[group] = optax.apply_updates(params[group], updates)
    if objective.project is not None:
      params[group] = objective.project(params[group])
  metrics = {**metrics, "grad_norm": Mean.of(optax.tree.norm(grads))}
  return TrainState(state.step, params, carry, opt_state, state.ema), metrics


def make_train_step(model: Model, optimizers: Optimizers, *, ema_decay: float = 0.0, accumulate: int = 1,
                    axis_name: str | None = None, unroll: bool = True, precision: str = "float32",
                    remat: str = "none") -> TrainStep:
  """One training step of any model: every objective in order, `repeats` times each, then the averages.

  Args:
    model: any `Model` with objectives.
    optimizers: parameter group -> optimizer.
    ema_decay: decay of the running averages; the state must have been made with `ema=True` when it is above 0. It is
      warmed up as min(decay, (1 + step) / (10 + step)).
    accumulate: micro-batches per minibatch.
    axis_name: name of a mapped axis over which to average, None under `jax.jit`.
    unroll: write repeats and micro-batches out instead of looping (see `apply_objective`).
    precision: "float32", "bfloat16" or "highest" products (see `apply_objective`).
    remat: "none", "products" or "stages" (see `apply_objective`).

  Returns:
    `step(state, batch, key) -> (state, metrics)`: pure and not compiled, for `jax.jit(step, donate_argnums=0)`,
    `jax.pmap` or `jax.shard_map`. The batch leads with `sum(repeats)` minibatches: leaves [minibatches, batch, ...].
    Metrics of models with several objectives are prefixed by the objective's name.

  Raises:
    ConfigError: an option out of range, an optimizer that is missing or none, a loss that micro-batches would change.
      The step itself raises it, when it is traced, for a batch of other minibatches and for a state that was made for
      other optimizers or without the averages that `ema_decay` needs.
  """
  objectives = model.objectives
  if not objectives:
    raise ConfigError(f"{type(model).__name__} has no objectives: it is fitted by `solve`, not by training steps.")
  check_optimizers(model, optimizers)
  if not 0.0 <= ema_decay < 1.0:
    raise ConfigError(f"training.ema_decay is {ema_decay}; it must be in [0, 1).")
  for objective in objectives:
    if not is_count(objective.repeats):
      raise ConfigError(f"the objective {objective.name} of {type(model).__name__} has repeats {objective.repeats!r}; "
                        "it must be an integer of at least 1.")
    _check_accumulate(objective, accumulate)
  _named("training.precision", PRECISIONS, precision)
  _named("training.remat", REMATERIALIZATIONS, remat)

  def step(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
    _check_minibatches(batch, objectives)
    _check_state(state, optimizers, ema_decay)
    all_metrics, first = {}, 0
    for index, objective in enumerate(objectives):
      objective_key = stream_key(key, f"objective/{index}", state.step)

      def update(state, indexed, objective=objective, objective_key=objective_key):
        repeat, minibatch = indexed
        return apply_objective(objective, optimizers, state, minibatch, jax.random.fold_in(objective_key, repeat),
                               accumulate=accumulate, axis_name=axis_name, unroll=unroll, precision=precision,
                               remat=remat)

      last = first + objective.repeats
      minibatches = (jnp.arange(objective.repeats), jax.tree.map(lambda x, a=first, b=last: x[a:b], batch))
      state, metrics = _loop(update, state, minibatches, objective.repeats, unroll)
      prefix = _prefix(objectives, objective)
      all_metrics |= {prefix + name: jax.tree.map(lambda m: jnp.sum(m, axis=0), mean)
                      for name, mean in metrics.items()}
      first = last
    if state.ema:
      decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
      averages = jax.tree.map(lambda old, new: _average(old, new, decay), state.ema,
                              averages_of(state.params, state.carry))
    else:
      averages = state.ema
    return TrainState(state.step + 1, state.params, state.carry, state.opt_state, averages), all_metrics

  return step


def loss_units(model: Model) -> dict[str, str]:
  """Return the unit of each objective's loss by the name that the loss has among a step's metrics."""
  return {f"{_prefix(model.objectives, objective)}loss": objective.unit for objective in model.objectives}


def _prefix(objectives: Sequence[Objective], objective: Objective) -> str:
  return f"{objective.name}/" if len(objectives) > 1 else ""


def repeat_step(step: TrainStep, num_steps: int, unroll: bool = True) -> TrainStep:
  """`num_steps` steps in one dispatch: the batch leads with steps, [num_steps, minibatches, batch, ...].

  Metrics come back per step, [num_steps], so that a loss that is not finite is still known by its step.
  """
  if not is_count(num_steps):
    raise ConfigError(f"num_steps is {num_steps!r}; it must be an integer of at least 1.")

  def steps(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
    for name, shape in _shapes(batch).items():
      if shape[:1] != (num_steps,):
        raise ConfigError(f"batch[{name!r}] has shape {list(shape)}; it must be [{num_steps} steps, minibatches, "
                          "batch, ...].")
    return _loop(lambda state, batch: step(state, batch, key), state, batch, num_steps, unroll)

  return steps


def is_count(value: Any) -> bool:
  """Return whether a value is an integer of at least 1."""
  return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def _accumulated(micro_step: Callable, moved: PyTree, start: Carry, batch: Batch, parts: int,
                 unroll: bool) -> tuple[PyTree, Carry, Metrics]:
  """Return gradient, carry and metrics of a minibatch, from those of its `parts` micro-batches.

  Only sums are kept: a stack of the parts' gradients would take `parts` times the memory of the parameters.
  """
  split = (jnp.arange(parts), _split(batch, parts))
  first = jax.tree.map(lambda x: x[0], split)
  if parts == 1:
    return micro_step(start, first)

  @jax.jit
  def add(sums, carry, part):
    # Statistics of each part begin where the minibatch began, as on each device: their mean is the whole's.
    begin = {name: start[name] for name in start if name == "statistics"}
    grads, after, metrics = micro_step({**carry, **begin}, part)
    more = grads, {name: after[name] for name in begin}, metrics
    sums = jax.tree.map(lambda total, x: total + x.astype(total.dtype), sums, more)
    return sums, {**after, **{name: carry[name] for name in begin}}

  def add_next(state, part):
    state, part = jax.lax.optimization_barrier((state, part))
    if not unroll or platforms.backend() != "cpu":
      return add(*state, part), None
    # XLA's CPU compiler drops barriers before it fuses, and would add all parts in one fusion; calls it leaves apart.
    with set_xla_metadata(inlineable="false"):
      return add(*state, part), None

  statistics = {name: start[name] for name in start if name == "statistics"}
  like = (moved, statistics, jax.eval_shape(micro_step, start, first)[2])
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)), like)
  (sums, carry), _ = _loop(add_next, (zeros, start), split, parts, unroll)
  grads, statistics = jax.tree.map(lambda total, x: (total / parts).astype(x.dtype), sums[:2], like[:2])
  return grads, {**carry, **statistics}, sums[2]


def _check_accumulate(objective: Objective, accumulate: int) -> None:
  """Raise ConfigError unless a minibatch of the objective may be split into so many micro-batches."""
  if not is_count(accumulate):
    raise ConfigError(f"training.accumulate is {accumulate!r}; it must be an integer of at least 1.")
  if accumulate > 1 and objective.whole_batch:
    raise ConfigError(f"training.accumulate is {accumulate}, but {objective.whole_batch}, so that micro-batches would "
                      "train another model; set training.accumulate to 1.")


def _check_minibatches(batch: Batch, objectives: Sequence[Objective]) -> None:
  """Raise ConfigError unless every entry is [minibatches, batch, ...] with one minibatch per repeat."""
  needed = sum(objective.repeats for objective in objectives)
  shapes = _shapes(batch)
  sizes = {shape[1] for shape in shapes.values() if len(shape) > 1}
  for name, shape in shapes.items():
    if len(shape) < 2 or shape[0] != needed or len(sizes) > 1 or not shape[1]:
      each = ", ".join(f"{objective.repeats} of {objective.name}" for objective in objectives)
      raise ConfigError(f"batch[{name!r}] has shape {list(shape)}; it must be [{needed}, batch, ...], one minibatch "
                        f"for each repeat of an objective ({each}), with the same number of examples in every entry; "
                        "of one minibatch x it is x[None].")


def _check_state(state: TrainState, optimizers: Optimizers, ema_decay: float) -> None:
  """Raise ConfigError unless the state was made for these optimizers, with averages where they are asked for."""
  if ema_decay and not state.ema:
    raise ConfigError(f"training.ema_decay is {ema_decay}, but the state has no averages; make it by "
                      "init_state(..., ema=True).")
  for group, optimizer in optimizers.items():
    expected = jax.tree.structure(jax.eval_shape(optimizer.init, state.params[group]))
    if group not in state.opt_state or jax.tree.structure(state.opt_state[group]) != expected:
      raise ConfigError(f"opt_state[{group!r}] of the state is not of the optimizer of that group; give init_state and "
                        "make_train_step the same optimizers.")


def _shapes(batch: Any) -> dict[str, tuple[int, ...]]:
  """Return the shapes of a batch's entries. Raise ConfigError where it is no mapping, or has none."""
  if not isinstance(batch, Mapping) or not batch:
    raise ConfigError(f"the batch is {'empty' if isinstance(batch, Mapping) else f'a {type(batch).__name__}'}; it must "
                      'be a dict of arrays, with the examples as "x".')
  return {name: np.shape(x) for name, x in batch.items()}


def _named(field: str, table: Mapping[str, Any], name: str) -> Any:
  """Return the entry `name` of a table of options, or a ConfigError with the nearest name."""
  if name not in table:
    raise ConfigError(f"{field} is {name!r}; {nearest(name, table)}")
  return table[name]


def _average(old: Float[Array, "*shape"], new: Float[Array, "*shape"], decay: Array) -> Array:
  return (decay * old + (1.0 - decay) * new).astype(old.dtype)


def _split(batch: Batch, parts: int) -> Batch:
  """[batch, ...] -> [parts, batch / parts, ...], strided so that each device's examples stay on it."""
  def split(x):
    if x.shape[0] % parts:
      raise ConfigError(f"training.accumulate is {parts}, which does not divide the batch of {x.shape[0]}.")
    return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)

  return jax.tree.map(split, batch)


def _loop(body: Callable, init: Any, xs: Any, length: int, unroll: bool) -> tuple[Any, Any]:
  """`jax.lax.scan`, or the same written out."""
  if not unroll and length > 1:
    return jax.lax.scan(body, init, xs)
  state, ys = init, []
  for i in range(length):
    state, y = body(state, jax.tree.map(lambda x, i=i: x[i], xs))
    ys.append(y)
  return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ys)
