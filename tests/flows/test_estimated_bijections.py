"""Bijections whose determinants are estimated: against closed forms and the Jacobian, in value and in gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.flows.bijections.bijection import DETAILS, PENALTIES, is_estimated
from gdm.flows.bijections.continuous import Continuous
from gdm.flows.bijections.residual import (
  Contraction,
  InvertibleResidual,
  log_det_by_series,
  log_det_of_jacobian,
  spectral_norm,
)
from gdm.flows.ffjord import FFJORD
from gdm.flows.residual_flow import ResidualFlow
from gdm.likelihood import Kind

KEY = jax.random.key(0)
PLANE = DataSpec((2,), None)


class Field(nn.Module):
  """x -> x A, whatever the time."""

  @nn.compact
  def __call__(self, x, given=None):
    return x @ self.param("matrix", jax.nn.initializers.zeros, (x.shape[-1], x.shape[-1]), x.dtype)


def params_of(matrix):
  return {"params": {"velocity": {"matrix": matrix}}}


def test_a_linear_field_moves_by_the_exponential_of_its_matrix():
  matrix = 0.7 * jax.random.normal(KEY, (3, 3))
  x = jax.random.normal(jax.random.key(1), (5, 3))
  flow = Continuous(Field(), tolerance=1e-7)
  (y, log_det), found = flow.apply(params_of(matrix), x, mutable=[DETAILS])
  np.testing.assert_allclose(y, x @ jax.scipy.linalg.expm(matrix), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(log_det, jnp.trace(matrix), rtol=1e-4)
  assert found[DETAILS]["nfe"][0] > 6 and found[DETAILS]["unsolved"] == (0,)


def test_probes_give_the_trace_on_average_and_are_those_of_training_alone():
  matrix = 0.7 * jax.random.normal(KEY, (3, 3))
  x = jnp.ones((4000, 3))
  flow = Continuous(Field(), tolerance=1e-5)
  trained, found = flow.apply(params_of(matrix), x, rngs={"probe": KEY}, mutable=[PENALTIES])
  assert np.std(trained.log_det) > 0.1
  assert abs(np.mean(trained.log_det) - jnp.trace(matrix)) < 5 * np.std(trained.log_det) / np.sqrt(4000)
  scored = flow.apply(params_of(matrix), x, rngs={"probe": KEY})
  np.testing.assert_allclose(scored.log_det, jnp.trace(matrix), rtol=1e-4)
  assert not found  # no weight, no penalty


@pytest.mark.slow
def test_penalties_are_of_the_path():
  flow = Continuous(Field(), tolerance=1e-6, kinetic=2.0, jacobian=3.0)
  x = jnp.ones((8, 2))
  variables = params_of(jnp.zeros((2, 2)))
  _, found = flow.apply(variables, x, rngs={"probe": KEY}, mutable=[PENALTIES])
  assert all(penalty == (0.0,) for penalty in found[PENALTIES].values())
  turn = params_of(jnp.array([[0.0, 1.0], [-1.0, 0.0]]))  # |v| = |x|, and the mean square of its derivative is 1
  _, found = flow.apply(turn, x, rngs={"probe": KEY}, mutable=[PENALTIES])
  np.testing.assert_allclose(found[PENALTIES]["kinetic"][0], 2.0, rtol=1e-4)
  np.testing.assert_allclose(found[PENALTIES]["jacobian"][0], 3.0, rtol=1e-4)


def test_a_tolerance_out_of_reach_is_told():
  flow = Continuous(Field(), tolerance=1e-6)
  x = jnp.full((2, 2), 1e3)
  (y, _), found = flow.apply(params_of(1e6 * jnp.eye(2)), x, mutable=[DETAILS])
  assert np.isnan(y).all() and found[DETAILS]["unsolved"] == (1,)


def branch():
  module = Contraction((8,), 0.7)
  variables = module.init(KEY, jnp.zeros((1, 3)))
  leaves, tree = jax.tree.flatten(variables)
  rng = np.random.default_rng(0)
  return module, jax.tree.unflatten(tree, [a + rng.normal(size=a.shape).astype(np.float32) for a in leaves])


@pytest.mark.slow
def test_the_series_is_unbiased_in_value_and_gradient():
  module, variables = branch()
  x = jax.random.normal(KEY, (2, 3))

  def exact(variables):
    return jnp.sum(log_det_of_jacobian(lambda x: module.apply(variables, x), x))

  def estimate(variables, key):
    return jnp.sum(log_det_by_series(lambda x: module.apply(variables, x), x, key, 1))

  value, gradient = jax.value_and_grad(exact)(variables)
  draws = jax.jit(lambda keys: jax.vmap(lambda key: jax.value_and_grad(estimate)(variables, key))(keys))
  values, gradients = draws(jax.random.split(KEY, 20_000))
  for found, true in zip(jax.tree.leaves((values, gradients)), jax.tree.leaves((value, gradient)), strict=True):
    error = np.std(found, axis=0) / np.sqrt(20_000)
    assert np.all(np.abs(np.mean(found, axis=0) - true) < 5 * error + 1e-4)
  assert abs(value) > 0.1  # far enough from 0 to be told from it
  assert np.std(values) / np.sqrt(20_000) < 0.02 * abs(value)


def test_a_contraction_is_one():
  module, variables = branch()
  x, y = jax.random.normal(KEY, (2, 1000, 3))
  made = module.apply(variables, x) - module.apply(variables, y)
  ratio = jnp.linalg.norm(made, axis=1) / jnp.linalg.norm(x - y, axis=1)
  assert 0.1 < np.max(ratio) <= 0.7
  matrix = jax.random.normal(KEY, (5, 3))
  np.testing.assert_allclose(spectral_norm(matrix), np.linalg.norm(matrix, 2), rtol=1e-5)
  np.testing.assert_allclose(spectral_norm(matrix.T), np.linalg.norm(matrix, 2), rtol=1e-5)
  u, _, v = np.linalg.svd(matrix)
  np.testing.assert_allclose(jax.grad(spectral_norm)(matrix), np.outer(u[:, 0], v[0]), atol=1e-4)
  for coefficient in (0.0, 1.0):
    with pytest.raises(ConfigError, match="coefficient"):
      Contraction((8,), coefficient)


def test_what_is_no_contraction_is_told():
  block = InvertibleResidual(Field())
  double, flip = ({"params": {"branch": {"matrix": scale * jnp.eye(1)}}} for scale in (2.0, -3.0))
  x = jnp.ones((2, 1))
  (back, _), found = block.apply(double, x, method="inverse", mutable=[DETAILS])
  assert np.isnan(back).all() and found[DETAILS]["unsolved"] == (1,)
  assert np.isnan(block.apply(flip, x).log_det).all()  # the determinant is -2


@pytest.mark.fast_cases("model2-lower_bound")
@pytest.mark.parametrize(("model", "kind"), [
    (ResidualFlow(PLANE, num_blocks=1, hidden=(4,)), Kind.EXACT),
    (ResidualFlow(PLANE, num_blocks=1, hidden=(4,), exact=False), Kind.ESTIMATE),
    (ResidualFlow(DataSpec((2,), 3), num_blocks=1, hidden=(4,)), Kind.LOWER_BOUND),
    (FFJORD(PLANE, hidden=(4,)), Kind.ESTIMATE)])
def test_numbers_say_what_they_are(model, kind):
  x = jnp.ones((8, 2), jnp.float32 if model.spec.levels is None else jnp.int32)
  params, carry = model.init(KEY, {"x": x})
  found = model.log_likelihood(params, carry, {"x": x}, KEY)
  assert found.kind is kind is model.kind
  assert is_estimated(model.bijection) == (kind is Kind.ESTIMATE)
  assert np.isfinite(found.nats).all()
  drawn = model.sample(params, carry, KEY, 4)
  assert drawn.info["solved"]
