import numpy as np
from matplotlib import image

from gdm.visualization.bracket import save_bracket


def test_the_picture_is_written_and_shows_something(tmp_path):
  low, high, halves = np.array([-14.0, -13.0, -12.7]), np.array([-12.0, -12.3, -12.4]), np.full((2, 3), 0.1)
  for exact in (None, -12.5):
    save_bracket(tmp_path / "bracket.png", (10, 100, 1000), low, high, halves, exact=exact, title="a model")
    pixels = image.imread(tmp_path / "bracket.png")
    assert min(pixels.shape[:2]) > 500 and pixels.std() > 0.05
