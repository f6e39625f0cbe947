"""Rational-quadratic splines: monotone, invertible, with the derivatives of autodiff, sane wherever they are asked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdm.errors import ConfigError
from gdm.flows.bijections import spline
from gdm.flows.bijections.spline import Grid, spline_forward, spline_inverse
from gdm.flows.bijections.transforms import RationalQuadratic

GRID = Grid(num_bins=5, bound=2.0)
NUM = 64
forward, inverse = (jax.jit(f, static_argnums=0) for f in (spline_forward, spline_inverse))
seeds = st.integers(0, 2**32 - 1)
spreads = st.sampled_from([0.1, 1.0, 5.0, 30.0])


def draw(seed, spread, dtype, num=NUM):
  """Sorted numbers, most of them inside, and parameters of one spline for all of them."""
  rng = np.random.default_rng(seed)
  x = np.sort(rng.uniform(-1.3 * GRID.bound, 1.3 * GRID.bound, num))
  parameters = np.broadcast_to(rng.normal(size=GRID.num_parameters) * spread, (num, GRID.num_parameters))
  return jnp.asarray(x, dtype), jnp.asarray(parameters, dtype)


def knots(parameters, grid=GRID):
  """x and y of all knots of one spline, in float64: what the module never computes as such."""
  parameters = np.asarray(parameters, np.float64)

  def edges(u):
    sizes = np.exp(u - u.max())
    return grid.bound * (2 * np.cumsum([0, *(grid.minimum + grid.free * sizes / sizes.sum())]) - 1)

  return edges(parameters[:grid.num_bins]), edges(parameters[grid.num_bins:2 * grid.num_bins])


@settings(max_examples=30)
@given(seed=seeds, spread=spreads)
def test_is_monotone_and_undone(seed, spread):
  with jax.enable_x64(True):
    x, parameters = draw(seed, spread, jnp.float64)
    y, log_slope = forward(GRID, x, parameters)
    assert np.all(np.diff(y) > 0.0)
    back, log_back = inverse(GRID, y, parameters)
    # What rounding of y does to x is as large as the slope is small.
    np.testing.assert_allclose(back, x, atol=1e-12 * np.exp(max(0.0, -float(log_slope.min()))) + 1e-9)
    np.testing.assert_allclose(log_back, -log_slope, atol=1e-5 if spread > 5 else 1e-7)


@pytest.mark.slow
@settings(max_examples=15)
@given(seed=seeds, spread=st.sampled_from([0.1, 1.0, 3.0]))
def test_is_undone_in_float32(seed, spread):
  x, parameters = draw(seed, spread, jnp.float32)
  y, log_slope = forward(GRID, x, parameters)
  back, _ = inverse(GRID, y, parameters)
  assert np.all(np.diff(y) >= -1e-6)  # a few roundings
  np.testing.assert_allclose(back, x, atol=2e-6 * np.exp(max(0.0, -float(log_slope.min()))))


@functools.cache
def derivatives(direction):
  """The derivative of each value by its number, and all gradients by autodiff of the formulas without the module's."""
  function, formulas = {"forward": (spline_forward, spline._forward), "inverse": (spline_inverse, spline._inverse)
                        }[direction]

  def total(weights, x, parameters, function):
    value, log_slope = function(x, parameters)
    return jnp.sum(weights[0] * value + weights[1] * log_slope)

  def by_hand(weights, x, parameters):
    return jax.grad(total, (1, 2))(weights, x, parameters, functools.partial(function, GRID))

  def by_autodiff(weights, x, parameters):
    def plain(x, parameters):
      return formulas(GRID, x, parameters.T)[:2]

    return jax.grad(total, (1, 2))(weights, x, parameters, plain)

  return jax.jit(by_hand), jax.jit(by_autodiff)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@settings(max_examples=20)
@given(seed=seeds, spread=st.sampled_from([0.1, 1.0, 3.0]))
def test_derivatives_are_those_of_autodiff(direction, seed, spread):
  by_hand, by_autodiff = derivatives(direction)
  with jax.enable_x64(True):
    x, parameters = draw(seed, spread, jnp.float64)
    x = jnp.asarray(np.random.default_rng(seed).permutation(x))
    weights = jnp.asarray(np.random.default_rng(seed + 1).normal(size=(2, NUM)))
    ours, theirs = by_hand(weights, x, parameters), by_autodiff(weights, x, parameters)
    for one, other in zip(ours, theirs, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6 * float(jnp.abs(other).max()))
    # The log-slope is the log of the derivative.
    only_value = jnp.stack([jnp.ones(NUM), jnp.zeros(NUM)])
    function = {"forward": forward, "inverse": inverse}[direction]
    np.testing.assert_allclose(jnp.log(by_hand(only_value, x, parameters)[0]), function(GRID, x, parameters)[1],
                               atol=1e-9)


def test_second_derivatives():
  with jax.enable_x64(True):
    x, parameters = draw(3, 1.0, jnp.float64, num=6)

    def log_slope(x):
      return jnp.sum(spline_forward(GRID, x, parameters)[1])

    step = 1e-5
    slope = jax.jit(jax.grad(log_slope))
    curvature = jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(log_slope)(x))))(x)
    np.testing.assert_allclose(curvature, (slope(x + step) - slope(x - step)) / (2 * step), rtol=1e-3, atol=1e-3)


def test_starts_as_the_identity():
  x, parameters = draw(0, 0.0, jnp.float32)
  for function in (forward, inverse):
    y, log_slope = function(GRID, x, parameters)
    np.testing.assert_allclose(y, x, atol=1e-6)
    np.testing.assert_allclose(log_slope, 0.0, atol=1e-5)


@pytest.mark.fast_cases("1.0-False", "1.0-True", "30.0-False", "30.0-True")
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_edges_and_tails(wide, spread):
  with jax.enable_x64(wide):
    dtype = jnp.float64 if wide else jnp.float32
    _, parameters = draw(1, spread, dtype)
    x_knots, y_knots = knots(parameters[0])
    far = np.array([-np.inf, -1e30, -1e6, -GRID.bound * 1.0001, GRID.bound * 1.0001, 1e6, np.inf])
    numbers = np.resize(np.concatenate([x_knots, y_knots, far, [-GRID.bound, GRID.bound]]), NUM)
    weights = jnp.ones((2, NUM), dtype)
    ways = (forward, "forward", (x_knots, y_knots)), (inverse, "inverse", (y_knots, x_knots))
    for function, direction, edges in ways:
      value, log_slope = function(GRID, jnp.asarray(numbers, dtype), parameters)
      assert value.dtype == log_slope.dtype == dtype
      outside = np.abs(numbers) > GRID.bound
      np.testing.assert_array_equal(np.asarray(value)[outside], jnp.asarray(numbers, dtype)[outside])
      np.testing.assert_array_equal(np.asarray(log_slope)[outside], 0.0)
      assert np.all(np.isfinite(log_slope))
      for gradient in derivatives(direction)[0](weights, jnp.asarray(numbers, dtype), parameters):
        assert np.all(np.isfinite(gradient))
      if spread <= 1.0:  # knots go to knots
        made = function(GRID, jnp.asarray(np.resize(edges[0], NUM), dtype), parameters)[0]
        np.testing.assert_allclose(made, np.resize(edges[1], NUM), atol=1e-5)
      # It meets the tails with slope one.
      ends = function(GRID, jnp.asarray(np.resize([-GRID.bound, GRID.bound], NUM), dtype), parameters)
      np.testing.assert_allclose(ends[0], np.resize([-GRID.bound, GRID.bound], NUM), atol=1e-5)
      if spread <= 1.0:
        np.testing.assert_allclose(ends[1], 0.0, atol=1e-3)


def test_nan_stays_nan():
  x, parameters = draw(2, 1.0, jnp.float32)
  y, _ = forward(GRID, x.at[3].set(jnp.nan), parameters)
  np.testing.assert_array_equal(np.isnan(y), np.arange(NUM) == 3)


def test_each_number_has_its_own_spline_whatever_the_shape():
  grid, rng = Grid(3, 1.5), np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32)
  parameters = jnp.asarray(rng.normal(size=(2, 3, 4, grid.num_parameters)), jnp.float32)
  y, log_slope = forward(grid, x, parameters)
  flat = forward(grid, x.ravel(), parameters.reshape(-1, grid.num_parameters))
  np.testing.assert_allclose(y.ravel(), flat[0], atol=1e-6)
  np.testing.assert_allclose(log_slope.ravel(), flat[1], atol=1e-5)


@pytest.mark.parametrize(("fields", "message"), [
    ({"num_bins": 1}, "num_bins of a spline is 1"), ({"bound": 0.0}, "bound of a spline is 0.0"),
    ({"bound": float("inf")}, "bound of a spline is inf"), ({"minimum": 0.2}, "sum to less than 1"),
    ({"minimum": 0.0}, "minimum of a spline is 0.0")])
def test_splines_that_cannot_be_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    RationalQuadratic(**fields)
