"""A run that is killed or interrupted, anywhere, and started again is the unbroken run, bit for bit."""

import contextlib
import random
import re
import signal
import time

import numpy as np
import pytest
from helpers.commands import TINY, assert_same_runs

RESUME_ME = 75
UNFINISHED = "it has no manifest, so its save did not end"  # what a kill within a save leaves, which is told


def rows(workdir):
  path = workdir / "metrics.jsonl"
  return path.read_bytes().count(b"\n") if path.exists() else 0


def saving(place):
  """Whether a save is under way in a folder of checkpoints."""
  return any(path.name.endswith("tmp") for path in place.glob("*"))


def moments(workdir, seed):
  """Conditions to kill at: at a random row of the log, within a save, within the save of a best."""
  chance = random.Random(seed)
  while True:
    seen = rows(workdir)
    target, pause = seen + chance.randint(1, 6), chance.random() * 0.05
    yield lambda target=target: rows(workdir) >= target, pause
    yield lambda: saving(workdir / "checkpoints"), 0.0
    yield lambda: saving(workdir / "best"), 0.0


def break_often(commands, workdir, args, number, seed, times=4):
  """Starts a run again and again, ending it by a signal at moments of all kinds; then lets it end."""
  kinds = moments(workdir, seed)
  for _ in range(times):
    condition, pause = next(kinds)
    running = commands.start("train", *args, f"--workdir={workdir}")
    # Its headline comes when leftovers of the kill before are cleared away.
    running.until(lambda running=running, condition=condition: "finished" in running.out or
                  ("parameters" in running.out and condition()))
    time.sleep(pause)
    result = running.kill(number).wait()
    if "finished" in result.out:
      break
    assert all(UNFINISHED in line for line in result.err.splitlines()), result
    assert result.status == (-number if number == signal.SIGKILL else RESUME_ME), result
  result = commands.run("train", *args, f"--workdir={workdir}")
  assert result.status == 0 and all(UNFINISHED in line for line in result.err.splitlines()), result


@pytest.mark.slow
@pytest.mark.parametrize("variant, number", [
    ("digits", signal.SIGKILL), ("digits", signal.SIGTERM),
    ("conditional_gan", signal.SIGKILL)])  # with two optimizers, and statistics
def test_a_run_broken_at_random_moments_is_the_unbroken_one(commands, unbroken, tmp_path, variant, number):
  break_often(commands, tmp_path / "run", [f"{TINY}:{variant}"], number, seed=1)
  assert_same_runs(tmp_path / "run", unbroken(variant))


VARIANTS = [
    ("digits", "--config.training.num_steps=60"),
    ("digits", "--config.training.num_steps=60", "--config.training.keep=1", "--config.training.accumulate=5"),
    ("digits", "--config.training.num_steps=60", "--config.training.steps_per_call=2", "--config.training.log_every=6",
     "--config.training.eval_every=4", "--config.training.checkpoint_every=10"),
    ("digits", "--config.training.num_steps=200", "--config.training.patience=3", "--config.training.ema_decay=0.0",
     "--config.optimizer.learning_rate=0.5", "--config.data.transforms=binarize_dynamic"),
    ("mixture", "--config.model.num_components=20", "--config.model.num_iterations=40", "--config.model.tolerance=0.0"),
]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("args", VARIANTS, ids=" ".join)
def test_a_campaign_of_kills(commands, unbroken, tmp_path, number, args):
  variant, *rest = args
  break_often(commands, tmp_path / "run", [f"{TINY}:{variant}", *rest], number, seed=2, times=12)
  assert_same_runs(tmp_path / "run", unbroken(*args))


def test_ctrl_c_before_the_first_step_leaves_nothing(commands, tmp_path):
  """While it loads data: there is nothing to save, and the next start begins afresh."""
  workdir = tmp_path / "run"
  running = commands.start("train", f"{TINY}:digits", f"--workdir={workdir}")
  running.until((workdir / ".lock").exists)
  result = running.kill(signal.SIGINT).wait()
  assert (result.status, result.err) == (RESUME_ME, "")
  assert result.out.startswith("interrupted; ") and result.out.count("\n") == 1
  assert {path.name for path in workdir.glob("*")} <= {".lock"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_compilation_can_be_resumed(commands, unbroken, tmp_path, number):
  """It ends with the first step saved, or with nothing where the loop was not yet reached."""
  workdir = tmp_path / "run"
  running = commands.start("train", f"{TINY}:digits", f"--workdir={workdir}")
  running.until(lambda: "parameters" in running.out)
  result = running.kill(number).wait()
  assert (result.status, result.err) == (RESUME_ME, "")
  saved = re.search(r"\ninterrupted and saved at step (\d+); the same command resumes\.\n$", result.out)
  # The signal may come between a line and its end.
  assert saved or "interrupted; the same command resumes" in result.out.splitlines()[-1]
  said = commands.good("train", f"{TINY}:digits", f"--workdir={workdir}")
  assert not saved or f"resuming from step {saved[1]}." in said
  assert_same_runs(workdir, unbroken("digits"))


@pytest.mark.slow
def test_an_interrupted_em_starts_again_and_logs_no_row_twice(commands, unbroken, tmp_path):
  args = ("--config.model.num_components=20", "--config.model.num_iterations=80", "--config.model.tolerance=0.0")
  workdir = tmp_path / "run"
  running = commands.start("train", f"{TINY}:mixture", f"--workdir={workdir}", *args)
  running.until(lambda: rows(workdir) >= 5)
  result = running.kill(signal.SIGTERM).wait()
  assert (result.status, result.err) == (RESUME_ME, "")
  assert "step 0:" in commands.good("train", f"{TINY}:mixture", f"--workdir={workdir}", *args)
  assert_same_runs(workdir, unbroken("mixture", *args))


@pytest.mark.slow
def test_ctrl_c_again_and_again_stops_at_once_and_can_be_resumed(commands, unbroken, tmp_path):
  workdir = tmp_path / "run"
  for attempt in range(6):
    running = commands.start("train", f"{TINY}:digits", f"--workdir={workdir}")
    running.until(lambda running=running: "parameters" in running.out)
    time.sleep(0.1 * attempt)
    with contextlib.suppress(ProcessLookupError):
      for _ in range(20):
        running.kill(signal.SIGINT)
        time.sleep(0.01)
    assert running.wait().status in (RESUME_ME, 0)
  commands.run("train", f"{TINY}:digits", f"--workdir={workdir}")
  assert_same_runs(workdir, unbroken("digits"))


@pytest.mark.slow
def test_data_that_changed_since_is_noticed(commands, tmp_path):
  """Of any split: another validation split would choose another best, another test split be scored in its place."""
  rng, workdir = np.random.default_rng(0), tmp_path / "run"
  arrays = {name: rng.integers(0, 2, (40, 4), dtype=np.uint8) for name in ("train", "valid", "test")}
  np.savez(tmp_path / "data.npz", **arrays)
  args = [f"{TINY}:npz", f"--config.data.path={tmp_path / 'data.npz'}", f"--workdir={workdir}"]
  assert commands.run("train", *args, "--max_seconds=0.001").status == RESUME_ME
  before = sorted(str(path) for path in workdir.rglob("*"))
  for split in arrays:
    np.savez(tmp_path / "data.npz", **{**arrays, split: 1 - arrays[split]})
    result = commands.run("train", *args)
    assert result.status == 2 and f"the {split} split is" in result.err and "restore that data" in result.err
    assert sorted(str(path) for path in workdir.rglob("*")) == before
  np.savez(tmp_path / "data.npz", **arrays)
  assert "finished" in commands.good("train", *args)
