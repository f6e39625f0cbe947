"""Ways between latents, directions of labels, and what is counted of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.runs.latents import Encoded, direction, great_circle, line, num_active, plane_grid


def test_great_circles_keep_lengths_between_their_ends():
  a, b = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
  for share in (0.0, 0.3, 1.0):
    point = great_circle(a, b, share)
    lengths = [jnp.linalg.norm(x.reshape(5, -1), axis=1) for x in (a, b, point)]
    np.testing.assert_allclose(lengths[2], (1 - share) * lengths[0] + share * lengths[1], rtol=1e-5)
  np.testing.assert_allclose(great_circle(a, b, 0.0), a, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(great_circle(a, b, 1.0), b, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(great_circle(a, 2.0 * a, 0.5), 1.5 * a, rtol=1e-5)
  np.testing.assert_allclose(great_circle(0.0 * a, b, 0.5), 0.5 * b, rtol=1e-5)


def test_lines_are_straight():
  a, b = np.ones((2, 3)), np.zeros((2, 3))
  np.testing.assert_allclose(line(a, b, 0.25), 0.75 * a)


def test_a_direction_leads_from_the_mean_of_the_others_to_that_of_a_label():
  z = np.array([[0.0, 0.0], [2.0, 0.0], [5.0, 4.0], [7.0, 4.0]])
  encoded = Encoded(z, z, np.array([0, 0, 1, 2]))
  np.testing.assert_allclose(direction(encoded, 1, None), [2.0, 8.0 / 3.0])
  np.testing.assert_allclose(direction(encoded, 1, 2), [-2.0, 0.0])
  with pytest.raises(ConfigError, match="--without is 3, a label that no example has; they have 0 to 2"):
    direction(encoded, 1, 3)
  with pytest.raises(ConfigError, match="the data have no labels"):
    direction(encoded._replace(y=None), 1, None)


def test_latents_that_do_not_vary_are_not_active():
  z = np.random.default_rng(0).normal(size=(200, 3)) * [1.0, 0.01, 0.5] + 4.0
  assert num_active(z) == 2


def test_a_grid_of_the_plane_is_read_like_a_page():
  grid = plane_grid(3)
  assert grid.shape == (9, 2)
  assert grid[0][0] < 0 < grid[0][1] and grid[-1][0] > 0 > grid[-1][1]
  np.testing.assert_allclose(grid[4], 0.0, atol=1e-6)
