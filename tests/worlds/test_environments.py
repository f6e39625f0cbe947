"""Environments: rollouts repeat by seed, experts earn, recorded data are what happened, errors name the extra."""

import sys

import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.errors import ConfigError, DataError
from gdm.worlds.control import evolve, linear, num_parameters
from gdm.worlds.environments import EXPERTS, Environment
from gdm.worlds.recording import decisions_of, frames_of, record, require_used

pytest.importorskip("gymnasium")
CART, PENDULUM = "CartPole-v1", "Pendulum-v1"


def test_a_seed_is_an_episode():
  env = Environment(CART)
  first, again, other = (env.roll(env.random, seed, 50) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first.observations, again.observations)
  assert len(first.observations) == len(first.actions) + 1 and first.ended
  assert other.observations.shape != first.observations.shape or (other.observations != first.observations).any()
  assert (env.dims, env.width, env.num_choices) == (4, 2, 2)


def test_experts_earn_more_than_chance():
  cart, pendulum = Environment(CART), Environment(PENDULUM)
  assert cart.returns(EXPERTS[CART], 3, 0).min() == 500
  assert pendulum.returns(EXPERTS[PENDULUM], 4, 0).mean() > -300 > -700 > pendulum.returns(pendulum.random, 4, 0).mean()


def test_frames_have_the_action_before_them_and_a_mark_of_the_end(tmp_path):
  env = Environment(CART)
  rollouts = record(env, "linear", 10, 30, 0)
  np.savez(tmp_path / "frames.npz", **frames_of(rollouts, 30, 0))
  dataset = load_dataset(f"npz:{tmp_path / 'frames.npz'}")
  assert dataset.spec.event == (31, 5) and dataset.spec.context_dims == 31 * 2 and dataset.spec.has_lengths
  row, rollout = dataset.split("test").rows(slice(0, 1)), rollouts[9]
  steps = int(row["length"][0])
  assert steps == len(rollout.observations)
  np.testing.assert_array_equal(row["x"][0, :steps, :4], rollout.observations)
  given = row["context"].reshape(31, 2)
  assert not given[0].any() and (given[1:steps].argmax(axis=1) == rollout.actions.argmax(axis=1)).all()
  marks = row["x"][0, :steps, 4]
  assert (marks[:-1] > 0.5).all() and (marks[-1] < -0.5) == rollout.ended


def test_decisions_are_actions_given_observations(tmp_path):
  env = Environment(CART)
  rollouts = record(env, "expert", 4, 10, 0)
  np.savez(tmp_path / "choices.npz", **decisions_of(rollouts, env.num_choices))
  dataset = load_dataset(f"npz:{tmp_path / 'choices.npz'}")
  assert dataset.spec.event == (1,) and dataset.spec.levels == 2 and dataset.spec.context_dims == 4
  train = dataset.split("train").rows(slice(None))
  expected = [EXPERTS[CART](context, np.random.default_rng(0)).argmax() for context in train["context"]]
  np.testing.assert_array_equal(train["x"][:, 0], expected)
  with pytest.raises(ConfigError, match=r"--noise is 0\.1, but actions are one of 2 choices"):
    decisions_of(rollouts, env.num_choices, 0.1)
  assert len(train["x"]) == 20 and "levels" not in decisions_of(record(Environment(PENDULUM), "random", 3, 5, 0), 0)


@pytest.mark.parametrize(("flag", "recording", "of"), [
    ("size", ("vectors", False, "random"), "pictures"), ("levels", ("vectors", False, "random"), "pictures"),
    ("noise", ("pictures", False, "random"), "vectors"), ("piece", ("vectors", True, "expert"), "frames"),
    ("spread", ("vectors", False, "linear"), "--policy=controller"), ("actions", ("vectors", True, "expert"), "frames"),
    ("observations", ("pictures", True, "expert"), "frames")])
def test_flags_that_a_recording_has_no_use_for_are_refused(flag, recording, of):
  with pytest.raises(ConfigError, match=f"--{flag} is set, but it is for {of} alone"):
    require_used([flag], *recording)
  require_used(["noise"], "vectors", True, "expert")
  require_used(["size", "levels", "spread", "piece", "actions", "observations"], "pictures", False, "controller")


def test_long_episodes_are_cut_into_pieces_of_their_split():
  rollouts = record(Environment(CART), "expert", 10, 25, 0)
  arrays = frames_of(rollouts, 10, 0)
  assert arrays["train"].shape == (24, 11, 5) and arrays["test_length"].tolist() == [11, 11, 6]
  np.testing.assert_array_equal(arrays["test"][1, :11, :4], rollouts[9].observations[10:21])
  given = arrays["test_context"].reshape(3, 11, 2)
  assert not given[:, 0].any() and given[:2, 1:].sum() == 20 and given[2].sum() == 5
  assert (arrays["test"][:2, :, 4] > 0.5).all()  # nothing ended


def test_contexts_of_another_shape_are_refused(tmp_path):
  arrays = {name: np.zeros((4, 2), np.float32) for name in ("train", "valid", "test")}
  contexts = {f"{name}_context": np.zeros((3, 2), np.float32) for name in arrays}
  np.savez(tmp_path / "bad.npz", **arrays, **contexts)
  with pytest.raises(DataError, match=r"array 'train_context' has dtype float32 and shape \(3, 2\)"):
    load_dataset(f"npz:{tmp_path / 'bad.npz'}")


def test_evolution_finds_the_best_of_a_bowl():
  pytest.importorskip("cma")
  target = np.array([1.0, -2.0, 0.5])
  found = evolve(lambda weights: -np.sum((weights - target) ** 2, axis=1), 3, 40, 10, 1)
  np.testing.assert_allclose(found, target, atol=0.05)
  weights = np.arange(6.0)  # two dimensions and a bias, two actions
  np.testing.assert_array_equal(linear(weights, np.array([1.0, 10.0])), [0 + 20 + 4, 1 + 30 + 5])
  assert num_parameters(2, 2) == 6


def test_what_is_missing_is_named(monkeypatch):
  with pytest.raises(ConfigError, match=r"--env is 'Nowhere-v0', which gymnasium cannot make"):
    Environment("Nowhere-v0")
  with pytest.raises(ConfigError, match="there is none for Acrobot-v1"):
    record(Environment("Acrobot-v1"), "expert", 3, 5, 0)
  with pytest.raises(ConfigError, match="it must be at least 3, an episode for each split"):
    frames_of(record(Environment(CART), "random", 2, 5, 0), 5, 0)
  monkeypatch.setattr("gdm.worlds.environments._MADE", {})
  monkeypatch.setitem(sys.modules, "gymnasium", None)
  with pytest.raises(ConfigError, match=r"install the extra 'worlds'"):
    Environment(CART)
