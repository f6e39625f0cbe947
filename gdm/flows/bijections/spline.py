"""Monotonic rational-quadratic splines (Durkan et al., arXiv:1906.04032, section 3.1).

A map is a spline of `num_bins` bins on [-bound, bound] and the identity outside; the two meet with slope one. Each
number has its own unnormalized parameters: the bins' widths, the bins' heights, and the slopes at the inner knots. When
all parameters are zero, the spline is the identity.

Layout: bins lie along the first axis and the flattened numbers along the last, so that an operation on one bin is one
pass over contiguous memory. A network whose outputs come parameter by parameter needs no transposition.

Search: a number's bin is found by counting the knots below it. The values of that bin are then selected by comparisons
with the count and a sum. A gather would be shorter, but its gradient, a scatter, is slow on every backend.

Gradient: the backward pass is written out, because autodiff computes the sums again for each bin, which is ten times
slower on a CPU. So only reverse-mode derivatives exist, of any order.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm import checks
from gdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Grid:
  """The interval of a spline.

  Attributes:
    num_bins: bins; at least 2.
    bound: the spline covers [-bound, bound].
    minimum: least width and height of a bin, as fractions of the interval, and least slope at a knot.
  """

  num_bins: int = 8
  bound: float = 3.0
  minimum: float = 1e-3

  def __post_init__(self) -> None:
    checks.at_least("num_bins of a spline", self.num_bins, 2)
    if not 0.0 < self.bound < float("inf"):
      raise ConfigError(f"bound of a spline is {self.bound}; it must be finite and above 0.")
    if not 0.0 < self.minimum * self.num_bins < 1.0:
      raise ConfigError(f"minimum of a spline is {self.minimum} and num_bins {self.num_bins}; the bins' least widths "
                        "must be above 0 and sum to less than 1.")

  @property
  def num_parameters(self) -> int:
    return 3 * self.num_bins - 1

  @property
  def free(self) -> float:
    """The fraction of the interval that is left after every bin has its least width."""
    return 1.0 - self.minimum * self.num_bins

  @property
  def slope_offset(self) -> float:
    """Offset of the slopes' parameters, by which a parameter of zero gives a slope of 1."""
    return float(np.log(np.expm1(1.0 - self.minimum)))


class Bin(NamedTuple):
  """The bin of each number; lengths are fractions of the interval.

  Attributes:
    number: index of the bin, as a float.
    start: [2, numbers] lower left corner of the bin.
    size: [2, numbers] width and height of the bin.
    slopes: [2, numbers] parameters of the slopes at the bin's ends; 0 at the ends of the interval.
    log_scales: [2, numbers] log-normalizers: exp(parameter - log_scale) is a bin's size minus the minimum.
  """

  number: Float[Array, " numbers"]
  start: Float[Array, "2 numbers"]
  size: Float[Array, "2 numbers"]
  slopes: Float[Array, "2 numbers"]
  log_scales: Float[Array, "2 numbers"]


class Curve(NamedTuple):
  """The rational quadratic of each number's bin, with the symbols of section 3.1."""

  xi: Array  # the number's position in its bin, 0 to 1
  rest: Array  # 1 - xi
  s: Array  # height / width of the bin
  d0: Array  # slope at the bin's left end
  d1: Array  # slope at its right end


# The functions below work on flat numbers and on parameters [num, numbers].


def _total(terms: list[Array]) -> Array:
  return functools.reduce(jnp.add, terms)


def _find(grid: Grid, position: Array, axis: int, parameters: Array) -> Bin:
  """Return the bin that holds each position in [0, 1] along an axis: 0 is the axis of x, 1 that of y."""
  # Bin sizes as an unnormalized softmax, [2, bins, numbers].
  bins = range(grid.num_bins)
  sizes = [parameters[:grid.num_bins], parameters[grid.num_bins:2 * grid.num_bins]]
  slopes = parameters[2 * grid.num_bins:]
  highest = jnp.stack([functools.reduce(jnp.maximum, [of_axis[j] for j in bins]) for of_axis in sizes])
  weights = jnp.exp(jnp.stack(sizes) - highest[:, None])
  scale = _total([weights[:, j] for j in bins]) / grid.free
  # Count the knots at or below each position. Positions are scaled to the weights, which saves dividing every weight.
  # The count is the root of its square, a sum of odd numbers: XLA computes a cheap sum again wherever it is used, which
  # takes several times as long, but it computes a root once.
  position, least = position * scale[axis], grid.minimum * scale[axis]
  square, knot = jnp.zeros_like(position), jnp.zeros_like(position)
  for j in bins[:-1]:
    knot = knot + (weights[axis, j] + least)
    square = square + jnp.where(position >= knot, 2.0 * j + 1.0, 0.0)
  index = jnp.sqrt(square)
  # Select the bin's values by the count.
  below = _total([jnp.where(j < index, weights[:, j], 0.0) for j in bins[:-1]])
  here = _total([jnp.where(j == index, weights[:, j], 0.0) for j in bins])
  ends = [_total([jnp.where(j == index - shift, slopes[j], 0.0) for j in bins[:-1]]) for shift in (1, 0)]
  return Bin(index, grid.minimum * index + below / scale, grid.minimum + here / scale, jnp.stack(ends),
             highest + jnp.log(scale))


def _softplus(x: Array) -> Array:
  return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _knot_slopes(grid: Grid, at: Bin) -> tuple[Array, Array]:
  """Return the slopes at the bin's ends; they are 1 at the ends of the interval."""
  d0, d1 = grid.minimum + _softplus(at.slopes + grid.slope_offset)
  return jnp.where(at.number == 0, 1.0, d0), jnp.where(at.number == grid.num_bins - 1, 1.0, d1)


def _curve(grid: Grid, t: Array, at: Bin) -> Curve:
  """Return the curve of the bin of position t along x; xi is clipped to [0, 1] against rounding."""
  xi = (t - at.start[0]) / at.size[0]
  xi = jnp.where(xi < 0.0, 0.0, jnp.where(xi > 1.0, 1.0, xi))
  return Curve(xi, 1.0 - xi, at.size[1] / at.size[0], *_knot_slopes(grid, at))


def _denominator(c: Curve) -> Array:
  return c.s + (c.d0 + c.d1 - 2.0 * c.s) * c.xi * c.rest


def _log_slope(c: Curve) -> Array:
  """Return the log of the curve's slope: equation 5, as one logarithm."""
  ratio = c.s / _denominator(c)
  return jnp.log(ratio * ratio * (c.d1 * c.xi * c.xi + 2.0 * c.s * c.xi * c.rest + c.d0 * c.rest * c.rest))


def _unit(grid: Grid, x: Array) -> Array:
  """Map [-bound, bound] to [0, 1], and all numbers outside to 1/2, so that they cause no infinity."""
  return jnp.where(jnp.abs(x) <= grid.bound, (x + grid.bound) / (2.0 * grid.bound), 0.5)


def _inside(grid: Grid, x: Array, value: Array, outside: Array | float) -> Array:
  return jnp.where(jnp.abs(x) <= grid.bound, value, outside)


def _scaled(grid: Grid, x: Array, start: Array, numerator: Array, denominator: Array) -> Array:
  """Map start + numerator / denominator from [0, 1] to [-bound, bound]; return x itself where x is outside.

  The division comes last, because XLA computes cheap operations again wherever their result is used, layer after layer,
  but a division once.
  """
  value = grid.bound * ((2.0 * start - 1.0) * denominator + 2.0 * numerator)
  return _inside(grid, x, value, x) / _inside(grid, x, denominator, 1.0)


def _forward(grid: Grid, x: Array, parameters: Array) -> tuple[Array, Array, Bin]:
  t = _unit(grid, x)
  at = _find(grid, t, 0, parameters)
  c = _curve(grid, t, at)
  numerator = at.size[1] * (c.s * c.xi * c.xi + c.d0 * c.xi * c.rest)  # equation 4
  y = _scaled(grid, x, at.start[1], numerator, _denominator(c))
  return y, _inside(grid, x, _log_slope(c), 0.0), at


def _inverse(grid: Grid, y: Array, parameters: Array) -> tuple[Array, Array, Bin]:
  t = _unit(grid, y)
  at = _find(grid, t, 1, parameters)
  eta = (t - at.start[1]) / at.size[1]
  eta = jnp.where(eta < 0.0, 0.0, jnp.where(eta > 1.0, 1.0, eta))
  s, (d0, d1) = at.size[1] / at.size[0], _knot_slopes(grid, at)
  # Solve the quadratic of appendix A.1, divided by the height. With its discriminant as a sum of squares nothing
  # cancels: xi = 2 s eta / (2 s eta + p), where p = m + sqrt(m^2 + 4 s^2 eta (1 - eta)).
  m, product = d0 * (1.0 - eta) - d1 * eta, 4.0 * s * s * eta * (1.0 - eta)
  larger = jnp.abs(m) + jnp.sqrt(m * m + product)
  p = jnp.where(m >= 0.0, larger, product / larger)
  whole = 2.0 * s * eta + p
  c = Curve(2.0 * s * eta / whole, p / whole, s, d0, d1)
  x = _scaled(grid, y, at.start[0], at.size[0] * 2.0 * s * eta, whole)
  return x, _inside(grid, y, -_log_slope(c), 0.0), at


def _slope_of_log_slope(grid: Grid, x: Array, at: Bin) -> Array:
  """Return d/dx of the log of the forward map's slope."""
  c = _curve(grid, _unit(grid, x), at)
  bend = (c.d0 + c.d1 - 2.0 * c.s) * (c.rest - c.xi) / _denominator(c)
  numerator = c.d1 * c.xi * c.xi + 2.0 * c.s * c.xi * c.rest + c.d0 * c.rest * c.rest
  tilt = (c.d1 * c.xi + c.s * (c.rest - c.xi) - c.d0 * c.rest) / numerator
  return _inside(grid, x, (tilt - bend) / (at.size[0] * grid.bound), 0.0)


def _pull(grid: Grid, x: Array, parameters: Array, at: Bin, of_y: Array, of_log: Array) -> tuple[Array, Array]:
  """Pull gradients back through the forward map.

  Args:
    grid: the spline's interval.
    x: the numbers.
    parameters: the spline's parameters.
    at: the numbers' bins.
    of_y: gradient by the map's value.
    of_log: gradient by the log of the map's slope.

  Returns:
    The gradients by x and by the parameters.
  """
  # The curve, and the gradients by its numerators and denominators.
  c = _curve(grid, _unit(grid, x), at)
  width, height = at.size
  q, r = c.xi * c.rest, 1.0 / _denominator(c)
  rising, falling = c.d1 * c.xi * c.xi, c.d0 * c.rest * c.rest
  numerator = rising + 2.0 * c.s * q + falling  # of equation 5, without s^2
  g = _inside(grid, x, 2.0 * grid.bound * of_y, 0.0)
  log_r = _inside(grid, x, 2.0 * of_log, 0.0)  # by -log r
  log_n = 0.5 * log_r / numerator
  g_r = g * height * r * r
  # By the position in the bin, by s = height / width, and by the slopes at the bin's ends.
  of_xi = (g_r * c.s * numerator - log_r * r * (c.d0 + c.d1 - 2.0 * c.s) * (c.rest - c.xi)
           + 2.0 * log_n * (c.d1 * c.xi + c.s * (c.rest - c.xi) - c.d0 * c.rest))
  of_s = g_r * q * (rising - falling) + log_r * (1.0 / c.s - r * (1.0 - 2.0 * q)) + 2.0 * log_n * q
  fraction = c.s * c.xi * c.xi + c.d0 * q  # equation 4's
  of_d0 = g_r * q * (c.s * c.rest * c.rest + c.d1 * q) - log_r * r * q + log_n * c.rest * c.rest
  of_d1 = -g_r * q * fraction - log_r * r * q + log_n * c.xi * c.xi
  # By the bin's corner and size, and by x.
  of_start = jnp.stack([-of_xi / width, g])
  of_size = jnp.stack([-(of_s * c.s + of_xi * c.xi) / width, g * fraction * r + of_s / width])
  of_x = _inside(grid, x, of_xi, of_y) / _inside(grid, x, 2.0 * grid.bound * width, 1.0)
  # By the parameters of the sizes, through the softmax: every bin's size changes the total.
  number = at.number
  mean = (of_start * (at.start - grid.minimum * number) + of_size * (at.size - grid.minimum)) / grid.free
  before, here, after = of_start - mean, of_size - mean, -mean
  sizes = parameters[:2 * grid.num_bins].reshape(2, grid.num_bins, -1)
  weights = jnp.exp(sizes - at.log_scales[:, None])
  numbers = jnp.arange(grid.num_bins, dtype=x.dtype)[:, None]
  of_sizes = weights * jnp.where(numbers < number, before[:, None],
                                 jnp.where(numbers == number, here[:, None], after[:, None]))
  # By the parameters of the slopes at the two ends.
  rate0, rate1 = jax.nn.sigmoid(at.slopes + grid.slope_offset)
  of_slope0, of_slope1 = of_d0 * rate0, of_d1 * rate1
  of_slopes = jnp.where(numbers[:-1] == number - 1, of_slope0, jnp.where(numbers[:-1] == number, of_slope1, 0.0))
  return of_x, jnp.concatenate([of_sizes.reshape(2 * grid.num_bins, -1), of_slopes])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _flat_forward(grid, x, parameters):
  return _forward(grid, x, parameters)[:2]


def _flat_forward_fwd(grid, x, parameters):
  y, log_slope, at = _forward(grid, x, parameters)
  return (y, log_slope), (x, parameters, at)


def _flat_forward_bwd(grid, residuals, cotangents):
  return _pull(grid, *residuals, *cotangents)


_flat_forward.defvjp(_flat_forward_fwd, _flat_forward_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _flat_inverse(grid, y, parameters):
  return _inverse(grid, y, parameters)[:2]


def _flat_inverse_fwd(grid, y, parameters):
  x, log_slope, at = _inverse(grid, y, parameters)
  return (x, log_slope), (x, log_slope, parameters, at)


def _flat_inverse_bwd(grid, residuals, cotangents):
  # By the implicit function theorem: y = f(x), and the inverse's log-slope is minus the log-slope of f at x.
  x, log_slope, parameters, at = residuals
  of_x, of_log = cotangents
  of_y = (of_x - of_log * _slope_of_log_slope(grid, x, at)) * jnp.exp(log_slope)
  _, of_parameters = _pull(grid, x, parameters, at, -of_y, -of_log)
  return of_y, of_parameters


_flat_inverse.defvjp(_flat_inverse_fwd, _flat_inverse_bwd)


def _on_flat(function, grid: Grid, x: Array, parameters: Array) -> tuple[Array, Array]:
  """Call `function` on flat numbers. The last axis becomes the slowest, so that parameters which are a transposed view
  of [num, ...] are not copied."""
  dtype = jnp.promote_types(jnp.result_type(x, parameters), jnp.float32)
  turned = x.T.astype(dtype)
  value, log_slope = function(grid, turned.ravel(), parameters.T.reshape(grid.num_parameters, -1).astype(dtype))
  return value.reshape(turned.shape).T, log_slope.reshape(turned.shape).T


def spline_forward(grid: Grid, x: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]
                   ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
  """Return the spline at x (equation 4) and the log of its derivative there, in nats (equation 5)."""
  return _on_flat(_flat_forward, grid, x, parameters)


def spline_inverse(grid: Grid, y: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]
                   ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
  """Return x at which the spline is y (equations 6 to 8), and the log of the inverse's derivative at y, in nats."""
  return _on_flat(_flat_inverse, grid, y, parameters)
