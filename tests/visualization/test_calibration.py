import numpy as np
from matplotlib import image

from gdm.visualization.calibration import save_calibration


def test_the_picture_shows_the_shares_and_leaves_empty_bins_out(tmp_path):
  counts, confidence = np.array([0, 4, 6]), np.array([0.0, 0.6, 0.9])
  seen = []
  for share in (0.5, 1.0):
    shares = np.array([0.0, 0.5, share])
    save_calibration(tmp_path / "calibration.png", counts, confidence, shares,
                     np.stack([0.8 * shares, np.minimum(1.2 * shares, 1.0)], axis=1), title="a model")
    seen.append(image.imread(tmp_path / "calibration.png"))
    assert min(seen[-1].shape[:2]) > 500 and seen[-1].std() > 0.05
  assert np.any(seen[0] != seen[1])
