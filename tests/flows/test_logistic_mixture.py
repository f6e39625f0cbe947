"""The elementwise transform of Flow++: monotone, inverted with the right gradients, near the identity at first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.flows.bijections.logistic_mixture import LogisticMixtureCDF

TRANSFORM = LogisticMixtureCDF(3)
PARAMETERS = jax.random.normal(jax.random.key(0), (6, TRANSFORM.num_parameters))


@pytest.mark.slow
def test_is_monotone_and_its_slope_is_autodiffs():
  x = jnp.linspace(-30.0, 30.0, 501)
  parameters = jnp.broadcast_to(PARAMETERS[0], (501, TRANSFORM.num_parameters))
  y, log_det = TRANSFORM.forward(x, parameters)
  assert np.all(np.diff(y) > 0)
  slope = jax.vmap(jax.grad(lambda x, p: TRANSFORM.forward(x, p).value))(x, parameters)
  np.testing.assert_allclose(log_det, jnp.log(slope), atol=1e-4)


@pytest.mark.slow
def test_the_inverses_gradients_are_those_of_the_implicit_function():
  y = jax.random.normal(jax.random.key(1), (6,))
  x = TRANSFORM.inverse(y, PARAMETERS).value
  by_y, by_parameters = jax.grad(lambda y, p: jnp.sum(TRANSFORM.inverse(y, p).value), argnums=(0, 1))(y, PARAMETERS)
  forward_x, forward_p = jax.grad(lambda x, p: jnp.sum(TRANSFORM.forward(x, p).value), argnums=(0, 1))(x, PARAMETERS)
  np.testing.assert_allclose(by_y, 1.0 / forward_x, rtol=1e-3)
  np.testing.assert_allclose(by_parameters, -forward_p / forward_x[:, None], rtol=1e-2, atol=1e-4)


def test_starts_near_the_identity():
  x = jnp.linspace(-3.0, 3.0, 13)
  y, log_det = TRANSFORM.forward(x, jnp.zeros((13, TRANSFORM.num_parameters)))
  np.testing.assert_allclose(y, x, atol=0.5)
  assert np.abs(log_det).max() < 0.2
