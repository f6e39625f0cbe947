"""Worlds: returns with their interval, the frame before again as a model, and runs of something else refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from gdm.baselines.independent import Independent
from gdm.data.dataset import Dataset
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, WorkdirError
from gdm.studies.imitation import Imitation, curves_of, imitated, read_imitations
from gdm.studies.worlds import Earned, Senses, copied_frame_nats, environment_of, require_world
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


def test_what_never_varies_has_a_bound_all_the_same():
  """Episodes of MountainCar begin with the velocity 0, always; what stays as it is has no changes either."""
  rng = np.random.default_rng(0)
  x = np.cumsum(rng.normal(size=(40, 6, 3)), axis=1).astype(np.float32)
  x[:, 0, 1], x[..., 2] = 0.0, 5.0
  data = Dataset("walks", DataSpec((6, 3), None),
                 {name: {"x": rows, "length": np.full(20, 6)} for name, rows in (("train", x[:20]), ("test", x[20:]))})
  nats = copied_frame_nats(SimpleNamespace(dataset=data), "test")
  spread = x[:20, :, 1].astype(np.float64).std()
  sharp = scipy.stats.norm.logpdf(0.0, scale=1e-3 * np.array([spread, 1.0]))  # of the first frame's velocity, and of 5
  varying = 2 * scipy.stats.norm.entropy() - scipy.stats.norm.entropy() / 6
  assert nats == pytest.approx(varying - sharp[0] / 6 - sharp[1], abs=0.3)


def test_runs_of_something_else_are_refused():
  spec = DataSpec((4,), 3)
  run = SimpleNamespace(model=Independent(spec), spec=spec, data=SimpleNamespace(name="mine"),
                        config=SimpleNamespace(model=SimpleNamespace(name="independent")))
  with pytest.raises(ConfigError, match="independent on mine is no model of frames given actions"):
    require_world(run, Environment("CartPole-v1"))
  with pytest.raises(ConfigError, match=r"no model of actions \(1,\) given observations \(3,\), as Pendulum-v1"):
    imitated(run, Environment("Pendulum-v1"), 2, 0)


class Lived:
  """A model that can be lived in."""

  def closed_loop(self):
    raise NotImplementedError


def test_frames_of_another_size_are_refused():
  """Of pictures the run says their size, so that vectors of another environment are what can go wrong, or no ends."""
  pictures = DataSpec((5, 8, 10, 1), 4, has_lengths=True, context_dims=10)
  run = SimpleNamespace(model=Lived(), spec=pictures, data=SimpleNamespace(name="mine"),
                        config=SimpleNamespace(model=SimpleNamespace(name="latent_frames")))
  env = environment_of(run, "CartPole-v1")
  assert env.camera.shape == (8, 10, 1) and env.camera.levels == 4
  with pytest.raises(ConfigError, match="has no latents, or its data do not say which episodes ended"):
    require_world(run, env)
  with pytest.raises(ConfigError, match=r"has frames \(8, 10, 1\) with levels 4 .*, but those of CartPole-v1 are vec"):
    require_world(run, Environment("CartPole-v1"))
  vectors = SimpleNamespace(**{**vars(run), "spec": DataSpec((5, 4), None, has_lengths=True, context_dims=5)})
  with pytest.raises(ConfigError, match=r"has frames \(4,\) .*, but those of CartPole-v1 are vectors \(5,\) and 10"):
    require_world(vectors, environment_of(vectors, "CartPole-v1"))


def test_a_controller_is_given_the_newest_frame_and_changes():
  frames = np.array([[3.0, 1.0], [1.0, 1.0], [0.0, 5.0]])  # the newest first
  senses = Senses(2, 3, np.array([[1.0, 1.0], [2.0, 1.0], [1.0, 4.0]], np.float32))
  np.testing.assert_allclose(senses.given(frames), [3.0, 1.0, 1.0, 0.0, 1.0, -1.0])
  assert senses.given(np.zeros((7, 3, 2))).shape == (7, senses.size)


def test_imitations_are_kept_and_read_by_model_and_actions(tmp_path):
  with pytest.raises(WorkdirError, match=r"no imitation.json in a folder of"):
    read_imitations(tmp_path)
  for name, actions, mean in (("rnade", 800, -3.0), ("edm", 200, -2.0), ("rnade", 200, -5.0)):
    folder = tmp_path / f"{name}_{actions}"
    folder.mkdir()
    Imitation(name, "Pendulum-v1", actions, 50, mean, 0.5, {"chance": -9.0}).save(folder)
  found = read_imitations(tmp_path)
  assert curves_of(found) == {"edm": [(200, -2.0, 0.5)], "rnade": [(200, -5.0, 0.5), (800, -3.0, 0.5)]}
  Imitation("edm", "CartPole-v1", 1, 2, 1.0, 0.0, {}).save(tmp_path / "edm_200")
  with pytest.raises(WorkdirError, match="has policies of CartPole-v1, Pendulum-v1"):
    read_imitations(tmp_path)
