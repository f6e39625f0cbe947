"""Integrals whose values are known: sharp, slanting, far apart, heavy-tailed, cut off; and alarms where they fail."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.inference import quadrature
from gdm.inference.quadrature import climb, log_integral

EXACT = 0.01  # nats within which an integral counts as exact


def bells(x, means, roots, log_weights):
  """log of a sum of Gaussian bells of heights exp(log_weights), by roots of their precisions."""
  each = [weight - 0.5 * jnp.sum(jnp.square((x - mean) @ root), axis=-1)
          for mean, root, weight in zip(means, roots, log_weights, strict=True)]
  return functools.reduce(jnp.logaddexp, each)


def radius(x):
  return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1) + 1e-12)


# Further densities by a number or two: a ring, a cube and a ball with walls around them, Student's t, Laplace's.
OTHERS = {
    "ring": lambda x, a, b: -0.5 * jnp.square((radius(x) - a) / b),
    "cube": lambda x, a, b: jnp.where(jnp.all(jnp.abs(x - a) < 1.0, axis=-1), 0.0, b),
    "ball": lambda x, a, b: jnp.where(radius(x) < a, 0.0, b),
    "student": lambda x, a, b: -a * jnp.log1p(jnp.sum(jnp.square(x), axis=-1) / b),
    "corners": lambda x, a, b: -jnp.sum(jnp.abs(x - a) / b, axis=-1),
    "slope": lambda x, a, b: a * x[:, 0],
    "hole": lambda x, a, b: jnp.where(jnp.abs(x[:, 0] - a) < b, jnp.nan, -jnp.sum(jnp.square(x), axis=-1)),
}


@functools.partial(jax.jit, static_argnames="num_dims")  # of one program for all, since it takes seconds to compile
def integral(num_dims, half_width, means, roots, log_weights, which, numbers):
  def log_density(x):
    every = [bells(x, means, roots, log_weights), *(of(x, *numbers) for of in OTHERS.values())]
    return jnp.stack(every)[which]

  return log_integral(log_density, num_dims, half_width)


def of_bells(half_width, *each):
  """Found, and the truth; each bell has a mean, a covariance, and the log of its height."""
  num_dims = len(each[0][0])
  each = (*each, each[0])[:2] if len(each) == 2 else (each[0], (each[0][0], each[0][1], -1e9))
  means, covariances, log_weights = (np.array(part, float) for part in zip(*each, strict=True))
  truth = np.logaddexp.reduce(log_weights + 0.5 * np.linalg.slogdet(2 * math.pi * covariances)[1])
  roots = np.linalg.cholesky(np.linalg.inv(covariances))
  return integral(num_dims, half_width, *(jnp.asarray(part, jnp.float32) for part in (means, roots, log_weights)),
                  0, (0.0, 1.0)), truth


def of_other(num_dims, half_width, name, *numbers):
  idle = jnp.zeros((2, num_dims)), jnp.zeros((2, num_dims, num_dims)), jnp.zeros(2)
  return integral(num_dims, half_width, *idle, 1 + list(OTHERS).index(name), numbers)


def correlated(rho):
  return [[1.0, rho], [rho, 1.0]]


def student(num_dims, freedom):
  """The numbers of Student's t, and the log of its integral."""
  power = 0.5 * (freedom + num_dims)
  return (power, freedom), (math.lgamma(0.5 * freedom) - math.lgamma(power)
                            + 0.5 * num_dims * math.log(freedom * math.pi))


def around(deviation):
  """Of a thin ring of radius 2.5."""
  return math.log(2 * math.pi * 2.5 * deviation * math.sqrt(2 * math.pi))


NARROW, WIDE = 1e-4 * np.eye(2), np.eye(2)
BELLS = {  # half the box; means, covariances and heights
    "line": (32.0, ([0.3], [[1.0]], 0.0)),
    "sharp on a line": (32.0, ([0.1234], [[1e-4]], 0.0)),
    "sharper, far out": (32.0, ([7.77], [[1e-6]], 0.0)),
    "two on a line": (80.0, ([-30.0], [[1e-4]], 0.0), ([31.0], [[4.0]], -4.0)),
    "plane": (32.0, ([3.3, -2.7], WIDE, 0.0)),
    "sharp": (32.0, ([3.3, -2.7], NARROW, 0.0)),
    "long": (160.0, ([3.3, -2.7], np.diag([1e-4, 100.0]), 0.0)),
    "0.9": (32.0, ([1.0, -0.5], correlated(0.9), 0.0)),
    "0.999": (32.0, ([1.0, -0.5], correlated(0.999), 0.0)),
    "0.99999": (32.0, ([1.0, -0.5], correlated(0.99999), 0.0)),
    "far apart": (60.0, ([20.0, 20.0], 100 * NARROW, 0.0), ([-22.0, 3.0], 4 * WIDE, -3.0)),
    "a wide one and a sharp one": (8.0, ([0.0, 0.0], WIDE, 0.0), ([0.55, -0.77], NARROW, 5.0)),
    "beyond the box": (9.0, ([9.0, 0.0], WIDE, 0.0)),
}


@pytest.mark.fast_cases("a wide one and a sharp one", "beyond the box", "0.9", "far apart")
@pytest.mark.parametrize("name", BELLS)
def test_bells_count_as_exact_and_are_no_further_off_than_is_stated(name):
  found, truth = of_bells(*BELLS[name])
  assert abs(float(found.nats) - truth) <= float(found.error) + 2e-6 < EXACT


@pytest.mark.fast_cases(
    "1-32.0-cube-numbers0-0.6931471805599453", "2-16.0-ring-numbers2-2.2868119703682823",
    "2-64.0-corners-numbers8-1.3862943611198906")
@pytest.mark.parametrize("num_dims, half_width, name, numbers, truth", [
    (1, 32.0, "cube", (0.3, -math.inf), math.log(2.0)),
    (1, 500.0, "student", *student(1, 3)),
    (2, 16.0, "ring", (2.5, 0.25), around(0.25)),
    (2, 16.0, "ring", (2.5, 0.02), around(0.02)),
    (2, 32.0, "cube", (0.3, -math.inf), math.log(4.0)),
    (2, 32.0, "cube", (-0.17, -1e4), math.log(4.0)),
    (2, 32.0, "ball", (1.0, -math.inf), math.log(math.pi)),
    (2, 1000.0, "student", *student(2, 3)),
    (2, 64.0, "corners", (0.1, 1.0), 2 * math.log(2.0)),
])
def test_other_shapes_are_too(num_dims, half_width, name, numbers, truth):
  found = of_other(num_dims, half_width, name, *numbers)
  assert abs(float(found.nats) - truth) <= float(found.error) + 2e-6 < EXACT


@pytest.mark.fast_cases("1")
@pytest.mark.parametrize("num_dims", [1, 2])
def test_wherever_a_sharp_peak_falls_it_is_found(num_dims):
  places = np.random.default_rng(0).uniform(-16.0, 16.0, (10, num_dims))
  for place in (*places, np.zeros(num_dims)):
    for scale in (0.003, 0.1, 3.0):
      found, truth = of_bells(32.0, (place, scale**2 * np.eye(num_dims), 0.0))
      assert abs(float(found.nats) - truth) <= float(found.error) + 2e-6
      assert abs(float(found.nats) - truth) < EXACT


@pytest.mark.slow
def test_what_cannot_be_found_is_no_exact_number():
  cut = of_bells(1.5, ([0.0], [[1.0]], 0.0))
  outside = of_bells(16.0, ([60.0, 0.0], WIDE, 0.0))
  cauchy = of_other(1, 20.0, "student", *student(1, 1)[0]), student(1, 1)[1]
  for found, truth in (cut, outside, cauchy):
    assert float(found.error) > EXACT and abs(float(found.nats) - truth) < float(found.error) + 2e-6
  assert float(of_other(2, 16.0, "ring", 2.5, 1e-3).error) > EXACT  # of too many cells


def test_what_has_no_integral_is_infinitely_wrong():
  assert np.isposinf(of_other(1, 100.0, "slope", 3.0, 0.0).error)


def test_a_value_that_is_no_number_is_not_passed_over():
  assert np.isnan(of_other(1, 9.0, "hole", 0.3, 0.2).nats)


@pytest.mark.slow
def test_a_needle_that_no_cell_sees_is_seen_by_a_hint():
  """Of a hundred-thousandth of the plateau's width and most of the mass: no grid knows of it, data and chains do."""
  means, roots, log_weights = jnp.array([[0.0], [3.1234]]), jnp.array([[[1.0]], [[1e5]]]), jnp.array([0.0, 14.0])
  plateau = 0.5 * math.log(2 * math.pi)
  truth = plateau + math.log1p(math.exp(14.0 - math.log(1e5)))
  found = jax.jit(lambda hints: log_integral(lambda x: bells(x, means, roots, log_weights), 1, 32.0, hints=hints))
  np.testing.assert_allclose(found(jnp.array([[0.7], [0.5]])).nats, plateau, atol=1e-4)
  for hint in (3.1234, 3.1234 + 1e-5):
    seen = found(jnp.array([[hint], [0.5]]))
    assert abs(float(seen.nats) - truth) <= float(seen.error)
    assert float(seen.error) > EXACT  # its place itself is rounded, to a fortieth of its width
    assert abs(float(seen.nats) - truth) < 0.1


@pytest.mark.slow
def test_a_box_may_lie_anywhere_and_hints_change_nothing_where_nothing_was_overlooked():
  covariance = np.array([[1.0, 0.05], [0.05, 0.01]])
  means, roots = jnp.array([[10.0, -20.0]]), jnp.asarray(np.linalg.cholesky(np.linalg.inv(covariance)))[None]
  hints = 0.1 * jax.random.normal(jax.random.key(0), (50, 2)) + means
  found = jax.jit(lambda hints: log_integral(
      lambda x: bells(x, means, roots, jnp.zeros(1)), 2, jnp.array([20.0, 2.0]), centre=jnp.array([11.0, -20.05]),
      scale=jnp.array([1.0, 0.1]), hints=hints))(hints)
  truth = math.log(2 * math.pi) + 0.5 * np.linalg.slogdet(covariance)[1]
  assert abs(float(found.nats) - truth) <= float(found.error) + 1e-5 < EXACT


@pytest.mark.parametrize("num_dims", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_gradient_is_the_mean_of_log_f_s(num_dims):
  """Under jit, with what is differentiated closed over; d log Z / d log precision of a Gaussian is -1/2."""
  def nats(log_precision):
    return log_integral(lambda x: -0.5 * jnp.sum(jnp.square(x) * jnp.exp(log_precision), axis=-1), num_dims, 32.0).nats

  at = jnp.linspace(0.5, 3.0, num_dims)
  for gradient in (jax.jit(jax.grad(nats)), *([jax.grad(jax.jit(nats))] if num_dims == 2 else [])):
    np.testing.assert_allclose(gradient(at), -0.5, atol=1e-4)


def test_the_rules_are_of_their_degrees():
  nodes, kronrod, gauss = quadrature._nodes(jnp.full((1, 1), -1.0), jnp.full((1, 1), 2.0))
  nodes = np.asarray(nodes, np.float64)[0, :, 0]
  for degree in range(12):
    truth = 0.0 if degree % 2 else 1.0 / (degree + 1)
    np.testing.assert_allclose(kronrod @ nodes**degree, truth, atol=1e-6)
    if degree < 6:
      np.testing.assert_allclose(gauss @ nodes**degree, truth, atol=1e-6)


def test_points_climb_to_the_peaks_that_they_stand_on():
  means, roots = jnp.array([[5.0, 1.0], [-6.0, 0.5]]), jnp.array([2.0, 0.5])[:, None, None] * jnp.eye(2)
  found = jax.jit(lambda x: climb(lambda x: bells(x, means, roots, jnp.zeros(2)), x, jnp.full(2, 4.0)))(
      jnp.array([[4.0, 0.0], [-3.0, -3.0]]))
  np.testing.assert_allclose(found, means, atol=1e-3)


def test_three_dimensions_are_refused():
  with pytest.raises(ConfigError, match="quadrature over 3 dimensions was asked for; it takes at most 2"):
    log_integral(lambda u: u[:, 0], 3, 1.0)
