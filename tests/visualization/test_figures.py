"""A path's ending chooses the kind of file; the same picture gives the same bytes."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from gdm.errors import SpecError
from gdm.visualization.figures import figure_bytes, save_figure, save_pixels

STARTS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


def figure():
  made = Figure(figsize=(2.0, 1.5))
  made.subplots().plot([0, 1], [1, 0], label="a")
  return made


@pytest.mark.parametrize("suffix", STARTS)
def test_the_ending_chooses_and_bytes_repeat(tmp_path, suffix):
  save_figure(tmp_path / f"a{suffix}", figure())
  written = (tmp_path / f"a{suffix}").read_bytes()
  assert written.startswith(STARTS[suffix])
  assert written == figure_bytes(figure(), suffix)
  pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
  save_pixels(tmp_path / f"b{suffix}", pixels)
  first = (tmp_path / f"b{suffix}").read_bytes()
  save_pixels(tmp_path / f"b{suffix}", pixels)
  assert first.startswith(STARTS[suffix]) and first == (tmp_path / f"b{suffix}").read_bytes()


def test_pixels_are_one_to_one(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
  save_pixels(tmp_path / "a.png", pixels)
  np.testing.assert_array_equal(np.round(255 * imread(tmp_path / "a.png")[..., :3]), pixels)


def test_another_ending_is_refused_and_nothing_written(tmp_path):
  with pytest.raises(SpecError, match=r"ending is '.jpg'; it must be .png, .pdf or .svg"):
    save_figure(tmp_path / "a.jpg", figure())
  assert not list(tmp_path.iterdir())
