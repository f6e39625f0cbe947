"""Mixtures of Gaussians and of logistics: densities that integrate to one, stable tails, draws that follow them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from gdm.distributions import gaussian_mixture, logistic_mixture

KEY = jax.random.key(0)
FAMILIES = {"gaussian": (gaussian_mixture, scipy.stats.norm), "logistic": (logistic_mixture, scipy.stats.logistic)}
each_family = pytest.mark.parametrize(("module", "reference"), FAMILIES.values(), ids=FAMILIES)
numbers = st.lists(st.tuples(st.floats(-4, 4), st.floats(-50, 50), st.floats(-5, 4)), min_size=3, max_size=3)


def parameters(rows):
  """Three components' logits, means and log-scales, float32."""
  return tuple(jnp.asarray(column, jnp.float32) for column in zip(*rows, strict=True))


def expected_log_prob(reference, logits, means, log_scales, x):
  """The same density in float64 by SciPy."""
  logits, means, log_scales, x = (np.asarray(value, np.float64) for value in (logits, means, log_scales, x))
  each = reference.logpdf(x[..., None], means, np.exp(log_scales))
  return scipy.special.logsumexp(scipy.special.log_softmax(logits, axis=-1) + each, axis=-1)


@pytest.mark.slow
@each_family
@given(numbers)
@settings(max_examples=40)
def test_densities_integrate_to_one_and_to_their_cdf(module, reference, rows):
  logits, means, log_scales = parameters(rows)
  # Each component's own quantiles as the grid, so that narrow and wide ones are resolved alike.
  quantiles = reference.ppf(np.linspace(1e-7, 1 - 1e-7, 4001))
  grid = np.sort(np.concatenate([np.asarray(m, float) + np.exp(float(s)) * quantiles
                                 for m, s in zip(means, log_scales, strict=True)]))

  @jax.jit
  def evaluate(logits, means, log_scales, x):
    spread = [jnp.broadcast_to(values, (x.size, 3)) for values in (logits, means, log_scales)]
    return module.log_prob(*spread, x), module.cdf(*spread, x)

  log_density, cdf = evaluate(logits, means, log_scales, jnp.asarray(grid, jnp.float32))
  integral = scipy.integrate.cumulative_trapezoid(np.exp(np.asarray(log_density, np.float64)), grid, initial=0.0)
  np.testing.assert_allclose(integral[-1], 1.0, atol=5e-3)
  np.testing.assert_allclose(integral, cdf, atol=5e-3)


@pytest.mark.fast_cases("logistic")
@each_family
def test_float32_agrees_with_float64_near_and_far(module, reference):
  keys = jax.random.split(KEY, 4)
  logits, means = 3 * jax.random.normal(keys[0], (200, 5)), 10 * jax.random.normal(keys[1], (200, 5))
  log_scales = jax.random.uniform(keys[2], (200, 5), minval=-3, maxval=3)
  x = jnp.logspace(-2, 4, 200) * jax.random.rademacher(keys[3], (200,))
  got = jax.jit(module.log_prob)(logits, means, log_scales, x)
  np.testing.assert_allclose(got, expected_log_prob(reference, logits, means, log_scales, x), rtol=2e-5, atol=2e-5)


@pytest.mark.fast_cases("1e-05-logistic", "1.0-gaussian", "1.0-logistic", "10000.0-gaussian", "10000.0-logistic")
@each_family
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e4])
def test_ten_thousand_scales_away_values_and_gradients_are_finite(module, reference, scale):
  x = jnp.asarray([-1e4, -50.0, 0.0, 50.0, 1e4]) * scale
  logits = jnp.tile(jnp.asarray([0.0, -30.0, 30.0]), (5, 1))
  means, log_scales = jnp.zeros((5, 3)), jnp.full((5, 3), np.log(scale))
  total, grads = jax.value_and_grad(lambda *args: module.log_prob(*args).sum(), argnums=(0, 1, 2, 3))(
      logits, means, log_scales, x)
  assert np.isfinite(total) and all(np.all(np.isfinite(grad)) for grad in grads)
  assert np.all(np.sign(grads[3][jnp.asarray([0, 1, 3, 4])]) == [1, 1, -1, -1])  # back to the mean


@pytest.mark.fast_cases("logistic")
@each_family
def test_draws_follow_the_density_at_any_temperature(module, reference):
  rows = [(0.5, -2.0, -1.0), (-0.3, 0.5, -0.5), (0.0, 4.0, 0.3)]
  logits, means, log_scales = (jnp.tile(values, (20_000, 1)) for values in parameters(rows))
  for temperature in (1.0, 0.5):
    draws = module.sample(KEY, logits, means, log_scales, temperature)
    flattened = (logits / temperature, means, log_scales + np.log(temperature))
    uniform = jax.jit(module.cdf)(*flattened, draws)
    assert scipy.stats.kstest(np.asarray(uniform), "uniform").pvalue > 1e-3


@pytest.mark.fast_cases("logistic")
@each_family
def test_towards_zero_temperature_draws_are_the_mean_of_the_heaviest_component(module, reference):
  logits, means, log_scales = (jnp.tile(values, (100, 1)) for values in parameters(
      [(0.1, -2.0, -1.0), (0.2, 0.5, 3.0), (0.0, 4.0, 0.3)]))
  np.testing.assert_allclose(module.sample(KEY, logits, means, log_scales, 1e-6), 0.5, atol=1e-3)
