"""The picture of a score shows every note, and pale what was given."""

import numpy as np
import pytest
from matplotlib import image

from gdm.errors import SpecError
from gdm.visualization.score import pitch_name, save_score


def ink(path, note):
  save_score(path, {"piece": [note, (15, 16, 50, 1, False)]}, steps_per_quarter=4)
  pixels = image.imread(path)[..., :3]
  blue = pixels[..., 2] - pixels[..., 0]
  return float((blue > 0.05).mean()), float(blue.max())


def test_a_longer_note_is_more_ink_and_a_given_one_is_pale(tmp_path):
  short, strong = ink(tmp_path / "a.png", (0, 4, 60, 0, False))
  long, _ = ink(tmp_path / "b.png", (0, 8, 60, 0, False))
  assert long > 1.5 * short
  _, pale = ink(tmp_path / "c.png", (0, 4, 60, 0, True))
  assert pale < 0.6 * strong


def test_pitches_have_names_and_no_music_has_no_picture(tmp_path):
  assert [pitch_name(pitch) for pitch in (60, 69, 21, 61)] == ["C4", "A4", "A0", "C♯4"]
  with pytest.raises(SpecError, match="no music to draw"):
    save_score(tmp_path / "none.png", {}, steps_per_quarter=4)
  assert np.array_equal([], [p.name for p in tmp_path.iterdir()])
