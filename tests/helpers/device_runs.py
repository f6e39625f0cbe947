"""A few steps of any model on any mesh, from the same state and data, for comparing meshes."""

import functools

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils

import gdm.mesh
from gdm.mesh import batch_sharding, batch_shards, local_rows, make_mesh, put_batch
from gdm.training.loop import compile_step
from gdm.training.state import init_state, optimizers_for, state_shapes
from gdm.training.step import make_train_step
from helpers.small_models import BATCH, SMALL, small_batch, small_model
from helpers.toy_models import toy_batches

gdm.mesh.MIN_SPLIT = 1  # in processes of its own too

KEY = jax.random.key(0)
# What two processes compute: names, and the axis fsdp of their mesh.
TWO_PROCESSES = (("made", 1), ("made", 2))


def set_up(name, lead=1):
  """The model, its optimizers, and batches [lead, minibatches, batch, ...]; `name` is a registry's, or a toy."""
  model = small_model(name) if name in SMALL else name()
  # After one step its state is the gradient; slow, since a critic that runs away makes much of rounding errors.
  optimizers = optimizers_for(model, optax.sgd(1e-3, momentum=0.9))
  if name in SMALL:
    return model, optimizers, small_batch(model, (lead, sum(o.repeats for o in model.objectives)))
  return model, optimizers, toy_batches(model, lead, BATCH)


def run_steps(name, mesh, num_steps, dtype):
  """The state after `num_steps`, with every float of the first state and of the data in `dtype`."""
  model, optimizers, batches = set_up(name, lead=num_steps)
  example = {key: x[0, 0] for key, x in batches.items()}
  state = init_state(model, optimizers, KEY, example, ema=True, mesh=make_mesh(devices=jax.local_devices()[:1]))
  like = state_shapes(model, optimizers, example, ema=True, mesh=mesh)
  cast = functools.partial(_cast, dtype)
  state = jax.tree.map(lambda x, to: _place(cast(np.asarray(x)), to.sharding), state, like)
  batches = {key: cast(x)[:, :, local_rows(mesh, x.shape[2])] for key, x in batches.items()}
  one = {key: x[:1] for key, x in batches.items()}
  compiled = compile_step(make_train_step(model, optimizers, ema_decay=0.9), state, one, mesh)
  votes = None
  for i in range(num_steps):
    batch = {key: x[i:i + 1] for key, x in batches.items()}
    if jax.process_count() > 1:
      batch = put_batch(batch, batch_sharding(mesh, leading_axes=2))
      votes = _place(np.zeros(batch_shards(mesh), np.int32), batch_sharding(mesh, leading_axes=0))
    state, _, _ = compiled.call(state, batch, KEY, votes)
    jax.block_until_ready(state)  # eight devices on two cores: steps that overlap can starve each other's sums
  return multihost_utils.process_allgather(state, tiled=True) if jax.process_count() > 1 else jax.device_get(state)


def assert_same_gradients(gradients, expected):
  """Within 1e-5, relative, with a floor of 1e-5 of the leaf's largest entry, or of a tenth of the gradient's largest.

  Some leaves have no gradient but the rounding of sums that cancel, as those before a normalization.
  """
  leaves, others = jax.tree.leaves(gradients), jax.tree.leaves(expected)
  least = 0.1 * max(np.abs(other).max() for other in others)
  for leaf, other in zip(leaves, others, strict=True):
    np.testing.assert_allclose(leaf, other, rtol=1e-5, atol=1e-5 * max(np.abs(other).max(), least))


def _cast(dtype, x):
  return x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x


def _place(x, sharding):
  return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
