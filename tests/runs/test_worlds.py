"""Worlds: returns with their interval, the frame before again as a model, and runs of something else refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from gdm.baselines.independent import Independent
from gdm.data.dataset import Dataset
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.runs.worlds import Earned, copied_frame_nats, imitated, require_world
from gdm.worlds.environments import Environment

pytest.importorskip("gymnasium")


def test_returns_have_students_interval():
  found = Earned.of(np.array([1.0, 2.0, 3.0]))
  assert found.mean == 2.0 and found.half == pytest.approx(4.302653 / np.sqrt(3))
  assert str(Earned(20.94, 3.01)) == "20.9 ± 3.0"


def test_the_frame_before_again_is_scored_by_normal_densities():
  rng = np.random.default_rng(0)
  x = np.cumsum(rng.normal(size=(400, 6, 2)) * [1.0, 0.1], axis=1).astype(np.float32)
  parts = {"train": x[:200], "test": x[200:]}
  data = Dataset("walks", DataSpec((6, 2), None),
                 {name: {"x": rows, "length": np.full(200, 6)} for name, rows in parts.items()})
  entropy = sum(scipy.stats.norm(scale=scale).entropy() for scale in (1.0, 0.1))
  assert copied_frame_nats(SimpleNamespace(dataset=data), "test") == pytest.approx(entropy, abs=0.06)


def test_runs_of_something_else_are_refused():
  spec = DataSpec((4,), 3)
  run = SimpleNamespace(model=Independent(spec), spec=spec, data=SimpleNamespace(name="mine"),
                        config=SimpleNamespace(model=SimpleNamespace(name="independent")))
  with pytest.raises(ConfigError, match="independent on mine is no model of frames given actions"):
    require_world(run, Environment("CartPole-v1"))
  with pytest.raises(ConfigError, match=r"no model of actions \(1,\) given observations \(3,\), as Pendulum-v1"):
    imitated(run, Environment("Pendulum-v1"), 2, 0)
