"""A map of latents is a picture of all labels."""

import numpy as np
import pytest
from PIL import Image

from gdm.visualization.latents import save_map


@pytest.mark.fast_cases("labels1")
@pytest.mark.parametrize("labels", [None, np.arange(300) % 10, np.arange(300) % 30])
def test_a_map_is_written(tmp_path, labels):
  save_map(tmp_path / "map.png", np.random.default_rng(0).normal(size=(300, 2)), labels, "latents")
  with Image.open(tmp_path / "map.png") as image:
    colours = len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))
  assert colours > (20 if labels is None else 100)
