"""Time limits, profiles, and a workdir that goes away: a run ends in words, and can be resumed."""

import gzip
import json
import re
import signal

import pytest
from helpers.commands import TINY, assert_same_runs

from gdm.training import checkpoint
from gdm.training.metrics import read_metrics

DIGITS = f"{TINY}:digits"
RESUME_ME = 75


@pytest.mark.slow
def test_a_time_limit_saves_and_is_resumed(commands, unbroken, tmp_path):
  workdir = tmp_path / "run"
  result = commands.run("train", DIGITS, f"--workdir={workdir}", "--max_seconds=0.001")
  assert (result.status, result.err) == (RESUME_ME, "")
  assert "interrupted and saved at step 1; the same command resumes." in result.out
  assert "resuming from step 1." in commands.good("train", DIGITS, f"--workdir={workdir}")
  assert_same_runs(workdir, unbroken("digits"))


FLOW = f"{TINY}:flow"
LONG = "--config.evaluation.num_draws=1000000"  # of a validation that would take minutes


@pytest.mark.slow
def test_a_validation_is_cut_at_once_and_done_on_resume(commands, unbroken, tmp_path):
  workdir, good = tmp_path / "run", unbroken("flow")
  running = commands.start("train", FLOW, f"--workdir={workdir}", LONG)
  running.until(lambda: (workdir / "checkpoints" / "3").exists())  # the save before the first validation
  assert running.kill(signal.SIGTERM).ends_within(10.0)
  result = running.wait()
  assert (result.status, result.err) == (RESUME_ME, "")
  assert result.out.endswith("interrupted and saved at step 3; the same command resumes.\n")
  assert "resuming from step 3." in commands.good("train", FLOW, f"--workdir={workdir}")
  assert_same_runs(workdir, good)


@pytest.mark.slow
def test_a_validation_is_not_begun_when_time_is_up(commands, tmp_path):
  workdir, every = tmp_path / "run", "--config.training.eval_every=1"
  result = commands.run("train", FLOW, f"--workdir={workdir}", LONG, every, "--max_seconds=0.001")
  assert (result.status, result.err) == (RESUME_ME, "")
  assert result.out.endswith("interrupted and saved at step 1; the same command resumes.\n")
  # The validation that is due is done whatever the time is: a start that did nothing would never end.
  result = commands.run("train", FLOW, f"--workdir={workdir}", every, "--max_seconds=0.001")
  assert result.out.endswith("interrupted and saved at step 2; the same command resumes.\n")
  assert [row["step"] for row in read_metrics(workdir / "metrics.jsonl") if "valid/nats" in row] == [1]


@pytest.mark.slow
def test_pictures_are_cut_at_once_and_drawn_on_resume(commands, unbroken, tmp_path):
  workdir, good = tmp_path / "run", unbroken("digits")
  running = commands.start("train", DIGITS, f"--workdir={workdir}", "--config.sampling.num=1000000")
  running.until((workdir / "curves.png").exists)
  assert running.kill(signal.SIGTERM).ends_within(10.0)
  result = running.wait()
  assert result.status == RESUME_ME
  assert result.out.splitlines()[-1].startswith("interrupted; the same command resumes")
  assert not (workdir / "samples.png").exists()
  assert "finished at step 30" in commands.good("train", DIGITS, f"--workdir={workdir}")
  assert_same_runs(workdir, good)
  assert (workdir / "samples.png").read_bytes() == (good / "samples.png").read_bytes()


@pytest.mark.slow
def test_a_profile_can_be_opened(commands, unbroken, tmp_path):
  workdir = tmp_path / "run"
  said = commands.good("train", DIGITS, f"--workdir={workdir}", "--profile_steps=10:12")
  assert "profile of steps up to 12 in" in said
  (folder,) = (workdir / "profile" / "plugins" / "profile").iterdir()
  assert list(folder.glob("*.xplane.pb"))  # TensorBoard's
  (perfetto,) = folder.glob("perfetto_trace.json.gz")
  with gzip.open(perfetto) as file:
    names = [event.get("name", "") for event in json.load(file)["traceEvents"]]
  assert any("jit_call" in name or "call" in name for name in names)
  assert_same_runs(workdir, unbroken("digits"))  # being watched changes nothing


def test_a_workdir_that_vanishes_ends_the_run_in_words(commands, tmp_path):
  workdir, elsewhere = tmp_path / "run", tmp_path / "moved"
  running = commands.start("train", DIGITS, f"--workdir={workdir}", "--config.training.num_steps=100000")
  running.until(lambda: len(read_metrics(workdir / "metrics.jsonl")) >= 8)
  workdir.rename(elsewhere)
  result = running.wait()
  assert result.status == 2
  # What it meets first depends on the moment: its own file, TensorStore's, or what Orbax looks for.
  assert re.fullmatch(r"error: .*run.* cannot be written: .{,120}; what was saved before stays\.\n", result.err)
  assert checkpoint.newest_good_step(elsewhere / "checkpoints") is not None


@pytest.mark.parametrize(("given", "message"), [
    ("--max_seconds=0", r"--max_seconds is 0\.0; it must be above 0"),
    ("--threads=0", "--threads is 0; it must be at least 1"),
    ("--profile_steps=5", "--profile_steps is '5'; it must be FIRST:LAST, as 10:15"),
    ("--profile_steps=7:5", "--profile_steps is '7:5'"),
    ("--config.mesh.fsdp=2", "mesh.fsdp is 2; it must divide the number of devices, 1"),
    ("--config.mesh.fsdp=0", "mesh.fsdp is 0; it must be at least 1"),
    ("--config.training.precision=float16", "training.precision is 'float16'; it must be float32 or bfloat16"),
    ("--config.training.remat=all", "training.remat is 'all'; it must be none, products, stages"),
    ("--config.training.stall_seconds=-1.0", "training.stall_seconds is -1.0; it must be finite and at least 0"),
])
def test_what_cannot_be_is_refused_before_a_workdir_is_made(commands, tmp_path, given, message):
  result = commands.run("train", DIGITS, f"--workdir={tmp_path / 'run'}", given)
  assert result.status == 2 and result.err.count("\n") == 1 and re.search(message, result.err), result
  assert not (tmp_path / "run").exists()
