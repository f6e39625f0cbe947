"""Temperatures of every model that takes one: none below 0 or NaN, and where 0 is allowed it is the mode."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_models import COMPOSED, SMALL, SOLVED, small_model

from gdm.distributions import categorical, discretized_logistic
from gdm.errors import ConfigError
from gdm.model import HasSample

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", [*SMALL, *SOLVED, *COMPOSED])
def test_a_temperature_below_zero_is_refused_before_anything_is_drawn(name):
  """A mixture's draws were NaN, a table's its least probable states, and at NaN all were the level 0."""
  model = small_model(name)
  if not isinstance(model, HasSample) or "temperature" not in inspect.signature(model.sample).parameters:
    return
  for temperature in (-1.0, float("nan"), float("inf")):
    with pytest.raises(ConfigError, match=f"temperature is {temperature}; it must be "):
      model.sample({}, {}, KEY, 2, temperature=temperature)


def test_temperature_0_is_the_mode():
  """Log-probabilities over 0 are all -inf, of which the first was drawn."""
  logits = jnp.log(jnp.array([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]]))
  for temperature in (0.0, 1e-30, 1e-3):
    np.testing.assert_array_equal(categorical.sample(KEY, logits, temperature), [2, 0])
  mixture = discretized_logistic.LogisticMixture(
      jnp.log(jnp.array([[0.3, 0.7]])), jnp.array([[[-1.0, 1.0]]]), jnp.zeros((1, 1, 2)), jnp.zeros((1, 0, 2)))
  assert discretized_logistic.sample(KEY, mixture, 5, 0.0).tolist() == [[4]]


def test_other_temperatures_draw_as_before():
  logits = jax.random.normal(KEY, (50, 4))
  np.testing.assert_array_equal(categorical.sample(KEY, logits, 0.7), jax.random.categorical(KEY, logits / 0.7))
