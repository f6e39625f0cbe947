"""Penalties are of whole examples' gradients, at one point between each pair."""

import jax
import jax.numpy as jnp
import numpy as np

from gdm.adversarial.penalties import gradient_penalty, r1

KEY = jax.random.key(0)
SHAPE = (5, 3, 4, 2)


def test_norms_are_over_all_axes_of_an_example():
  slope = jax.random.normal(KEY, SHAPE[1:])

  def critic(x):
    return jnp.sum(slope * x, axis=(1, 2, 3))

  x = jax.random.normal(jax.random.key(1), SHAPE)
  norm = float(jnp.sqrt(jnp.sum(slope**2)))
  np.testing.assert_allclose(gradient_penalty(critic, x, -x, KEY), (norm - 1.0) ** 2, rtol=1e-4)
  np.testing.assert_allclose(r1(critic, x), 0.5 * norm**2, rtol=1e-5)


def test_a_pair_has_one_weight_for_all_its_pixels():
  def critic(x):
    return 0.5 * jnp.sum(x**2, axis=(1, 2, 3))  # whose gradient is the point itself

  zeros, ones = jnp.zeros(SHAPE), jnp.ones(SHAPE)
  # |w 1| - 1 for weights w: were they drawn for each pixel, norms would be alike.
  norms = 1.0 + np.sqrt(np.asarray(gradient_penalty(critic, ones, zeros, KEY))) * np.array([[1.0], [-1.0]])
  weights = np.asarray(jax.random.uniform(KEY, (5, 1, 1, 1))).ravel()
  nearest = np.min(np.abs(norms / np.sqrt(24) - weights), axis=0)
  np.testing.assert_allclose(nearest, 0.0, atol=1e-5)


def test_a_critic_without_a_slope_has_a_gradient_of_the_penalty():
  def loss(scale):
    x = jnp.ones(SHAPE)
    return jnp.sum(gradient_penalty(lambda x: scale * jnp.sum(x, axis=(1, 2, 3)), x, x, KEY))

  assert np.isfinite(jax.grad(loss)(0.0))
