"""Precision, recall, density and coverage: how two sets of points lie among each other's nearest neighbours.

Each point stands in a ball that reaches to its k-th nearest neighbour within its own set. With balls of data y and of
samples x (Kynkaanniemi et al., arXiv:1904.06991, equation 2; Naeem et al., arXiv:2002.09797, equations 3 and 4):

  precision  share of samples inside some ball of the data
  recall     share of data inside some ball of the samples
  density    how many balls of the data a sample lies in on average, over k; alike distributions give about 1
  coverage   share of balls of the data with a sample inside

A ball is open, and a point is no neighbour of itself, as in the authors' code. All four depend on k and on the sizes of
both sets, so that only numbers of equal sizes compare, and precision and recall of alike distributions are below 1:
what other data score, the floor, shows how much is reached. One outlier among the data has a huge ball, in which
precision counts any sample as a hit; density and coverage mind it less.

The intervals are for the expected numbers over draws of both sets, at these sizes and this k. By simulation of 100 to
200 normal points they cover 97 to 100 in 100 cases, and 92 where few points at the edge decide.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from gdm import checks
from gdm.errors import DataError
from gdm.evaluation.distances import Points, require_finite, row_chunks, squared_distances
from gdm.evaluation.grouping import GROUPS, jackknife_half, random_groups
from gdm.evaluation.intervals import Interval, Measured, share_interval

K = 5
_HELD = 8  # times k: nearest neighbours that are held, of which the jackknife leaves out about a tenth
_SEED = 20261201  # of the groups
_ROUNDING = 1e-12  # of squared distances, relative to the largest squared length of a point


class ManifoldScores(NamedTuple):
  """The four numbers of samples and data, with k and the numbers of points."""

  precision: Measured
  recall: Measured
  density: Measured
  coverage: Measured
  k: int
  num: int
  num_data: int


def manifold_scores(samples: Points, data: Points, k: int = K) -> ManifoldScores:
  """Return precision, recall, density and coverage, with intervals by the jackknife over ten groups of both sets.

  The interval of a share holds that of as many independent trials (Clopper and Pearson), too: where all points are
  inside, leaving some out shows no spread. Memory is constant but for the points and some forty numbers each.

  Raises:
    ConfigError: k is below 1.
    DataError: a set has too few points.
    NotFiniteError: a feature is NaN or infinite.
  """
  checks.at_least("k", k, 1)
  least = -(-(k + 1) * GROUPS // (GROUPS - 1)) + 1  # a tenth less still leaves k neighbours
  for points, what in ((samples, "sample"), (data, "example")):
    require_finite(points, what)
    if len(points) < least:
      raise DataError(f"{len(points)} {what}s are too few for balls of {k} neighbours and their error; it takes at "
                      f"least {least}.")
  center = data.mean(axis=0)  # lest products of large numbers cancel
  x, y = samples.astype(np.float64) - center, data.astype(np.float64) - center
  margin = _ROUNDING * max(float(np.max(np.sum(points**2, axis=1))) for points in (x, y))
  x_groups, y_groups = random_groups(len(x), _SEED), random_groups(len(y), _SEED + 1)
  counts = _count(x, y, _radii(x, x_groups, k) - margin, _radii(y, y_groups, k) - margin, x_groups, y_groups)

  values = {name: np.zeros(GROUPS + 1) for name in ("precision", "recall", "density", "coverage")}
  for column in range(GROUPS + 1):
    x_in, y_in = x_groups != column - 1, y_groups != column - 1  # column 0 leaves nothing out
    values["precision"][column] = np.mean(counts.balls_around_x[x_in, column] > 0)
    values["density"][column] = np.mean(counts.balls_around_x[x_in, column]) / k
    values["recall"][column] = np.mean(counts.y_is_inside[y_in, column])
    values["coverage"][column] = np.mean(counts.y_has_sample[y_in, column])
  trials = {"precision": len(x), "recall": len(y), "coverage": len(y)}
  found = {name: _share(float(each[0]), each[1:], trials.get(name)) for name, each in values.items()}
  return ManifoldScores(**found, k=k, num=len(x), num_data=len(y))


class _Counts(NamedTuple):
  """Who lies in whose ball. Column 0 is of all points, column g + 1 of those outside group g.

  Attributes:
    balls_around_x: how many balls of the data each sample lies in.
    y_is_inside: whether each of the data lies in a ball of the samples.
    y_has_sample: whether the ball of each of the data has a sample inside.
  """

  balls_around_x: Int[np.ndarray, "n columns"]
  y_is_inside: Bool[np.ndarray, "m columns"]
  y_has_sample: Bool[np.ndarray, "m columns"]


def _count(x: np.ndarray, y: np.ndarray, x_radii: np.ndarray, y_radii: np.ndarray, x_groups: np.ndarray,
           y_groups: np.ndarray) -> _Counts:
  """Compare all distances between the sets with squared radii [points, columns], a few rows of data at a time."""
  columns = GROUPS + 1
  around = np.zeros((len(x), columns), int)
  inside, has_sample = np.zeros((len(y), columns), bool), np.zeros((len(y), columns), bool)
  for rows in row_chunks(len(y), len(x)):
    squares = squared_distances(y[rows], x)
    for column in range(columns):
      x_in = x_groups != column - 1
      y_in = (y_groups[rows] != column - 1)[:, None]
      in_y = (squares < y_radii[rows, column, None]) & y_in
      around[:, column] += in_y.sum(axis=0)
      has_sample[rows, column] = (in_y & x_in).any(axis=1)
      inside[rows, column] = ((squares < x_radii[:, column]) & x_in).any(axis=1)
  return _Counts(around, inside, has_sample)


def _radii(points: np.ndarray, groups: np.ndarray, k: int) -> Float[np.ndarray, "points columns"]:
  """Return squared distances to the k-th nearest neighbour, among all points and without each group."""
  num = len(points)
  # So many that those outside a group are k or more: of 40, more than 35 are in one group once in 10^30 times.
  held = min(num - 1, _HELD * k)
  radii = np.zeros((num, GROUPS + 1))
  for rows in row_chunks(num, num):
    squares = squared_distances(points[rows], points)
    squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = np.inf  # no neighbour of itself
    places = np.argpartition(squares, held - 1, axis=1)[:, :held]
    near = np.take_along_axis(squares, places, axis=1)
    order = np.argsort(near, axis=1)
    near, near_groups = np.take_along_axis(near, order, axis=1), groups[np.take_along_axis(places, order, axis=1)]
    for column in range(GROUPS + 1):
      rank = np.cumsum(near_groups != column - 1, axis=1)
      place = np.where(rank[:, -1] >= k, np.argmax(rank >= k, axis=1), held - 1)
      radii[rows, column] = near[np.arange(len(near)), place]
  return radii


def _share(value: float, without: np.ndarray, trials: int | None) -> Measured:
  """Return the number with its interval; `trials` of a share of so many points, None of what is no share."""
  half = jackknife_half(without)
  low, high = max(value - half, 0.0), value + half
  if trials is not None:
    alone = share_interval(value, trials)
    low, high = min(low, alone.low), min(1.0, max(high, alone.high))
  return Measured(value, Interval(low, high))
