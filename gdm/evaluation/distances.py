"""Squared Euclidean distances between many points, a few rows at a time, and nearest neighbours by them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gdm.errors import DataError, NotFiniteError

Points = Float[np.ndarray, "_ dims"]

_CHUNK_VALUES = 1 << 21  # distances that are held at a time


class Neighbours(NamedTuple):
  """The nearest points of a set, from the nearest on.

  Attributes:
    distances: [points, k].
    places: their places in the set, [points, k].
  """

  distances: Float[np.ndarray, "points k"]
  places: Int[np.ndarray, "points k"]


def squared_distances(x: Float[np.ndarray, "n dims"], y: Float[np.ndarray, "m dims"]) -> Float[np.ndarray, "n m"]:
  """Return |x_i - y_j|^2 of all pairs, never below 0."""
  squares = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2.0 * (x @ y.T)
  return np.maximum(squares, 0.0)


def row_chunks(num: int, columns: int) -> Iterator[slice]:
  """Yield slices of `num` rows, such that those of a table of `columns` take constant memory."""
  size = max(1, _CHUNK_VALUES // columns)
  for start in range(0, num, size):
    yield slice(start, min(start + size, num))


def nearest(points: Points, parts: Iterable[Points], k: int = 1) -> Neighbours:
  """Return the k nearest of all points in `parts`, which are read one after the other.

  Raise DataError where the parts have fewer than k points.
  """
  num = len(points)
  squares, places = np.full((num, k), np.inf), np.zeros((num, k), int)
  lengths = np.sum(points**2, axis=1)[:, None]
  start = 0
  for part in parts:
    for rows in row_chunks(len(part), num):
      found = np.maximum(lengths + np.sum(part[rows] ** 2, axis=1) - 2.0 * (points @ part[rows].T), 0.0)
      numbers = np.broadcast_to(start + np.arange(rows.start, rows.stop), found.shape)
      found, numbers = np.concatenate([squares, found], axis=1), np.concatenate([places, numbers], axis=1)
      chosen = np.argpartition(found, k - 1, axis=1)[:, :k]
      squares, places = (np.take_along_axis(values, chosen, axis=1) for values in (found, numbers))
    start += len(part)
  if start < k:
    raise DataError(f"there are {start} points; {k} nearest ones take at least {k}.")
  order = np.argsort(squares, axis=1)
  return Neighbours(np.sqrt(np.take_along_axis(squares, order, axis=1)), np.take_along_axis(places, order, axis=1))


def require_finite(points: Points, what: str) -> None:
  """Raise NotFiniteError naming the first of the points, which are `what`, with NaN or infinity."""
  if not (finite := np.isfinite(points).all(axis=1)).all():
    raise NotFiniteError(f"the features of {what} {int(np.argmin(finite))} hold NaN or infinity; no distance can be "
                         "taken of them.")
