"""Frames become cells in their places, in the data's colours, and a film that ends on the samples."""

import numpy as np
import pytest
from PIL import Image

from gdm.errors import DataError, SpecError, WorkdirError
from gdm.visualization.images import save_grid
from gdm.visualization.trajectory import image_pictures, point_pictures, save_gif, save_point_strip, save_strip

RNG = np.random.default_rng(0)
LEVELS = 17


def frames_of(num_frames=4, num=3):
  return RNG.integers(0, LEVELS, (num_frames, num, 5, 4, 1)).astype(float)


def pixels(path):
  with Image.open(path) as image:
    return np.asarray(image.convert("RGB"))


def film(path):
  """(frames, milliseconds each is shown, how often it repeats) of a GIF."""
  with Image.open(path) as image:
    shown = []
    for index in range(image.n_frames):
      image.seek(index)
      shown.append((np.asarray(image.convert("RGB")), image.info["duration"]))
    return [frame for frame, _ in shown], [duration for _, duration in shown], image.info["loop"]


def test_a_strip_has_a_row_for_each_sample_and_a_column_for_each_frame(tmp_path):
  frames = frames_of()
  save_strip(tmp_path / "strip.png", frames, levels=LEVELS)
  in_order = np.stack([frames[f, s] for s in range(3) for f in range(4)]).astype(np.uint8)
  save_grid(tmp_path / "grid.png", in_order, levels=LEVELS, columns=4)
  np.testing.assert_array_equal(pixels(tmp_path / "strip.png"), pixels(tmp_path / "grid.png"))


def test_noise_beyond_the_data_is_clipped_and_between_levels_is_gray(tmp_path):
  save_strip(tmp_path / "a.png", np.array([-9.0, 8.0, 30.0]).reshape(3, 1, 1, 1, 1), levels=LEVELS, scale=1)
  np.testing.assert_array_equal(pixels(tmp_path / "a.png")[2, 2::3, 0][:3], [0, 128, 255])
  save_strip(tmp_path / "b.png", np.array([-9.0, 0.5, 30.0]).reshape(3, 1, 1, 1, 1), levels=None, scale=1)
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_film_shows_every_frame_then_waits_on_the_samples_and_starts_again(tmp_path):
  frames = frames_of()
  save_gif(tmp_path / "a.gif", image_pictures(frames, levels=LEVELS))
  shown, durations, loop = film(tmp_path / "a.gif")
  assert len(shown) == 4 and loop == 0 and durations[-1] > 10 * durations[0] and len(set(durations[:-1])) == 1
  for picture, images in zip(shown, frames, strict=True):
    save_grid(tmp_path / "grid.png", images.astype(np.uint8), levels=LEVELS)
    np.testing.assert_array_equal(picture, pixels(tmp_path / "grid.png"))
  save_gif(tmp_path / "b.gif", image_pictures(frames, levels=LEVELS))
  assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_points_are_drawn_in_one_window(tmp_path):
  frames = RNG.normal(size=(3, 50, 2)) * np.array([100.0, 2.0, 1.0])[:, None, None]
  save_point_strip(tmp_path / "strip.png", frames)
  pictures = point_pictures(frames)
  assert len(pictures) == 3 and len({picture.shape for picture in pictures}) == 1
  assert (pictures[0] != pictures[2]).any()
  save_gif(tmp_path / "a.gif", pictures)
  assert len(film(tmp_path / "a.gif")[0]) == 3
  height, width, _ = pixels(tmp_path / "strip.png").shape
  assert width > 2 * height


def test_what_is_no_trajectory_is_refused(tmp_path):
  with pytest.raises(SpecError, match="without frames"):
    save_strip(tmp_path / "a.png", frames_of()[:0], levels=LEVELS)
  with pytest.raises(SpecError, match="without frames"):
    save_gif(tmp_path / "a.gif", [])
  with pytest.raises(DataError, match="NaN"):
    save_strip(tmp_path / "a.png", np.full((1, 1, 2, 2, 1), np.nan), levels=None)
  assert not list(tmp_path.iterdir())
  with pytest.raises(WorkdirError, match="cannot be written"):
    save_gif(tmp_path / "missing" / "a.gif", image_pictures(frames_of(), levels=LEVELS))
