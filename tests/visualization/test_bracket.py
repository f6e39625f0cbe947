import numpy as np
from matplotlib import image

from gdm.visualization.bracket import save_bracket


def test_the_picture_is_written_and_shows_something(tmp_path):
  low, high = np.array([-14.0, -13.0, -12.7]), np.array([-12.0, -12.3, -12.4])
  errors = np.array([[0.5, 0.4, 0.3], [0.1, 0.1, 0.1]])
  seen = []
  for exact, has_upper_end, error in ((None, True, errors), (-12.5, True, errors), (None, False, errors)):
    save_bracket(tmp_path / "bracket.png", (10, 100, 1000), low, high, error, has_upper_end=has_upper_end, exact=exact,
                 title="a model")
    pixels = image.imread(tmp_path / "bracket.png")
    assert min(pixels.shape[:2]) > 500 and pixels.std() > 0.05
    seen.append(pixels)
  assert np.any(seen[0] != seen[2])  # what has no upper end is told from what has
