"""Learning curves as a picture."""

import pytest

from gdm.errors import SpecError
from gdm.visualization.learning import save_learning_curves


def test_curves_are_drawn_the_same_each_time_and_empty_ones_are_told(tmp_path):
  curves = {"one": [(0.3, 0.2, 0.4), (0.1, 0.05, 0.2)], "other": [(0.2, 0.1, 0.3), (0.15, 0.1, 0.2)]}
  for name in ("a.png", "b.png"):
    save_learning_curves(tmp_path / name, [10, 100], curves, title="words")
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
  for bad in ({}, {"one": curves["one"][:1]}):
    with pytest.raises(SpecError, match="each needs one at every size"):
      save_learning_curves(tmp_path / "c.png", [10, 100], bad)
