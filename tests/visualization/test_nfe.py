"""The picture of quality against cost shows the numbers it is given, times 1,000."""

import numpy as np
import pytest

from gdm.errors import SpecError
from gdm.visualization import nfe
from gdm.visualization.nfe import NFEPoint, save_nfe

CURVES = {"ddim": [NFEPoint(20, 0.002, 0.001), NFEPoint(5, 0.3, 0.01)], "ancestral": [NFEPoint(1000, -0.0002, 0.001)]}


def test_points_are_where_they_should_be(monkeypatch):
  saved = []
  monkeypatch.setattr(nfe, "save_figure", lambda path, figure: saved.append(figure))
  save_nfe("nfe.png", {"cubic": CURVES, "gaussian": CURVES}, {"cubic": (1e-4, 1e-3), "gaussian": (0.0, 1.0)})
  log, linear = saved[0].axes
  assert (log.get_xscale(), log.get_yscale(), linear.get_yscale()) == ("log", "symlog", "linear")
  drawn = {container.get_label(): container.lines[0].get_xydata() for container in log.containers}
  np.testing.assert_allclose(drawn["ddim"], [[5, 300], [20, 2]])
  np.testing.assert_allclose(drawn["ancestral"], [[1000, -0.2]])
  assert [text.get_text() for text in log.get_legend().get_texts()] == ["other data", "ddim", "ancestral"]


def test_equal_pictures_are_equal_files_and_none_is_an_error(tmp_path):
  for name in ("a.png", "b.png"):
    save_nfe(tmp_path / name, {"cubic": CURVES}, {"cubic": (1e-4, 1e-3)}, title="ddpm · digits")
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
  with pytest.raises(SpecError, match="no points"):
    save_nfe(tmp_path / "c.png", {"cubic": {"ddim": []}}, {"cubic": (1e-4, 1e-3)})
