"""The picture of a density asks for it where it says, and tells how much mass it shows."""

import numpy as np
import pytest

from gdm.errors import NotFiniteError, SpecError
from gdm.visualization import density
from gdm.visualization.density import save_density

POINTS = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)


def normal(x):
  return -0.5 * np.sum(x**2, axis=1) - np.log(2 * np.pi)


@pytest.fixture
def figures(monkeypatch):
  saved = []
  monkeypatch.setattr(density, "save_figure", lambda path, figure: saved.append(figure))
  return saved


def test_the_grid_is_the_density_at_the_places_of_its_pixels(figures):
  save_density("density.png", POINTS, POINTS[:50], normal, resolution=50)
  axes = figures[0].axes[2]
  image = axes.images[0]
  left, right, bottom, top = image.get_extent()
  step = (right - left) / 50
  row, column = 31, 7
  point = np.array([[left + (column + 0.5) * step, bottom + (row + 0.5) * step]])
  assert image.origin == "lower"
  np.testing.assert_allclose(image.get_array()[row, column], np.exp(normal(point))[0], rtol=1e-4)
  assert axes.get_title() == "learned density (mass in view 1.000)"
  assert (left, right, bottom, top) == (*axes.get_xlim(), *axes.get_ylim())
  np.testing.assert_array_equal(np.clip(POINTS, [left, bottom], [right, top]), POINTS)


def test_every_call_has_one_shape_and_dtype():
  calls = set()

  def log_prob(x):
    calls.add((x.shape, x.dtype))
    return normal(x)

  density._on_grid(log_prob, (-1.0, 1.0, -1.0, 1.0), 100, "density")
  assert calls == {((4096, 2), np.dtype(np.float32))}


def test_a_known_density_is_shown_beside_in_the_same_colours(figures):
  save_density("density.png", POINTS, POINTS, lambda x: normal(x) + 1.0, true_log_prob=normal, resolution=40)
  true, learned = (axes.images[0] for axes in figures[0].axes[2:4])
  assert true.get_clim() == learned.get_clim()
  assert [axes.get_title().split(" (")[0] for axes in figures[0].axes[:4]] == [
      "data", "samples", "true density", "learned density"]


def test_empty_places_are_dark_but_nan_is_an_error(tmp_path):
  save_density(tmp_path / "a.png", POINTS, POINTS, lambda x: np.where(x[:, 0] > 0, 0.0, -np.inf), resolution=20)
  for bad in (np.nan, np.inf):
    with pytest.raises(NotFiniteError, match=r"learned density at \("):
      save_density(tmp_path / "b.png", POINTS, POINTS, lambda x, bad=bad: np.full(len(x), bad), resolution=20)


def test_equal_pictures_are_equal_files(tmp_path):
  for name in ("a.png", "b.png"):
    save_density(tmp_path / name, POINTS, POINTS, normal, resolution=20)
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_nothing_to_draw_is_a_user_error(tmp_path):
  with pytest.raises(SpecError, match=r"samples has shape \(0, 2\)"):
    save_density(tmp_path / "a.png", POINTS, np.zeros((0, 2)), normal)
