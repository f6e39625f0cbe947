"""A landscape is drawn where it lies, all in one colour scale that the first panels set, with empty places dark."""

import numpy as np
import pytest

from gdm.errors import NotFiniteError, SpecError
from gdm.visualization import landscapes
from gdm.visualization.landscapes import Landscape, LandscapeRow, save_landscapes

POINTS = np.array([[0.0, 0.0], [2.0, 1.0]])
WINDOW = (-1.0, 3.0, -2.0, 3.0)
TABLE = -np.arange(20.0).reshape(4, 5)


def row(*tables, label="ring", points=POINTS):
  return LandscapeRow(label, points, [Landscape(f"panel {index}", table, WINDOW) for index, table in enumerate(tables)])


def test_panels_share_colours_and_lie_where_they_are(monkeypatch):
  saved = []
  monkeypatch.setattr(landscapes, "save_figure", lambda path, figure, dpi: saved.append(figure))
  empty = np.full((4, 5), -np.inf)
  save_landscapes("a.png", [row(TABLE, TABLE + 5.0), row(TABLE - 1.5, empty, label="spiral", points=POINTS + 1.0)])
  axes = saved[0].axes[:4]
  images = [each.images[0] for each in axes]
  assert {image.get_clim() for image in images} == {(-12.0, 0.0)}
  assert all(tuple(image.get_extent()) == WINDOW and image.origin == "lower" for image in images)
  assert images[1].get_array()[1, 2] == -2.0 and images[3].get_array().max() < -12.0
  assert [each.get_title() for each in axes] == ["panel 0", "panel 1"] * 2
  assert [each.get_ylabel() for each in axes] == ["ring", "", "spiral", ""]
  np.testing.assert_allclose([each.get_xlim() for each in axes], [(-0.45, 3.45)] * 4)  # of all points


def test_equal_pictures_are_equal_files(tmp_path):
  for name in ("a.png", "b.png"):
    save_landscapes(tmp_path / name, [row(TABLE)], "title")
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_cannot_be_drawn(tmp_path):
  for rows in ([], [row()], [row(TABLE), row(TABLE, TABLE)]):
    with pytest.raises(SpecError, match="rows of landscapes have"):
      save_landscapes(tmp_path / "a.png", rows)
  with pytest.raises(SpecError, match=r"points of ring has shape \(0, 2\)"):
    save_landscapes(tmp_path / "a.png", [row(TABLE, points=POINTS[:0])])
  with pytest.raises(NotFiniteError, match="'panel 1' of ring has NaN"):
    save_landscapes(tmp_path / "a.png", [row(TABLE, TABLE * np.nan)])
