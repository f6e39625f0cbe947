"""The same numbers on one device and on eight, however they are arranged, for every model there is."""

import functools
import importlib

import chex
import jax
import numpy as np
import optax
import pytest
from small_models import BATCH, SMALL, small_batch, small_model
from toy_models import TRAINED_TOYS, toy_batches

from experiments.registry import MODELS
from gdm.errors import ConfigError
from gdm.mesh import make_mesh, require_divisible, shard_bytes
from gdm.model import HasSolve
from gdm.training.loop import compile_step
from gdm.training.state import init_state, optimizers_for, state_shapes
from gdm.training.step import make_train_step

KEY = jax.random.key(0)
MESHES = {"data=8": (8, 1), "data=4,fsdp=2": (8, 2), "fsdp=8": (8, 8)}
ALL = [*SMALL, *TRAINED_TOYS]


def _mesh(arrangement):
  num, fsdp = (1, 1) if arrangement == "one" else MESHES[arrangement]
  return make_mesh(fsdp, jax.devices()[:num])


def _setup(name, seed=0, lead=1):
  """The model, its optimizers, and batches [lead, minibatches, batch, ...]."""
  model = small_model(name) if isinstance(name, str) else name()
  # After one step its state is the gradient; slow, since a critic that runs away makes much of rounding errors.
  optimizers = optimizers_for(model, optax.sgd(1e-3, momentum=0.9))
  if isinstance(name, str):
    return model, optimizers, small_batch(model, (lead, sum(o.repeats for o in model.objectives)), seed)
  return model, optimizers, toy_batches(model, lead, BATCH, seed)


def _run(name, arrangement, num_steps, dtype):
  """The state after `num_steps`, every float of the first state and of the data in `dtype`."""
  mesh = _mesh(arrangement)
  model, optimizers, batches = _setup(name, lead=num_steps)
  example = {key: x[0, 0] for key, x in batches.items()}
  state = init_state(model, optimizers, KEY, example, ema=True, mesh=_mesh("one"))
  like = state_shapes(model, optimizers, example, ema=True, mesh=mesh)
  cast = functools.partial(_cast, dtype)
  state = jax.tree.map(lambda x, to: jax.device_put(cast(np.asarray(x)), to.sharding), state, like)
  batches = {key: cast(x) for key, x in batches.items()}
  one = {key: x[:1] for key, x in batches.items()}
  compiled = compile_step(make_train_step(model, optimizers, ema_decay=0.9), state, one, mesh)
  for i in range(num_steps):
    state, _, _ = compiled.call(state, {key: x[i:i + 1] for key, x in batches.items()}, KEY, None)
    jax.block_until_ready(state)  # eight devices on two cores: steps that overlap can starve each other's sums
  return jax.device_get(state)


def _cast(dtype, x):
  return x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x


@functools.cache
def _gradients_on_one(name):
  return _run(name, "one", 1, np.float32).opt_state


@functools.cache
def _fifty_on_one(name):
  return _run(name, "one", 50, np.float64)


def test_every_trained_model_is_among_them():
  trained = {name for name, (module, builder) in MODELS.items()
             if not issubclass(getattr(importlib.import_module(module), builder), HasSolve)} - {"ensemble"}
  assert trained == set(SMALL)


@pytest.mark.parametrize("arrangement", MESHES)
@pytest.mark.parametrize("name", ALL)
def test_gradients_equal_those_of_one_device(name, arrangement):
  gradients = _run(name, arrangement, 1, np.float32).opt_state
  for leaf, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(_gradients_on_one(name)), strict=True):
    np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-5 * max(np.abs(expected).max(), 1e-3))


@pytest.mark.parametrize("arrangement", [pytest.param("data=8", marks=pytest.mark.slow), "data=4,fsdp=2",
                                         pytest.param("fsdp=8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ALL)
def test_fifty_steps_equal_those_of_one_device_in_float64(name, arrangement):
  with jax.enable_x64(True):
    chex.assert_trees_all_close(_run(name, arrangement, 50, np.float64), _fifty_on_one(name), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("fsdp", [1, 2, 4, 8])
def test_bytes_per_device_fall_as_one_over_fsdp(fsdp):
  model, optimizers, batches = _setup("made")
  example = {key: x[0, 0] for key, x in batches.items()}
  state = init_state(model, optimizers, KEY, example, ema=True, mesh=make_mesh(fsdp))
  parts = (state.params, state.opt_state, state.ema["params"])
  for part in parts:
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(part))
    assert shard_bytes(part) == sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(part))
    # A first layer of 15 inputs is split along its units; all sizes here are divisible along some axis.
    assert shard_bytes(part) == whole // fsdp


def test_devices_that_cannot_share_a_batch_are_told():
  with pytest.raises(ConfigError, match=r"data.batch_size is 20; .* number of devices, 8, .*: 16 or 24, say"):
    require_divisible(make_mesh(), 20, "data.batch_size")
  model, optimizers, batches = _setup("fvsbn")
  state = init_state(model, optimizers, KEY, {key: x[0, 0] for key, x in batches.items()})
  short = {key: x[:, :, :10] for key, x in batches.items()}
  with pytest.raises(ConfigError, match=r"data\.batch_size is 10"):
    compile_step(make_train_step(model, optimizers), state, short, make_mesh())
