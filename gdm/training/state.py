"""Everything a run needs to go on: step, parameters, carry, optimizers, averages."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from gdm import mesh as meshes
from gdm.errors import ConfigError
from gdm.model import Batch, Carry, Model, Params, PyTree
from gdm.training.streams import stream_key

Optimizers = Mapping[str, optax.GradientTransformation]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The state of a run after `step` steps.

  Attributes:
    step: steps taken.
    params: parameter group -> parameters.
    carry: non-parameter state; see `gdm.model.Carry`.
    opt_state: parameter group -> its optimizer's state.
    ema: {} without averaging, else {"params": ..., "carry": its statistics}: running averages, never aliases.
  """

  step: Any  # Int[Array, ""], or its sharding or shape where a whole state of those is meant
  params: Params
  carry: Carry
  opt_state: Mapping[str, PyTree]
  ema: Mapping[str, PyTree]

  @property
  def averaged(self) -> tuple[Params, Carry]:
    """Parameters and carry to evaluate with: the averages where they are kept, else the live ones."""
    if not self.ema:
      return self.params, self.carry
    return self.ema["params"], {**self.carry, **self.ema["carry"]}


def averages_of(params: Params, carry: Carry) -> dict[str, PyTree]:
  """Return the part of the state that is averaged: parameters and statistics, but not chains."""
  return {"params": params, "carry": {name: carry[name] for name in carry if name == "statistics"}}


def moved_groups(model: Model) -> tuple[str, ...]:
  """Return the parameter groups that some objective moves, each once, in order."""
  return tuple(dict.fromkeys(group for objective in model.objectives for group in objective.groups))


def optimizers_for(model: Model, optimizer: optax.GradientTransformation,
                   overrides: Optimizers | None = None) -> Optimizers:
  """One optimizer per moved group: `optimizer`, or the group's own from `overrides`."""
  if overrides is not None and not isinstance(overrides, Mapping):
    raise ConfigError(f"overrides is a {type(overrides).__name__}; it must be a dict, parameter group -> optimizer.")
  given = dict.fromkeys(moved_groups(model), optimizer) | dict(overrides or {})
  check_optimizers(model, given)
  return given


def check_optimizers(model: Model, optimizers: Any) -> None:
  """Raise ConfigError unless `optimizers` is a dict of one optimizer for every group that an objective moves."""
  groups = moved_groups(model)
  example = "{" + ", ".join(f"{group!r}: optax.adam(1e-3)" for group in groups) + "}"
  if not isinstance(optimizers, Mapping):
    raise ConfigError(f"optimizers is a {type(optimizers).__name__}; it must be a dict with one optimizer for each "
                      f"parameter group: {example}.")
  if missing := [group for group in groups if group not in optimizers]:
    raise ConfigError(f"optimizers has none for {missing[0]!r}; there must be one per parameter group: {example}.")
  if unknown := sorted(map(str, set(optimizers) - set(groups))):
    raise ConfigError(f"optimizers are given for {unknown}, but the model's objectives move {sorted(groups)}.")
  for group, optimizer in optimizers.items():
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
      raise ConfigError(f"optimizers[{group!r}] is {optimizer!r}; it must be an optax.GradientTransformation, as "
                        "optax.adam(1e-3).")


def init_state(model: Model, optimizers: Optimizers, key: Key[Array, ""], batch: Batch, *,
               ema: bool = False, mesh: Mesh | None = None) -> TrainState:
  """Return a fresh state, created already sharded over `mesh`.

  Args:
    model: the model.
    optimizers: parameter group -> optimizer, for every group that an objective moves.
    key: root key of the run; the stream "init" is drawn from it.
    batch: examples [batch, *event] for data-dependent initialization; others ignore all but its shape.
    ema: whether to keep running averages.
    mesh: where the state lives; all devices by default.

  Example, in code outside this repository:

    optimizers = {"model": optax.adam(1e-3)}
    state = init_state(model, optimizers, jax.random.key(0), {"x": x[:100]}, ema=True)
    step = jax.jit(make_train_step(model, optimizers, ema_decay=0.999), donate_argnums=0)
    state, metrics = step(state, {"x": x[None, :100]}, jax.random.key(0))
  """
  shapes = state_shapes(model, optimizers, batch, ema=ema, mesh=mesh)
  sharding = jax.tree.map(lambda leaf: leaf.sharding, shapes)
  return jax.jit(_initializer(model, optimizers, ema), out_shardings=sharding)(key, batch)


def state_shapes(model: Model, optimizers: Optimizers, batch: Mapping[str, Any], *, ema: bool = False,
                 mesh: Mesh | None = None) -> TrainState:
  """Return the result of `init_state` as shapes with dtypes and shardings: where to restore a checkpoint to."""
  check_optimizers(model, optimizers)
  shapes = jax.eval_shape(_initializer(model, optimizers, ema), jax.random.key(0), batch)
  return jax.tree.map(lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                      shapes, state_sharding(shapes, mesh or meshes.make_mesh()))


def _initializer(model: Model, optimizers: Optimizers, ema: bool) -> Callable[[Key[Array, ""], Batch], TrainState]:
  def init(key, batch):
    params, carry = model.init(stream_key(key, "init", 0), batch)
    if unknown := [group for group in moved_groups(model) if group not in params]:
      raise ConfigError(f"an objective of {type(model).__name__} moves the group {unknown[0]!r}, but its parameters "
                        f"have the groups {sorted(params)}.")
    opt_state = {group: optimizers[group].init(params[group]) for group in moved_groups(model)}
    # Copies: the step donates the state, and an aliased buffer cannot be donated twice.
    averages = jax.tree.map(jnp.copy, averages_of(params, carry)) if ema else {}
    return TrainState(jnp.zeros((), jnp.int32), params, carry, opt_state, averages)

  return init


def state_sharding(state: TrainState, mesh: Mesh) -> TrainState:
  """Return the sharding of every leaf: one rule for parameters, optimizer states and averages; chains over `data`.

  Raise ConfigError where the devices cannot share the chains evenly.
  """
  def by_parameter_rule(tree):
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: meshes.parameter_sharding(mesh, leaf.shape, names_of(path)), tree)

  def everywhere(sharding, tree):
    return jax.tree.map(lambda _: sharding, tree)

  for leaf in jax.tree.leaves(state.carry.get("chains", {})):
    if leaf.shape[0] % mesh.shape[meshes.DATA]:
      raise ConfigError(f"the model keeps its chains in {leaf.shape[0]} shards; that must be a multiple of the "
                        f"{mesh.shape[meshes.DATA]} devices along the mesh's data axis, which share them.")
  whole, chains = meshes.replicated(mesh), meshes.chain_sharding(mesh)
  carry = {name: everywhere(chains if name == "chains" else whole, tree) for name, tree in state.carry.items()}
  ema = {name: by_parameter_rule(tree) if name == "params" else everywhere(whole, tree)
         for name, tree in state.ema.items()}
  return TrainState(whole, by_parameter_rule(state.params), carry, by_parameter_rule(state.opt_state), ema)


def names_of(path: tuple[Any, ...]) -> tuple[str, ...]:
  """Return the names along a path of a tree: keys of dicts, attributes, places in sequences."""
  return tuple(jax.tree_util.keystr((each,), simple=True) for each in path)


def leaf_shapes(params: Params) -> dict[tuple[str, ...], tuple[int, ...]]:
  """Return the shape of every parameter, by its path."""
  return {names_of(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def count_parameters(params: Params) -> int:
  """Number of scalars in all groups."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
