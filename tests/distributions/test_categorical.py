"""Draws by logits over a temperature, however small or large it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.distributions import bernoulli, categorical, gaussian_mixture, logistic_mixture

KEY = jax.random.key(0)


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-39, 1e-10])
def test_towards_temperature_0_the_likeliest_levels_are_drawn(temperature):
  for logits, likeliest in (([-700.0, 3.0, -2.0], {1}), ([-700.0, -3.0, -np.inf], {1}), ([1.0, 1.0, -2.0], {0, 1})):
    drawn = categorical.sample(KEY, jnp.broadcast_to(jnp.asarray(logits), (200, 3)), temperature)
    assert set(np.unique(drawn)) == likeliest


@pytest.mark.parametrize("module", [gaussian_mixture, logistic_mixture])
def test_mixtures_towards_temperature_0(module):
  drawn = module.sample(KEY, jnp.array([-700.0, -3.0]), jnp.array([0.0, 5.0]), jnp.zeros(2), 1e-39)
  np.testing.assert_allclose(drawn, 5.0)


def test_large_temperatures_and_1():
  logits = jnp.array([-np.inf, 3.0, -2.0])
  np.testing.assert_allclose(jax.nn.softmax(categorical.tempered(logits, 1e300)), [0.0, 0.5, 0.5])
  np.testing.assert_array_equal(categorical.tempered(logits, 1.0), logits)


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-39])
def test_bits_towards_temperature_0(temperature):
  drawn = bernoulli.sample(KEY, jnp.broadcast_to(jnp.array([-0.1, 0.0, 3.0]), (200, 3)), temperature)
  np.testing.assert_allclose(drawn.mean(axis=0), [0.0, 0.5, 1.0], atol=0.2)
