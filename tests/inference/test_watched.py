"""What is recorded of chains shows modes that are each other's mirror image, which log f does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.energy.discrete.ising import Ising
from gdm.inference.diagnostics import rank_rhat
from gdm.inference.watched import first_component, watch

KEY = jax.random.key(0)


@pytest.mark.slow
def test_the_first_component_is_the_direction_of_the_largest_variance():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(200, 5)) @ np.diag([1.0, 4.0, 1.0, 2.0, 0.5]) @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 3.0
  expected = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][0]
  found = np.asarray(first_component(jnp.asarray(x)))
  np.testing.assert_allclose(abs(found @ expected), 1.0, atol=1e-3)
  assert not np.any(first_component(jnp.ones((4, 3))))  # there is none where nothing varies


def test_states_of_any_shape_and_type_are_watched():
  places = jnp.asarray(np.random.default_rng(0).integers(0, 2, (20, 2, 3)), jnp.uint8)
  found = jax.jit(watch(places))(places)
  np.testing.assert_allclose(found["mean"], np.mean(places, axis=(1, 2)), rtol=1e-6)
  assert found["component"].shape == (20,) and abs(float(jnp.mean(found["component"]))) < 1e-5


@pytest.mark.slow
def test_mirrored_modes_of_an_ising_model_are_seen():
  """Chains start half and half and never cross: log f agrees everywhere, and where they are does not."""
  model = Ising(DataSpec((10,), 2), num_temperatures=20)
  params, carry = model.init(KEY, {"x": np.random.default_rng(0).integers(0, 2, (500, 10)).astype(np.uint8)})
  params["base"] = {"logits": jnp.zeros(10)}
  params["model"] = {"couplings": 3.0 * jnp.ones((10, 10)), "bias": jnp.zeros(10)}
  info = model.sample(params, carry, KEY, 16, num_steps=60).info
  traces = {name: np.asarray(info[name], np.float64) for name in ("log_density", "mean", "component")}
  assert len(np.unique(traces["mean"].mean(axis=1) > 0.5)) == 2  # some in either
  settled = {name: trace[:, 10:] for name, trace in traces.items()}
  assert not rank_rhat(settled["log_density"] + 1e-6 * np.random.default_rng(0).normal(size=(16, 50))) > 1.2
  assert rank_rhat(settled["mean"]) > 2 and rank_rhat(settled["component"]) > 2
