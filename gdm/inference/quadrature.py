"""Integrals over a line or a plane by sums over cells that grow smaller where the mass is.

  grid    cells over a box, closer together about its centre; each is summed by Gauss and Kronrod's rules of 3 and 7
          points a dimension, whose difference is its error (Kronrod, 1965; QUADPACK's way, Piessens et al., 1983)
  refine  the cells of the largest errors are halved along every dimension, until what is left is small
  frame   where the cells run out before that, as on a thin slanting ridge, once more in coordinates in which what was
          found has unit covariance

A cell in which log f varies by much is not trusted, whatever both rules say: its error is what a peak between its
points could hold. Points that are known to matter ("hints": data, chains) are looked at, too.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm.errors import ConfigError
from gdm.precision import highest_precision

MAX_DIMS = 2  # a third would take as many points again for each

# Kronrod's nodes on [-1, 1] and weights (QUADPACK), exact up to degree 11; every second node is one of Gauss's, exact
# up to degree 5.
_NODES = np.array([0.0, 0.4342437493468026, 0.7745966692414834, 0.9604912687080202])
_KRONROD = np.array([0.4509165386584744, 0.4013974147759622, 0.2684880898683334, 0.1046562260264673])
_GAUSS = np.array([8 / 9, 0.0, 5 / 9, 0.0])

# By dimensions: cells of the first grid along each, and cells halved at a time, which make as many as that grid has.
_FIRST = {1: 64, 2: 24}
_HALVED = {1: 32, 2: 144}
_SCANNED = {1: 4096, 2: 256}  # points along each that are looked at first
_PEAKS = 64  # the highest of them that stand above their neighbours are hints
_MAX_ROUNDS = 200  # of halving
_TOLERANCE = 1e-5  # share of the integral below which the cells' errors need no more halving
_MAX_ROUGHNESS = 6.0  # nats by which log f may vary within a cell that is trusted
_MAX_SURPRISE = 0.5  # nats by which a hint may be above the points of a cell that is trusted
_MAX_GRAIN = 0.2  # rounding of points, in sides of a cell, beyond which it is halved no more
_ENOUGH = 1e-3  # error with which no other frame is tried

LogDensity = Callable[[Float[Array, "points dims"]], Float[Array, " points"]]


class Box(NamedTuple):
  """The region to integrate over.

  Attributes:
    centre: the middle.
    scale: how wide what lies about the centre may be; the first cells there are a fraction of it.
    half_width: half of each side.
  """

  centre: Float[Array, " dims"]
  scale: Float[Array, " dims"]
  half_width: Float[Array, " dims"]


class Integral(NamedTuple):
  """log of an integral, in nats, and how far off it may be.

  Attributes:
    nats: log of the integral.
    error: nats by which it may be off: by the cells' errors, by rounding, and by what lies outside the box, which is
      taken for twice what lies in the outer half of it. It is meant to be too large; it is infinite where all of the
      mass is at the border.
  """

  nats: Float[Array, ""]
  error: Float[Array, ""]


class _Cells(NamedTuple):
  """Boxes that tile the first one: [cells, dims], with logs [cells]; those not in use have no size and no mass.

  Attributes:
    lower: their lower corners.
    size: their sides.
    log_mass: log of f's integral.
    log_error: log of its error, which halving lowers.
    log_rounding: log of the error by rounding, which it doesn't.
    used: cells in use.
    highest: the largest log f seen.
    rounds: of halving, so far.
  """

  lower: Float[Array, "cells dims"]
  size: Float[Array, "cells dims"]
  log_mass: Float[Array, " cells"]
  log_error: Float[Array, " cells"]
  log_rounding: Float[Array, " cells"]
  used: Array
  highest: Array
  rounds: Array


class _Frame(NamedTuple):
  """Coordinates v of x = origin + axes v."""

  origin: Float[Array, " dims"]
  axes: Float[Array, "dims dims"]

  def place(self, v: Float[Array, "points dims"]) -> Float[Array, "points dims"]:
    return self.origin + v @ self.axes.T

  def coordinates(self, x: Float[Array, "points dims"]) -> Float[Array, "points dims"]:
    return jnp.linalg.solve(self.axes, (x - self.origin).T).T

  @property
  def log_volume(self) -> Float[Array, ""]:
    """Log of the volume in x of a unit of volume in v."""
    return jnp.linalg.slogdet(self.axes)[1]


@highest_precision()
def log_integral(log_density: LogDensity, num_dims: int, half_width: Float[Array, "*dims"] | float, *,
                 centre: Float[Array, "*dims"] | float = 0.0, scale: Float[Array, "*dims"] | float | None = None,
                 hints: Float[Array, "points dims"] | None = None) -> Integral:
  """Return the log of the integral of f over a box; differentiable in what `log_density` is made of.

  Args:
    log_density: log f of points, in nats; -inf where f is 0.
    num_dims: 1 or 2.
    half_width: half of the box's sides, of each dimension or of all; the box must be twice as wide as what it is to
      hold, since what lies in its outer half counts as an alarm.
    centre: the box's middle.
    scale: the width, about the centre, of what the first cells are to see; an eighth of `half_width` by default.
    hints: points where f may be large, within the box: a peak that is narrower than the first cells may be seen by
      these alone.

  Raises:
    ConfigError: more than 2 dimensions.
  """
  if num_dims > MAX_DIMS:
    raise ConfigError(f"quadrature over {num_dims} dimensions was asked for; it takes at most {MAX_DIMS}.")
  dtype = jnp.result_type(float)
  half_width = jnp.broadcast_to(jnp.asarray(half_width, dtype), (num_dims,))
  box = Box(jnp.broadcast_to(jnp.asarray(centre, dtype), (num_dims,)),
            half_width / 8.0 if scale is None else jnp.broadcast_to(jnp.asarray(scale, dtype), (num_dims,)), half_width)
  hints = jnp.zeros((0, num_dims), dtype) if hints is None else hints
  # What is differentiated must be arguments: the cells are found in a loop of unknown length.
  density, constants = jax.closure_convert(log_density, jnp.zeros((1, num_dims), dtype))
  return _log_integral(density, *jax.lax.stop_gradient((box, hints)), *constants)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _log_integral(density: Callable[..., Array], box: Box, hints: Array, *constants: Array) -> Integral:
  return _find(density, box, hints, *constants).integral


class _Found(NamedTuple):
  """An integral, and the cells, in a frame, by which it was found."""

  integral: Integral
  frame: _Frame
  cells: _Cells


def _find(density: Callable[..., Array], box: Box, hints: Array, *constants: Array) -> _Found:
  """Return the better of two: in the box's coordinates, and, where that is not good, in the frame of what was found."""
  num_dims = hints.shape[1]
  log_density = _of_points(density, constants)
  first = _Frame(box.centre, jnp.eye(num_dims, dtype=hints.dtype))
  corners = box.centre + box.half_width * np.indices((2,) * num_dims).reshape(num_dims, -1).T * 2 - box.half_width

  def improve(index, found: _Found) -> _Found:
    frame = _whitened(found.frame, found.cells)
    whole = jnp.max(jnp.abs(frame.coordinates(corners)), axis=0)  # all of the box
    frame, inside = jax.tree.map(
        lambda of_box, of_found: jnp.where(index == 0, of_box, of_found),
        (first, Box(jnp.zeros_like(box.centre), box.scale, box.half_width)),
        (frame, Box(jnp.zeros_like(box.centre), jnp.ones_like(box.scale), whole)))
    other = _integrate(log_density, frame, inside, hints, found.integral.error > _ENOUGH)
    better = (index == 0) | (other.integral.error < found.integral.error)
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), other, found)

  hints = jnp.concatenate([hints, _scan(log_density, box, hints.dtype)])
  nothing = _Found(Integral(jnp.full((), -jnp.inf, hints.dtype), jnp.full((), jnp.inf, hints.dtype)), first,
                   _no_cells(num_dims, hints.dtype))
  return jax.lax.fori_loop(0, num_dims, improve, nothing)  # on a line there is nothing to slant


def _scan(log_density: LogDensity, box: Box, dtype: Any) -> Float[Array, "points dims"]:
  """Return the highest points of a finer grid that stand above their neighbours."""
  num_dims = box.centre.shape[0]
  num = _SCANNED[num_dims]
  points = box.centre + _product(_graded(box, (np.arange(num) + 0.5) / num).astype(dtype))
  log_f = log_density(points)
  table = jnp.where(jnp.isnan(log_f), -jnp.inf, log_f).reshape((num,) * num_dims)
  around = jax.lax.reduce_window(table, -jnp.inf, jax.lax.max, (3,) * num_dims, (1,) * num_dims, "SAME")
  return points[jax.lax.top_k(jnp.where(table == around, table, -jnp.inf).reshape(-1), _PEAKS)[1]]


def _graded(box: Box, steps: np.ndarray) -> Float[Array, "points dims"]:
  """Offsets from a box's centre at steps in [0, 1], from side to side; they grow as a hyperbolic sine."""
  return box.scale * jnp.sinh(jnp.arcsinh(box.half_width / box.scale) * (2.0 * steps[:, None] - 1.0))


def _of_points(density: Callable[..., Array], constants: tuple[Array, ...]) -> LogDensity:
  """Return log f of any number of points, by that of one."""
  return jax.vmap(lambda point: density(point[None], *constants)[0])


def _forward(density, box, hints, *constants):
  found = _find(density, box, hints, *constants)
  return found.integral, (found, box, hints, constants)


def _backward(density, residuals, cotangent):
  """d log Z = E[d log f], by the sums that gave log Z, some cells at a time."""
  (found, frame, cells), box, hints, constants = residuals
  num = _HALVED[hints.shape[1]]

  def add(index, total):
    lower, size = (jax.lax.dynamic_slice_in_dim(part, index * num, num) for part in (cells.lower, cells.size))
    points, kronrod, _ = _nodes(lower, size)
    places = frame.place(points.reshape(-1, hints.shape[1]))
    log_f, pullback = jax.vjp(lambda *constants: _of_points(density, constants)(places), *constants)
    weights = kronrod * jnp.exp(log_f.reshape(points.shape[:2]) + _log_volume(size)[:, None] + frame.log_volume
                                - found.nats)
    return jax.tree.map(jnp.add, total, pullback(cotangent.nats * weights.reshape(-1)))

  zeros = jax.tree.map(jnp.zeros_like, constants)
  total = jax.lax.fori_loop(0, -(-cells.used // num), add, tuple(zeros))
  return *jax.tree.map(jnp.zeros_like, (box, hints)), *total


_log_integral.defvjp(_forward, _backward)


def _integrate(log_density: LogDensity, frame: _Frame, box: Box, hints: Float[Array, "hints dims"],
               wanted: Array) -> _Found:
  """Return the integral over a box about the frame's origin; nothing, at once, where it is not wanted."""
  num_dims = hints.shape[1]
  edges = _graded(box, np.linspace(0.0, 1.0, _FIRST[num_dims] + 1)).astype(hints.dtype)
  lower, size = _product(edges[:-1]), _product(jnp.diff(edges, axis=0))
  seen, log_seen = frame.coordinates(hints), log_density(hints)

  def weigh(lower, size, highest):
    """Return log mass, log error and log rounding of cells, and the largest log f so far."""
    points, kronrod, gauss = _nodes(lower, size)
    log_f = log_density(frame.place(points.reshape(-1, num_dims))).reshape(points.shape[:2])
    top = jnp.max(log_f, axis=1)
    shift = jnp.where(jnp.isneginf(top), 0.0, top)
    f, log_unit = jnp.exp(log_f - shift[:, None]), shift + _log_volume(size)
    mass, difference = f @ kronrod, jnp.abs(f @ (kronrod - gauss))

    within = jnp.all((seen >= lower[:, None]) & (seen <= (lower + size)[:, None]), axis=-1)
    highest_seen = jnp.max(jnp.where(within, log_seen, -jnp.inf), axis=1, initial=-jnp.inf)
    least = jnp.minimum(jnp.min(log_f, axis=1), jnp.min(jnp.where(within, log_seen, jnp.inf), axis=1,
                                                              initial=jnp.inf))
    above = jnp.maximum(top, highest_seen)
    highest = jnp.maximum(highest, jnp.max(above))
    # A peak that stands between points of a smooth f stands no higher above them than they vary.
    roughness = jnp.where(jnp.isneginf(above), 0.0, above - least)
    peak = jnp.minimum(above + roughness, highest) + _log_volume(size)
    is_rough = (roughness > _MAX_ROUGHNESS) | (highest_seen > top + _MAX_SURPRISE)

    # Points are rounded: where they lie far from 0 on the scale of the cell, by much of it; in the end all to one.
    away = jnp.max(jnp.abs(frame.place(lower)), axis=1) / jnp.min(jnp.linalg.norm(frame.axes, axis=0) * size, axis=1)
    grain = 4.0 * jnp.finfo(hints.dtype).eps * away
    is_point = grain > _MAX_GRAIN
    rounding = mass * jnp.where(is_point, 1.0, grain * jnp.minimum(roughness, _MAX_ROUGHNESS))
    log_mass, log_error, log_rounding = (log_unit + jnp.log(part) for part in (mass, difference, rounding))
    log_error = jnp.where(is_rough, jnp.maximum(log_error, peak), log_error)
    return log_mass, jnp.where(is_point, -jnp.inf, log_error), log_rounding, highest

  def halve(cells: _Cells) -> _Cells:
    """Put in the first grid in the first round; then halve the worst cells."""
    whole, more = _HALVED[num_dims], _HALVED[num_dims] * (2**num_dims - 1)
    worst = jax.lax.top_k(cells.log_error, whole)[1]
    halves = jnp.repeat(0.5 * cells.size[worst], 2**num_dims, axis=0)
    corner = np.tile(np.indices((2,) * num_dims).reshape(num_dims, -1).T, (whole, 1))
    begin = cells.rounds == 0
    new_lower, new_size = jax.tree.map(
        lambda first, later: jnp.where(begin, first, later),
        (lower, size), (jnp.repeat(cells.lower[worst], 2**num_dims, axis=0) + halves * corner, halves))
    # One half takes the place of the whole; the others come after all.
    place = jnp.concatenate([worst[:, None], cells.used + jnp.arange(more).reshape(whole, -1)], axis=1).reshape(-1)
    place = jnp.where(begin, jnp.arange(len(place)), place)
    *logs, highest = weigh(new_lower, new_size, cells.highest)
    new_lower, new_size, *logs = (
        old.at[place].set(new) for old, new in zip(cells[:5], (new_lower, new_size, *logs), strict=True))
    log_mass, log_error, log_rounding = logs
    return _Cells(new_lower, new_size, log_mass, log_error, log_rounding,
                  cells.used + jnp.where(begin, len(place), more), highest, cells.rounds + 1)

  def unfinished(cells: _Cells) -> Array:
    left = jax.nn.logsumexp(cells.log_error) - jax.nn.logsumexp(cells.log_mass)
    return wanted & (cells.rounds <= _MAX_ROUNDS) & ((cells.rounds == 0) | (left > math.log(_TOLERANCE)))

  nothing = _no_cells(num_dims, hints.dtype)._replace(highest=jnp.max(log_seen, initial=-jnp.inf))
  cells = jax.lax.while_loop(unfinished, halve, nothing)

  nats = jax.nn.logsumexp(cells.log_mass)
  outer = jnp.any(jnp.abs(cells.lower + 0.5 * cells.size) > 0.5 * box.half_width, axis=1)
  share = jnp.exp(jax.nn.logsumexp(jnp.where(outer, cells.log_mass, -jnp.inf)) - nats)
  of_cells = jnp.exp(jax.nn.logsumexp(jnp.logaddexp(cells.log_error, cells.log_rounding)) - nats)
  error = jnp.log1p(of_cells + 2.0 * share / jnp.maximum(1.0 - share, 0.0))
  error = error + jnp.finfo(hints.dtype).eps * jnp.abs(cells.highest)
  error = jnp.where(wanted, error, jnp.inf)
  return _Found(Integral(nats + frame.log_volume, error), frame, cells)


def _no_cells(num_dims: int, dtype: Any) -> _Cells:
  """Room for all cells."""
  num = _FIRST[num_dims] ** num_dims
  # And some to spare, for slices of so many.
  num += _MAX_ROUNDS * _HALVED[num_dims] * (2**num_dims - 1) + _HALVED[num_dims]
  return _Cells(jnp.zeros((num, num_dims), dtype), jnp.zeros((num, num_dims), dtype), jnp.full(num, -jnp.inf, dtype),
                jnp.full(num, -jnp.inf, dtype), jnp.full(num, -jnp.inf, dtype), jnp.zeros((), jnp.int32),
                jnp.full((), -jnp.inf, dtype), jnp.zeros((), jnp.int32))


def _whitened(frame: _Frame, cells: _Cells) -> _Frame:
  """Coordinates in which what was found has mean zero and unit covariance."""
  share = jax.nn.softmax(cells.log_mass)
  middle = cells.lower + 0.5 * cells.size
  mean = share @ middle
  spread = (share[:, None] * (middle - mean)).T @ (middle - mean)
  # A side of a cell has a variance of its own.
  spread = spread + jnp.diag(share @ jnp.square(cells.size)) / 12.0
  return _Frame(frame.place(mean[None])[0], frame.axes @ jnp.linalg.cholesky(spread))


def _nodes(lower: Float[Array, "cells dims"],
           size: Float[Array, "cells dims"]) -> tuple[Float[Array, "cells nodes dims"], np.ndarray, np.ndarray]:
  """Nodes of cells, and both rules' weights [nodes] for a cell of volume one; corners are seen and weigh nothing."""
  num_dims = lower.shape[1]
  ends = np.concatenate([-_NODES[:0:-1], _NODES])
  kronrod, gauss = (np.concatenate([half[:0:-1], half]) / 2.0 for half in (_KRONROD, _GAUSS))
  offsets = np.stack(np.meshgrid(*[0.5 * (1.0 + ends)] * num_dims, indexing="ij"), -1).reshape(-1, num_dims)
  weights = (functools.reduce(np.multiply.outer, [rule] * num_dims).reshape(-1) for rule in (kronrod, gauss))
  corners = np.indices((2,) * num_dims).reshape(num_dims, -1).T
  offsets = np.concatenate([offsets, corners]).astype(lower.dtype)
  kronrod, gauss = (np.concatenate([each, np.zeros(len(corners))]).astype(lower.dtype) for each in weights)
  return lower[:, None] + size[:, None] * offsets, kronrod, gauss


def _product(line: Float[Array, "num dims"]) -> Float[Array, "points dims"]:
  """Return all combinations of one row's value for each dimension."""
  num_dims = line.shape[1]
  return jnp.stack(jnp.meshgrid(*line.T, indexing="ij"), axis=-1).reshape(-1, num_dims)


def _log_volume(size: Float[Array, "cells dims"]) -> Float[Array, " cells"]:
  return jnp.sum(jnp.log(size), axis=1)


def climb(log_density: LogDensity, x: Float[Array, "points dims"], step: Float[Array, " dims"],
          num_steps: int = 30) -> Float[Array, "points dims"]:
  """Return where points come to that move to the highest of their neighbours along the axes, or stay.

  The step halves each time (compass search: Kolda, Lewis and Torczon, 2003), so that points come within two first steps
  of where they began, and close to a peak whose slopes they stand on.
  """
  num_dims = x.shape[1]
  ways = jnp.concatenate([jnp.zeros((1, num_dims)), jnp.eye(num_dims), -jnp.eye(num_dims)]).astype(x.dtype)

  def move(index, x):
    near = x[:, None] + ways * step * 0.5**index
    value = log_density(near.reshape(-1, num_dims)).reshape(near.shape[:2])
    return jnp.take_along_axis(near, jnp.argmax(value, axis=1)[:, None, None], axis=1)[:, 0]

  return jax.lax.fori_loop(0, num_steps, move, x)
