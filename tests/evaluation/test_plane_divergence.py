"""Divergences by quadrature against their closed forms."""

import math

import numpy as np
import pytest

from gdm.errors import NotFiniteError
from gdm.evaluation.plane_divergence import PlaneGrid, divergence

GRID = PlaneGrid((-9.0, 11.0, -8.0, 8.0), 200)


def normal(mean, covariance):
  precision, mean = np.linalg.inv(covariance), np.asarray(mean)

  def log_prob(x):
    squares = np.einsum("ni,ij,nj->n", x - mean, precision, x - mean)
    return -0.5 * squares - 0.5 * np.linalg.slogdet(2 * np.pi * np.asarray(covariance))[1]

  return log_prob


def test_two_gaussians_are_as_far_apart_as_their_formula_says():
  mean, covariance = np.array([1.0, -0.5]), np.array([[1.0, 0.4], [0.4, 0.5]])
  other_mean, other = np.array([0.2, 0.3]), np.array([[0.8, -0.2], [-0.2, 0.9]])
  inverse, shift = np.linalg.inv(other), other_mean - mean
  expected = 0.5 * (np.trace(inverse @ covariance) + shift @ inverse @ shift - 2
                    + np.linalg.slogdet(other)[1] - np.linalg.slogdet(covariance)[1])
  found = divergence(GRID, GRID.table(normal(mean, covariance)), GRID.table(normal(other_mean, other)))
  assert found.nats == pytest.approx(expected, abs=1e-9)
  assert found.true_mass == pytest.approx(1, abs=1e-9) and found.mass == pytest.approx(1, abs=1e-9)
  assert found.error < 1e-8


def test_a_density_is_at_no_distance_from_itself_and_an_unnormalized_one_at_log_z():
  table = GRID.table(normal([1.0, 0.0], np.eye(2)))
  assert divergence(GRID, table, table).nats == 0.0
  assert divergence(GRID, table, table - 0.3).nats == pytest.approx(0.3, abs=1e-9)


@pytest.mark.parametrize("deviations", [(0.5, 0.2), (0.05, 1.0)])  # 0.05 is half a cell
def test_noise_widens_a_gaussian_by_its_variance_along_each_axis(deviations):
  mean, covariance = np.array([1.0, -0.5]), np.array([[1.0, 0.4], [0.4, 0.5]])
  found = GRID.noised(GRID.table(normal(mean, covariance)), deviations)
  expected = GRID.table(normal(mean, covariance + np.diag(np.square(deviations))))
  np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-9)


def test_noise_that_leaves_the_grid_is_lost():
  lost = GRID.noised(GRID.table(normal([10.0, 0.0], 0.01 * np.eye(2))), (1.0, 0.5))
  mass = np.exp(lost).sum() * 0.1 * 0.08
  assert mass == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2 * 1.01))), abs=1e-2)
  assert lost[:, 0].max() < -30


def test_what_the_grid_does_not_hold_counts_as_error():
  table = GRID.table(normal([10.0, 0.0], np.eye(2)))
  assert divergence(GRID, table, table).error > 0.1


def test_empty_places():
  table = GRID.table(normal([1.0, 0.0], np.eye(2)))
  half = np.where(np.arange(200) < 100, -np.inf, table)
  assert divergence(GRID, table, half).nats == np.inf
  assert np.isfinite(divergence(GRID, half, table).nats)
  with pytest.raises(NotFiniteError, match="the model's log density is NaN"):
    divergence(GRID, table, table * np.nan)


def test_a_grid_leaves_room_around_points_and_calls_in_one_shape():
  grid, shapes = PlaneGrid.around(np.array([[0.0, 1.0], [2.0, 2.0]]), 70), set()
  assert grid.window == (-1.0, 3.0, -0.5, 3.5)

  def first(x):
    shapes.add(x.shape)
    return x[:, 0] + 10 * x[:, 1]

  table = grid.table(first)
  side = 4 / 70
  assert shapes == {(4096, 2)}
  assert table[3, 8] == pytest.approx(-1 + 8.5 * side + 10 * (-0.5 + 3.5 * side))
