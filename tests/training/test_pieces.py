"""Streams, meshes, optimizers: the small pieces of training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.toy_models import ExactToy, toy_batches
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from gdm import mesh as meshes
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.model import Objective
from gdm.runs import defaults
from gdm.training.optimizer import OPTIMIZERS, make_optimizer, make_optimizers, make_schedule
from gdm.training.state import init_state, optimizers_for
from gdm.training.streams import stream_key


def _settings(**changes):
  return {**defaults.get_config().optimizer.to_dict(), **changes}


def test_streams_differ_by_name_and_step_and_repeat_across_processes():
  root = jax.random.key(0)
  draws = {(name, step): jax.random.key_data(stream_key(root, name, step)).tobytes()
           for name in ("init", "loss", "a") for step in range(3)}
  assert len(set(draws.values())) == len(draws)
  # A fixed value: a change of the derivation would silently change every resumed run.
  assert jax.random.key_data(stream_key(root, "loss", 7)).tolist() == [1645036640, 2798095109]


@pytest.mark.parametrize("fsdp", [1, 2, 8])
def test_parameters_split_on_their_largest_divisible_axis(fsdp):
  mesh = meshes.make_mesh(fsdp)
  spec = meshes.parameter_sharding(mesh, (3, 8, 16)).spec
  assert spec == (PartitionSpec(None, None, "fsdp") if fsdp > 1 else PartitionSpec())
  assert meshes.parameter_sharding(mesh, (3, 5)).spec == PartitionSpec()


def test_a_mesh_that_does_not_divide_the_devices_is_refused():
  with pytest.raises(ConfigError, match=r"mesh.fsdp is 3; it must divide the number of devices, 8"):
    meshes.make_mesh(3)


def test_a_state_is_born_on_its_shards():
  model = ExactToy()
  batch = jax.tree.map(lambda x: x[0, 0], toy_batches(model, 1))
  state = init_state(model, optimizers_for(model, optax.adam(0.1)), jax.random.key(0), batch, mesh=meshes.make_mesh(2))
  assert state.params["model"]["mean"].sharding.spec == PartitionSpec("fsdp")
  assert state.params["model"]["mean"].addressable_shards[0].data.shape == (1,)


@given(warmup=st.integers(0, 50), extra=st.integers(1, 100), peak=st.floats(1e-5, 1.0),
       name=st.sampled_from(["constant", "cosine", "linear"]))
def test_schedules_start_at_zero_peak_after_warmup_and_end_at_their_fraction(warmup, extra, peak, name):
  steps = warmup + extra
  schedule = make_schedule(_settings(schedule=name, warmup_steps=warmup, learning_rate=peak, final_fraction=0.1), steps)
  np.testing.assert_allclose(schedule(warmup), peak, rtol=1e-5)
  np.testing.assert_allclose(schedule(steps), peak * (1.0 if name == "constant" else 0.1), rtol=1e-4)
  if warmup:
    assert float(schedule(0)) == 0.0


@pytest.mark.fast_cases("adamw", "lion", "sgd")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_parabola(name):
  optimizer = make_optimizer(_settings(name=name, learning_rate=0.05, clip_norm=1.0), 60)

  @jax.jit
  def run(x):
    def step(carry, _):
      x, state = carry
      updates, state = optimizer.update(2 * x, state, x)
      return (x + updates, state), None
    return jax.lax.scan(step, (x, optimizer.init(x)), length=60)[0][0]

  start = np.array([1.0, -2.0], np.float32)
  assert np.sum(np.square(run(start))) < 0.8 * np.sum(np.square(start))


@pytest.mark.parametrize(("changes", "words"), [
    ({"name": "adm"}, "did you mean 'adam'"),
    ({"schedule": "cosin"}, "did you mean 'cosine'"),
    ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ({"warmup_steps": 100}, "warmup_steps is 100"),
])
def test_bad_settings_are_named(changes, words):
  with pytest.raises(ConfigError, match=words):
    make_optimizer(_settings(**changes), 100)


class TwoGroups:
  """A model whose critic moves three times a step."""

  spec = DataSpec((2,), None)
  objectives = (Objective(("critic",), lambda *_: None, repeats=3), Objective(("generator",), lambda *_: None))

  def init(self, key, batch):
    raise NotImplementedError


def test_groups_have_optimizers_of_their_own_scheduled_by_training_steps():
  settings = _settings(name="sgd", schedule="linear", learning_rate=1.0)
  settings = {**settings, "groups": {"critic": {"learning_rate": 2.0}}}
  optimizers, ones = make_optimizers(settings, 4, TwoGroups()), jnp.ones(())
  moved = {}
  for group, num_updates in (("critic", 12), ("generator", 4)):
    state, moved[group] = optimizers[group].init(ones), []
    for _ in range(num_updates):
      updates, state = optimizers[group].update(ones, state, ones)
      moved[group].append(-float(updates))
  np.testing.assert_allclose(moved["generator"], [1.0, 0.75, 0.5, 0.25])
  np.testing.assert_allclose(moved["critic"], np.repeat([2.0, 1.5, 1.0, 0.5], 3))


@pytest.mark.parametrize(("groups", "words"), [
    ({"critc": {}}, "names 'critc'; did you mean 'critic'"),
    ({"critic": {"rate": 1.0}}, "optimizer.groups.critic has 'rate'"),
    ({"critic": {"learning_rate": -1.0}}, r"optimizer\.groups\.critic\.learning_rate is -1.0"),
    ({"critic": {"learning_rate": float("nan")}}, "critic.learning_rate is nan; it must be finite and above 0"),
    ({"critic": {"learning_rate": "1e-3"}}, "critic.learning_rate is '1e-3'; it must be finite and above 0"),
    ({"critic": {"clip_norm": -1.0}}, "critic.clip_norm is -1.0; it must be finite and at least 0"),
    ({"critic": {"weight_decay": -1.0}}, "critic.weight_decay is -1.0; it must be finite and at least 0"),
    ({"critic": {"final_fraction": 3.0}}, r"critic.final_fraction is 3.0; it must be in \[0, 1\]"),
    ({"critic": {"warmup_steps": 0.5}}, "critic.warmup_steps is 0.5; it must be"),
    ({"critic": {"warmup_steps": 10}}, "critic.warmup_steps is 10; it must be at least 0 and below num_steps"),
    ({"critic": {"b1": True}}, "critic.b1 is True"),
    ({"critic": {"name": 3}}, "critic.name is 3; known: adagrad"),
    ({"critic": 3}, "optimizer.groups.critic is 3; it must be the fields that differ"),
])
def test_what_is_wrong_with_a_group_is_named(groups, words):
  with pytest.raises(ConfigError, match=words):
    make_optimizers({**_settings(), "groups": groups}, 10, TwoGroups())
