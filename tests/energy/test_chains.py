"""Persistent chains are part of the state: saved and restored bit for bit, and a divergence is named by its step."""

import chex
import jax
import numpy as np
import optax
import pytest
from helpers.small_models import small_batch, small_model

from gdm.errors import NotFiniteError
from gdm.mesh import make_mesh
from gdm.training import checkpoint
from gdm.training.loop import fit
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

KEY = jax.random.key(0)


def _set_up(name, rate=1e-2, num=6):
  model = small_model(name)
  optimizers, batches = optimizers_for(model, optax.adam(rate)), small_batch(model, (num, 1))
  mesh = make_mesh(devices=jax.devices()[:1])
  state = init_state(model, optimizers, KEY, {"x": batches["x"][0, 0]}, ema=True, mesh=mesh)
  return state, make_train_step(model, optimizers, ema_decay=0.9), batches["x"], mesh


@pytest.mark.slow
def test_a_restored_run_goes_on_bit_for_bit_with_its_chains(tmp_path):
  state, step, x, _ = _set_up("rbm")
  step = jax.jit(step)
  writer, unbroken = checkpoint.Checkpointer(tmp_path / "checkpoints"), state
  for i in range(6):
    unbroken, _ = step(unbroken, {"x": x[i]}, KEY)
    if i == 2:
      writer.save(3, unbroken, {})
  writer.close()
  resumed = checkpoint.restore(tmp_path / "checkpoints", 3, state).state
  assert np.any(np.asarray(resumed.carry["chains"]) != np.asarray(state.carry["chains"]))
  for i in range(3, 6):
    resumed, _ = step(resumed, {"x": x[i]}, KEY)
  chex.assert_trees_all_equal(resumed, unbroken)


@pytest.mark.slow
def test_chains_that_diverge_are_an_error_with_their_step():
  """Weights that grow without limit take a Gaussian's chains beyond any number."""
  state, step, x, mesh = _set_up("gaussian_rbm", rate=1e3, num=40)

  class Batches:
    def next_batches(self, k=None):
      return {"x": x[:1]}

  with pytest.raises(NotFiniteError, match=r"is (nan|-?inf) at step \d+"):
    fit(step, state, Batches(), key=KEY, num_steps=40, mesh=mesh)
