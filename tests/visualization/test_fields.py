"""Arrows stand where the score was asked for, point along it, and never leave their cell."""

import numpy as np
import pytest
from matplotlib.quiver import Quiver

from gdm.errors import NotFiniteError, SpecError
from gdm.visualization import fields
from gdm.visualization.fields import save_score_fields

POINTS = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)


def normal(x, t):
  return -x / t


@pytest.fixture
def figures(monkeypatch):
  saved = []
  monkeypatch.setattr(fields, "save_figure", lambda path, figure: saved.append(figure))
  return saved


def quiver(axes):
  [found] = [artist for artist in axes.collections if isinstance(artist, Quiver)]
  return found


def test_arrows_are_the_score_at_their_places(figures):
  save_score_fields("scores.png", POINTS, POINTS[:50], normal, (0.9, 0.1), resolution=10)
  axes = figures[0].axes
  assert [a.get_title() for a in axes[:4]] == ["data (200)", "samples (50)", "score at t = 0.9", "score at t = 0.1"]
  lengths = []
  for panel, t in zip(axes[2:4], (0.9, 0.1), strict=True):
    drawn = quiver(panel)
    arrows, score = np.stack([drawn.U, drawn.V], axis=1), normal(drawn.XY, t)
    cosines = np.sum(arrows * score, axis=1) / np.linalg.norm(arrows, axis=1) / np.linalg.norm(score, axis=1)
    np.testing.assert_allclose(cosines, 1.0, rtol=1e-5)
    np.testing.assert_allclose(drawn.get_array(), np.linalg.norm(score, axis=1), rtol=1e-5)
    left, right = panel.get_xlim()
    size = np.linalg.norm(arrows, axis=1)
    assert size.max() < (right - left) / 10
    np.testing.assert_array_equal(np.argsort(size), np.argsort(np.linalg.norm(score, axis=1)))
    lengths.append(drawn.norm)
  assert (lengths[0].vmin, lengths[0].vmax) == (lengths[1].vmin, lengths[1].vmax)  # one scale of colours


def test_noised_data_set_the_window_of_their_time(figures):
  save_score_fields("scores.png", POINTS, POINTS, normal, (0.9, 0.1), noised=lambda t: POINTS * 10 * t, resolution=8)
  data, _, wide, near = figures[0].axes[:4]
  np.testing.assert_allclose(wide.get_xlim(), 9 * np.array(near.get_xlim()), rtol=1e-5)
  assert 0.6 * np.ptp(data.get_xlim()) < np.ptp(near.get_xlim()) < np.ptp(data.get_xlim())  # without the outermost


def test_the_score_is_asked_once_for_each_time_in_one_shape(figures):
  calls = []

  def score(x, t):
    calls.append((x.shape, x.dtype, t))
    return normal(x, t)

  save_score_fields("scores.png", POINTS, POINTS, score, (0.9, 0.1), resolution=6)
  assert calls == [((36, 2), np.float32, 0.9), ((36, 2), np.float32, 0.1)]


def test_a_field_without_length_is_drawn_and_equal_pictures_are_equal_files(tmp_path):
  for name in ("a.png", "b.png"):
    save_score_fields(tmp_path / name, POINTS, POINTS, lambda x, t: 0 * x, (0.5,), resolution=4)
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_is_no_field_is_refused(tmp_path):
  with pytest.raises(NotFiniteError, match=r"score at \(.*\) and time 0.5 is NaN"):
    save_score_fields(tmp_path / "a.png", POINTS, POINTS, lambda x, t: x * np.nan, (0.5,))
  with pytest.raises(SpecError, match=r"data has shape \(0, 2\)"):
    save_score_fields(tmp_path / "a.png", POINTS[:0], POINTS, normal, (0.5,))
  with pytest.raises(SpecError, match="no times"):
    save_score_fields(tmp_path / "a.png", POINTS, POINTS, normal, ())
