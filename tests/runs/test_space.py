"""Points are drawn within their ranges, the same ones again; a run is chosen by its validation."""

import importlib.util
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdm.errors import ConfigError
from gdm.runs.sweep.space import Proposals, Range, make_range, random_points, split_range

AXES = {"rate": Range(1e-4, 1e-2), "width": Range(8, 512), "cell": ["lstm", "gru"], "hidden": [(100,), (200, 200)]}


@given(st.floats(1e-8, 1.0), st.floats(1.01, 1e6), st.floats(0, 1))
def test_numbers_lie_within_their_range(low, ratio, share):
  found = Range(low, low * ratio)
  assert low <= found.at(share) <= low * ratio
  assert isinstance(Range(2, 900).at(share), int)


@pytest.mark.parametrize(("text", "ends"), [("1e-4..1e-2", ("1e-4", "1e-2")), ("0.5..2.5", ("0.5", "2.5")),
                                            ("8..512", ("8", "512")), ("1.5", None), ("../a", None), ("a", None)])
def test_ranges_are_two_ends(text, ends):
  assert split_range(text) == ends


@pytest.mark.parametrize("ends", [(0, 1), (2, 1), (1, 1), ("a", "b"), (True, 2)])
def test_ranges_that_cannot_be_are_refused(ends):
  with pytest.raises(ConfigError, match=r"between two numbers above 0, the lower first"):
    make_range("seed", *ends)


def test_more_points_begin_with_the_same_ones_and_are_uniform_in_the_logarithm():
  few, many = random_points(AXES, 5), random_points(AXES, 400)
  assert many[:5] == few and len({repr(point) for point in many}) == 400
  share = [math.log(point["rate"] / 1e-4) / math.log(100) for point in many]
  assert abs(np.mean(share) - 0.5) < 0.06 and abs(np.std(share) - 12**-0.5) < 0.03
  assert {point["cell"] for point in many} == {"lstm", "gru"}


def test_lists_have_no_more_points_than_combinations():
  assert sorted(point["seed"] for point in random_points({"seed": [0, 1, 2]}, 10)) == [0, 1, 2]


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="optuna is not installed")
def test_optuna_finds_a_peak_and_proposes_the_same_again():
  def run(num):
    proposals, points = Proposals(AXES), []
    for i in range(num):
      trial, point = proposals.next()
      nats = -abs(math.log(point["rate"] / 1e-3)) - (point["cell"] == "gru")
      proposals.tell(trial, None if i == 3 else nats)
      points.append((nats, point))
    return points

  points = run(40)
  assert run(12) == points[:12]
  assert max(points[:40], key=lambda each: each[0])[0] > -0.2
  assert all(isinstance(point["width"], int) and point["hidden"] in AXES["hidden"] for _, point in points)


def test_a_missing_optuna_is_named(monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "optuna", None)
  with pytest.raises(ConfigError, match=re.escape("install the extra 'optuna'")):
    Proposals(AXES)
