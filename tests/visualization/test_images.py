"""Every value of an image is one crisp square of its colour, and equal pictures are equal files."""

import numpy as np
import pytest
from matplotlib.image import imread

from gdm.errors import DataError, SpecError, WorkdirError
from gdm.visualization.images import save_grid, save_side_by_side


def pixels(path):
  return np.round(255 * imread(path)[..., :3]).astype(np.uint8)


def digits(num=6, levels=17, shape=(8, 8, 1), seed=0):
  return np.random.default_rng(seed).integers(0, levels, (num, *shape)).astype(np.uint8)


def cell(image, row, column, height, width, scale, line=2):
  """The cell of a grid, seen once per magnified pixel."""
  top, left = row * (height * scale + line) + line, column * (width * scale + line) + line
  block = image[top:top + height * scale, left:left + width * scale]
  blocks = block.reshape(height, scale, width, scale, 3)
  assert np.all(blocks == blocks[:, :1, :, :1]), "a magnified pixel has more than one colour"
  return blocks[:, 0, :, 0]


@pytest.mark.parametrize(("shape", "scale"), [((8, 8, 1), 3), ((4, 6, 3), 2), ((5, 5, 1), 1)])
def test_the_images_can_be_read_back(tmp_path, shape, scale):
  x = digits(5, 17, shape)
  save_grid(tmp_path / "grid.png", x, levels=17, columns=3, scale=scale)
  picture = pixels(tmp_path / "grid.png")
  assert picture.shape == (2 * (shape[0] * scale + 2) + 2, 3 * (shape[1] * scale + 2) + 2, 3)
  for index in range(5):
    shown = cell(picture, index // 3, index % 3, *shape[:2], scale)
    np.testing.assert_array_equal(np.round(shown / 255 * 16), np.broadcast_to(x[index], (*shape[:2], 3)))


def test_real_numbers_and_binary_pixels_span_black_to_white(tmp_path):
  save_grid(tmp_path / "a.png", np.array([-0.2, 0.0, 1.0, 1.3]).reshape(1, 2, 2, 1), levels=None, scale=1)
  save_grid(tmp_path / "b.png", np.array([0, 0, 1, 1]).reshape(1, 2, 2, 1), levels=2, scale=1)
  np.testing.assert_array_equal(cell(pixels(tmp_path / "a.png"), 0, 0, 2, 2, 1)[..., 0], [[0, 0], [255, 255]])
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_defaults_magnify_small_images_into_a_square(tmp_path):
  save_grid(tmp_path / "grid.png", digits(9), levels=17)
  assert pixels(tmp_path / "grid.png").shape == (3 * 58 + 2, 3 * 58 + 2, 3)


def test_side_by_side_copies_the_grids_pixel_by_pixel(tmp_path):
  data, samples = digits(4), digits(7, seed=1)
  save_side_by_side(tmp_path / "both.png", {"data": data, "samples": samples}, levels=17, scale=2)
  both = pixels(tmp_path / "both.png")
  for x in (data, samples):
    save_grid(tmp_path / "one.png", x, levels=17, scale=2)
    one = pixels(tmp_path / "one.png")
    windows = np.lib.stride_tricks.sliding_window_view(both, one.shape)[:, :, 0]
    assert np.any(np.all(windows == one, axis=(2, 3, 4)))


def test_equal_pictures_are_equal_files_and_nothing_else_is_left(tmp_path):
  for name in ("a.png", "b.png"):
    save_side_by_side(tmp_path / name, {"data": digits()}, levels=17)
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(("images", "levels", "error"), [
    (np.zeros((0, 8, 8, 1), np.uint8), 17, SpecError), (np.zeros((3, 8, 8, 2), np.uint8), 17, SpecError),
    (np.full((1, 2, 2, 1), 17, np.uint8), 17, DataError),
    (np.full((1, 2, 2, 1), -1), 17, DataError), (np.zeros((1, 2, 2, 1)), 17, DataError),
    (np.full((1, 2, 2, 1), np.nan), None, DataError)])
def test_what_is_no_picture_is_refused(tmp_path, images, levels, error):
  with pytest.raises(error):
    save_grid(tmp_path / "grid.png", images, levels=levels)
  assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_is_a_user_error(tmp_path):
  with pytest.raises(WorkdirError, match="cannot be written"):
    save_grid(tmp_path / "missing" / "grid.png", digits(), levels=17)
