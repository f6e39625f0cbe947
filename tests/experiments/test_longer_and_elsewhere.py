"""Training for longer, from another run's weights, and with data that lie elsewhere now."""

import json
import shutil

import jax
import numpy as np
import pytest
from helpers.commands import ROOT, TINY

import gdm

STEPS = "--config.training.num_steps={}"


@pytest.fixture
def table(tmp_path):
  rng = np.random.default_rng(0)
  np.savez(tmp_path / "mine.npz", **{name: rng.integers(0, 2, (num, 5), dtype=np.uint8)
                                     for name, num in (("train", 60), ("valid", 20), ("test", 20))})
  return tmp_path / "mine.npz"


def same(one, other, which="last"):
  one, other = gdm.load(one, which), gdm.load(other, which)
  assert one.step == other.step
  for a, b in zip(jax.tree.leaves((one.params, one.carry)), jax.tree.leaves((other.params, other.carry)), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_longer_run_is_the_run_that_was_long_from_the_start(commands, unbroken, tmp_path):
  commands.good("train", f"{TINY}:digits", f"--workdir={tmp_path}/run", STEPS.format(12))
  said = commands.good("train", f"{TINY}:digits", f"--workdir={tmp_path}/run", STEPS.format(30))
  assert "30 steps in place of 12." in said and "resuming from step 12" in said
  same(tmp_path / "run", unbroken("digits"))
  rows = [[json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
          for folder in (tmp_path / "run", unbroken("digits"))]
  assert rows[0] == rows[1]
  assert json.loads((tmp_path / "run" / "finished.json").read_text())["step"] == 30
  said = commands.good("train", f"{TINY}:digits", f"--workdir={tmp_path}/run", STEPS.format(30))
  assert "finished already, at step 30" in said
  result = commands.run("train", f"{TINY}:digits", f"--workdir={tmp_path}/run", STEPS.format(12))
  assert result.status == 2 and "The number of steps may only grow." in result.err


@pytest.mark.slow
def test_a_schedule_that_is_stretched_says_what_changes(commands, tmp_path):
  args = (f"{TINY}:digits", f"--workdir={tmp_path}/run", "--config.optimizer.schedule=cosine")
  commands.good("train", *args, STEPS.format(12))
  said = commands.good("train", *args, STEPS.format(24))
  assert "at step 12 the learning rate is 0.005 where it would have been 0." in said


@pytest.mark.slow
def test_weights_are_taken_where_they_fit(commands, unbroken, tmp_path):
  args = (f"{TINY}:digits", STEPS.format(3), "--config.training.eval_every=3", "--config.optimizer.learning_rate=1e-12")
  said = commands.good("train", *args, f"--workdir={tmp_path}/run", f"--init_from={unbroken('digits')}")
  assert f"weights of fvsbn at step 30 in {unbroken('digits')}: " in said and "2 arrays taken." in said
  before, after = gdm.load(unbroken("digits")), gdm.load(tmp_path / "run")
  for a, b in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-10)
  out = tmp_path / "weights.safetensors"
  commands.good("export", f"--workdir={unbroken('digits')}", f"--out={out}")
  commands.good("train", *args, f"--workdir={tmp_path}/again", f"--init_from={out}")
  for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(gdm.load(tmp_path / "again").params), strict=True):
    np.testing.assert_array_equal(a, b)
  result = commands.run("train", f"{TINY}:flow", STEPS.format(3), f"--workdir={tmp_path}/flow",
                        f"--init_from={unbroken('digits')}")
  assert result.status == 2 and "no array of the other run fits this model" in result.err
  assert not (tmp_path / "flow").exists()
  result = commands.run("train", f"{TINY}:digits", f"--workdir={tmp_path}/none", f"--init_from={tmp_path}/nothing")
  assert result.status == 2 and "training.init_from is" in result.err and "does not exist" in result.err
  assert not (tmp_path / "none").exists()  # it would belong to a config that cannot be trained


@pytest.mark.slow
def test_what_does_not_fit_stays_as_initialized(commands, tmp_path):
  made = f"--config={ROOT}/configs/autoregressive/made.py:digits"
  few = (STEPS.format(50), "--config.training.log_every=50", "--config.training.eval_every=50",
         "--config.training.checkpoint_every=50")
  commands.good("train", made, f"--workdir={tmp_path}/one", "--config.model.network.hidden=(16,)", *few)
  said = commands.good("train", made, f"--workdir={tmp_path}/two", "--config.model.network.hidden=(24,)", *few,
                       f"--init_from={tmp_path}/one")
  assert "of another shape there, left as initialized" in said and "arrays taken" in said


def test_data_may_move_but_not_change(commands, table, tmp_path):
  args = (f"{TINY}:npz", f"--workdir={tmp_path}/run")
  commands.good("train", *args, f"--config.data.path={table}", STEPS.format(12))
  moved = tmp_path / "elsewhere" / "theirs.npz"
  moved.parent.mkdir()
  shutil.move(table, moved)
  said = commands.good("train", *args, f"--config.data.path={moved}", STEPS.format(12))
  assert "finished already" in said
  commands.good("train", *args, f"--config.data.name=npz:{moved}", "--config.data.path=", STEPS.format(24))
  arrays = dict(np.load(moved))
  np.savez(table, **{**arrays, "train": 1 - arrays["train"]})
  for steps in (24, 30):
    result = commands.run("train", *args, f"--config.data.path={table}", STEPS.format(steps))
    assert result.status == 2 and "the train split is" in result.err
  assert json.loads((tmp_path / "run" / "finished.json").read_text())["step"] == 24
