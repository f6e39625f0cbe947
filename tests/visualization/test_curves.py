"""Curves are drawn where there are any, each metric once and in its unit."""

import math

import numpy as np
import pytest
from matplotlib.image import imread

from gdm.visualization import curves
from gdm.visualization.curves import save_curves


def rows_of(num_train, num_valid=0, bits=True):
  rows = [{"step": 10 * i, "train/loss": 90 + 50 / i, "train/nll": 90 + 50 / i, "train/grad_norm": 1 / i}
          for i in range(1, num_train + 1)]
  for i in range(1, num_valid + 1):
    nll = 95 + 40 / i
    rows.append({"step": 50 * i, "valid/nats": -nll} | ({"valid/bits_per_dim": nll / 64 / math.log(2)} if bits else {}))
  return rows


@pytest.fixture
def figures(monkeypatch):
  """The figures that would have been written."""
  saved = []
  monkeypatch.setattr(curves, "save_figure", lambda path, figure: saved.append(figure))
  return saved


def labels(figure):
  return [axes.get_ylabel() for axes in figure.axes]


def lines(axes):
  """Label -> values of the curves with a label."""
  return {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}


def test_training_and_validation_share_axes_and_sign(figures):
  assert save_curves("curves.png", rows_of(20, 4))
  [figure] = figures
  assert labels(figure) == ["negative log-likelihood (nats per example)", "norm of the gradient"]  # no loss: it is nll
  drawn = lines(figure.axes[0])
  np.testing.assert_allclose(drawn["train"], [90 + 50 / i for i in range(1, 21)])
  np.testing.assert_allclose(drawn["valid, best 105 at step 200"], [95 + 40 / i for i in range(1, 5)])
  assert {axes.get_xlabel() for axes in figure.axes} == {"step"}


def test_bits_are_a_second_scale_of_the_same_curve(figures):
  save_curves("curves.png", rows_of(20, 4))
  [secondary] = figures[0].axes[0].child_axes
  assert secondary.get_ylabel() == "bits/dim"
  figures[0].draw_without_rendering()
  np.testing.assert_allclose(secondary.get_ylim(), np.array(figures[0].axes[0].get_ylim()) / 64 / math.log(2))


def test_continuous_data_has_no_bits_axis(figures):
  save_curves("curves.png", rows_of(20, 4, bits=False))
  assert not figures[0].axes[0].child_axes


def test_a_loss_that_is_no_likelihood_gets_its_panel(figures):
  rows = [{"step": i, "train/nll": 2.0 / i, "train/loss": 3.0 / i} for i in range(1, 5)]
  save_curves("curves.png", rows)
  assert labels(figures[0]) == ["negative log-likelihood (nats per example)", "loss"]


def test_each_loss_has_its_own_unit_and_no_curve_is_drawn_twice(figures):
  rows = [{"step": i, "train/nll": 64.0 / i, "train/loss": 1.0 / i, "train/bits_per_dim": 1.0 / i / math.log(2),
           "train/accuracy": 1.0, "train/acceptance": 0.5} for i in range(1, 5)]
  units = {"loss": "nats per dim"}
  save_curves("curves.png", rows, units=units)  # the loss is the nll in another unit, and so are bits
  assert labels(figures[0]) == ["negative log-likelihood (nats per example)", "acceptance", "accuracy"]
  [secondary] = figures[0].axes[0].child_axes
  assert secondary.get_ylabel() == "bits/dim"
  others = [{**row, "train/nll": row["train/nll"] + 1 / row["step"] ** 2} for row in rows]
  save_curves("curves.png", others, units=units)
  [secondary] = figures[1].axes[1].child_axes
  assert labels(figures[1])[1] == "negative log-likelihood (bits/dim)" and secondary.get_ylabel() == "nats per dim"
  gap = [{"step": i, "train/loss": 1.0 - i, "train/energy_gap": 1.0 - i} for i in range(1, 5)]
  save_curves("curves.png", gap, units={"loss": "nats"})
  assert labels(figures[2]) == ["loss (nats)"]


@pytest.mark.fast_cases(
    "grad_norm-values0", "grad_norm-values2", "loss-values0", "loss-values1", "loss-values7", "loss-values8")
@pytest.mark.parametrize("values", [
    (2.1, 4.9), (3.0, 30.0), (0.3, 0.31), (1e-8, 3.0), (6.0, 6.0), (1e5, 1e5 + 1.0), (7.1e-7, 9.9e-7), (0.9, 9.1),
    (5e-300, 8e-300)])
@pytest.mark.parametrize("name", ["grad_norm", "loss"])
def test_both_axes_have_labelled_ticks(figures, name, values):
  save_curves("curves.png", [{"step": 10_000 + i, f"train/{name}": value} for i, value in enumerate(values)])
  axes = figures[0].axes[0]
  figures[0].draw_without_rendering()
  for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
    ticks = [*zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True),
             *zip(axis.get_minorticklocs(), axis.get_minorticklabels(), strict=True)]
    assert sum(low <= place <= high and label.get_text() != "" for place, label in ticks) >= 2


def test_metrics_of_several_objectives_keep_their_names(figures):
  rows = [{"step": i, "train/generator/loss": 1.0 / i, "train/critic/loss": 2.0 / i} for i in range(1, 5)]
  save_curves("curves.png", rows)
  assert labels(figures[0]) == ["critic/loss", "generator/loss"]


def test_rows_repeated_after_a_resume_count_once_in_order(figures):
  rows = [{"step": 2, "train/nll": 2.0}, {"step": 1, "train/nll": 3.0}, {"step": 2, "train/nll": 1.0}]
  save_curves("curves.png", rows)
  np.testing.assert_array_equal(lines(figures[0].axes[0])["train"], [3.0, 1.0])


@pytest.mark.parametrize("rows", [[], rows_of(1), [{"step": 1, "valid/nats": -3.0, "valid/bits_per_dim": 1.0}],
                                  [{"step": 1}, {"step": 2, "train/nll": math.nan}, {"step": 3, "note": "text"}]])
def test_without_two_points_there_is_no_file(tmp_path, rows):
  assert not save_curves(tmp_path / "curves.png", rows)
  assert not list(tmp_path.iterdir())


FLAT = [{"step": 1, "train/nll": 3}, {"step": 2, "train/nll": 3}]


@pytest.mark.fast_cases("rows2")
@pytest.mark.parametrize("rows", [rows_of(2), rows_of(300, 8), FLAT])
def test_equal_curves_are_equal_files(tmp_path, rows):
  for name in ("a.png", "b.png"):
    assert save_curves(tmp_path / name, rows, title="made · digits")
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
  assert imread(tmp_path / "a.png").std() > 0.01
