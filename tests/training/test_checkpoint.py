"""What is saved is what is restored, damage is noticed, and nothing bad replaces something good."""

import json
import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.small_models import small_batch, small_model
from helpers.toy_models import ChainsToy, ExactToy, toy_batches

from gdm.errors import CheckpointError, NotFiniteError
from gdm.mesh import make_mesh
from gdm.training import checkpoint
from gdm.training.state import init_state, optimizers_for, state_shapes
from gdm.training.step import make_train_step


def _make(toy=ExactToy, seed=0):
  model = toy()
  optimizers = optimizers_for(model, optax.adam(1e-2))
  batch = jax.tree.map(lambda x: x[0, 0], toy_batches(model, 1))
  mesh = make_mesh(devices=jax.devices()[:1])
  state = init_state(model, optimizers, jax.random.key(seed), batch, ema=True, mesh=mesh)
  return state, jax.jit(make_train_step(model, optimizers, ema_decay=0.9), donate_argnums=0)


@pytest.fixture
def saved(tmp_path):
  """Steps 1, 2 and 3 of a run, and the states they were."""
  directory, states = tmp_path / "checkpoints", {}
  state, step = _make(ChainsToy)
  writer = checkpoint.Checkpointer(directory, keep=3)
  for i in (1, 2, 3):
    state, _ = step(state, jax.tree.map(lambda x: x[0], toy_batches(ChainsToy(), 1, seed=i)), jax.random.key(0))
    states[i] = jax.tree.map(np.array, state)
    writer.save(i, state, {"note": i / 3})
  writer.close()
  return directory, states, state


@pytest.mark.slow
def test_every_leaf_comes_back_bit_for_bit(saved):
  directory, states, like = saved
  for step, expected in states.items():
    restored = checkpoint.restore(directory, step, like)
    chex.assert_trees_all_equal(restored.state, expected)
    chex.assert_trees_all_equal_dtypes(restored.state, like)
    assert restored.meta["note"] == step / 3


def test_a_save_in_the_background_is_not_overwritten_by_donation(tmp_path):
  """The step donates its state while the save is still under way."""
  state, step = _make()
  writer = checkpoint.Checkpointer(tmp_path / "checkpoints")
  expected = jax.tree.map(np.array, state)
  writer.save(1, state, {})
  for i in range(50):
    state, _ = step(state, jax.tree.map(lambda x: x[0], toy_batches(ExactToy(), 1, seed=i)), jax.random.key(0))
  writer.close()
  chex.assert_trees_all_equal(checkpoint.restore(tmp_path / "checkpoints", 1, state).state, expected)


@pytest.mark.fast_cases("4")
@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_bit_anywhere_is_noticed_and_the_step_before_is_used(saved, seed, caplog):
  directory, _, like = saved
  rng = np.random.default_rng(seed)
  files = sorted(path for path in (directory / "3").rglob("*") if path.is_file() and path.stat().st_size)
  victim = files[rng.integers(len(files))]
  data = bytearray(victim.read_bytes())
  data[rng.integers(len(data))] ^= 1 << rng.integers(8)
  victim.write_bytes(data)
  with caplog.at_level(logging.WARNING):
    assert checkpoint.newest_good_step(directory) == 2
  assert str(directory / "3") in caplog.text
  with pytest.raises(CheckpointError, match="damaged"):
    checkpoint.restore(directory, 3, like)


def test_truncated_missing_and_unfinished_steps_are_passed_over(saved):
  directory, _, _ = saved
  (directory / "3" / "manifest.json").unlink()  # the save died between commit and manifest
  biggest = max((directory / "2").rglob("d/*"), key=lambda path: path.stat().st_size)
  biggest.write_bytes(biggest.read_bytes()[:-1])
  (directory / "7").mkdir()  # Orbax would take this empty folder for the newest step
  assert checkpoint.newest_good_step(directory) == 1
  writer = checkpoint.Checkpointer(directory)
  writer.set_aside_damaged()
  writer.close()
  assert checkpoint.list_steps(directory) == [1]
  assert sorted(p.name for p in (directory.parent / "damaged").iterdir()) == [
      "checkpoints-2", "checkpoints-3", "checkpoints-7"]


def test_a_state_that_is_not_finite_is_never_saved(saved):
  directory, _, state = saved
  bad = jax.tree.map(lambda x: x, state)
  bad.params["model"]["out"]["b"] = jnp.full((1,), jnp.nan)
  writer = checkpoint.Checkpointer(directory, keep=3)
  with pytest.raises(NotFiniteError, match="params/model/out/b"):
    writer.save(4, bad, {})
  writer.close()
  assert checkpoint.newest_good_step(directory) == 3


def test_another_model_is_refused_by_leaf(saved):
  directory, _, like = saved
  other, _ = _make(ExactToy)
  with pytest.raises(CheckpointError, match="params/model/mean is missing"):
    checkpoint.restore(directory, 3, other)
  changed = jax.tree.map(lambda x: x, like)
  changed.params["model"]["out"]["b"] = jnp.zeros((2,), jnp.bfloat16)
  with pytest.raises(CheckpointError, match=r"params/model/out/b is float32\[1\] there, bfloat16\[2\] here"):
    checkpoint.restore(directory, 3, changed)


def test_a_newer_format_is_refused(saved):
  directory, _, _ = saved
  path = directory / "3" / "meta" / "metadata"
  path.write_text(json.dumps({**json.loads(path.read_text()), "format": checkpoint.FORMAT + 1}))
  with pytest.raises(CheckpointError, match="update gdm"):
    checkpoint.read_meta(directory, 3)


def test_parameters_alone_can_be_read(saved):
  directory, states, like = saved
  restored = checkpoint.restore(directory, 2, {"params": like.params}, partial=True)
  chex.assert_trees_all_equal(restored.state["params"], states[2].params)


def test_only_the_newest_are_kept_and_retain_drops_the_rest(tmp_path):
  state, _ = _make()
  writer = checkpoint.Checkpointer(tmp_path / "c", keep=2)
  for step in (1, 2, 3, 4):
    writer.save(step, state, {})
  writer.finish()
  assert writer.steps() == [3, 4]
  writer.retain([4])
  assert writer.steps() == [4]
  writer.close()


def test_a_checkpoint_is_restored_onto_another_mesh(tmp_path):
  """Saved by eight devices that share the parameters, restored by one, by eight copies, and by two times four."""
  model = small_model("made")
  optimizers, batch = optimizers_for(model, optax.adam(1e-2)), small_batch(model)

  def build(make, fsdp, num=8):
    return make(model, optimizers, *([jax.random.key(0)] if make is init_state else []), batch, ema=True,
                mesh=make_mesh(fsdp, jax.devices()[:num]))

  state = build(init_state, 8)
  writer = checkpoint.Checkpointer(tmp_path / "checkpoints")
  writer.save(1, state, {})
  writer.close()
  for fsdp, num in ((1, 1), (1, 8), (2, 8), (4, 4)):
    like = build(state_shapes, fsdp, num)
    restored = checkpoint.restore(tmp_path / "checkpoints", 1, like).state
    chex.assert_trees_all_equal(jax.device_get(restored), jax.device_get(state))
    assert jax.tree.all(jax.tree.map(lambda x, to: x.sharding == to.sharding, restored, like))
