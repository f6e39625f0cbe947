"""What a training run leaves behind, when it stops, and what it says."""

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from helpers.commands import ROOT, TINY, arrays, assert_same_runs
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from gdm.training import checkpoint

RESUME_ME = 75
DIGITS = f"{TINY}:digits"


def rows(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events(workdir):
  """The events of each file of a run, in the order in which TensorBoard reads them."""
  for path in sorted((workdir / "tensorboard").iterdir()):
    contents, found = path.read_bytes(), []
    while contents:
      (length,) = struct.unpack("Q", contents[:8])  # then 4 bytes of checksum, the event, 4 bytes of checksum
      found.append(Event.FromString(contents[12:12 + length]))
      contents = contents[16 + length:]
    yield found


def test_a_run_leaves_its_config_rows_checkpoints_and_pictures(unbroken):
  workdir = unbroken("digits")
  assert {path.name for path in workdir.iterdir()} == {
      ".lock", "best", "checkpoints", "config.json", "curves.png", "finished.json", "metrics.jsonl", "samples.png",
      "tensorboard"}
  assert json.loads((workdir / "config.json").read_text())["model"]["name"] == "fvsbn"
  assert checkpoint.list_steps(workdir / "checkpoints") == [28, 30]
  logged = rows(workdir)
  assert [row["step"] for row in logged if "train/loss" in row] == list(range(2, 31, 2))
  assert [row["step"] for row in logged if "valid/nats" in row] == list(range(3, 31, 3))
  best = max((row for row in logged if "valid/nats" in row), key=lambda row: row["valid/nats"])
  finished = json.loads((workdir / "finished.json").read_text())
  assert (finished["best_step"], finished["best_nats"]) == (best["step"], best["valid/nats"])
  assert checkpoint.newest_good_step(workdir / "best") == best["step"]
  values = {(event.step, value.tag): value.simple_value for file in events(workdir) for event in file
            for value in event.summary.value if value.HasField("simple_value")}
  expected = {(row["step"], name): value for row in logged for name, value in row.items() if name != "step"}
  assert values.keys() == expected.keys()
  np.testing.assert_allclose([values[key] for key in expected], list(expected.values()), rtol=1e-6)


def test_tensorboard_gets_settings_and_pictures(unbroken):
  workdir = unbroken("digits")
  values = {value.tag: (event.step, value) for file in events(workdir) for event in file
            for value in event.summary.value}
  step, samples = values["samples"]
  assert step == 30 and samples.image.encoded_image_string == (workdir / "samples.png").read_bytes()
  with Image.open(workdir / "samples.png") as image:
    assert (samples.image.width, samples.image.height) == image.size
  start = HParamsPluginData.FromString(values["_hparams_/session_start_info"][1].metadata.plugin_data.content)
  hparams = start.session_start_info.hparams
  assert hparams["optimizer.learning_rate"].number_value == 0.01 and hparams["model.name"].string_value == "fvsbn"
  assert hparams["model.center"].bool_value is False
  assert b'"model.name": "fvsbn"' in values["config/text_summary"][1].tensor.string_val[0]


def test_a_finished_run_says_so_and_does_nothing(commands, unbroken):
  workdir = unbroken("digits")
  before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != ".lock"}
  for free in ((), ("--config.evaluation.num_draws=3", "--config.sampling.num=4", "--config.data.data_dir=/elsewhere")):
    said = commands.good("train", DIGITS, f"--workdir={workdir}", *free)
    assert said == f"{workdir} is finished already, at step 30.\n"
  assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != ".lock"} == before


def test_without_a_terminal_there_is_one_line_per_row(commands, tmp_path):
  out = commands.good("train", DIGITS, f"--workdir={tmp_path / 'run'}", "--config.training.log_every=10",
                      "--config.training.eval_every=0", "--config.training.steps_per_call=2")
  first, *facts, ten, twenty, thirty, last = out.splitlines()
  assert first == "fvsbn on digits+binarize (8x8x1, 2 levels (by binarize), 1297/200/300 examples), 2,080 parameters."
  assert [line.split()[0] for line in facts[:4]] == ["parameters", "model/bias", "model/kernel", "all"]
  assert facts[2].split() == ["model/kernel", "2016", "float32", "2,016", "96.9", "%"]
  assert facts[4] == "mesh data=1 x fsdp=1: 1 device (cpu)"
  assert re.fullmatch(r"\S+ kB per device: parameters 8.32 kB, optimizer 16.6 kB, averages 8.32 kB, temporaries \S+ kB",
                      facts[5])
  assert re.fullmatch(r"\S+ MFLOPs per step", facts[6]) and len(facts) == 7
  for step, line in zip((10, 20, 30), (ten, twenty, thirty), strict=True):
    assert re.fullmatch(rf"step {step}/30: loss \S+, \S+ k?steps/s, \S+ [kM]?examples/s, \d+ s left", line), line
  assert re.fullmatch(r"finished at step 30 after \S+ s\.", last)


@pytest.mark.slow
def test_on_a_terminal_there_is_one_bar_and_nothing_of_any_library(tmp_path):
  """A process of its own, as a user starts it."""
  ours, theirs = pty.openpty()
  fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
  command = [sys.executable, "-m", "experiments.train", DIGITS, f"--workdir={tmp_path / 'run'}"]
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, cwd=ROOT) as process:
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which is how a terminal says that the other side has closed
      while part := os.read(ours, 1 << 16):
        shown += part
    os.close(ours)
    headline, *_, end = process.stdout.read().splitlines()
  assert process.returncode == 0
  assert headline.startswith("fvsbn on digits") and end.startswith("finished at step 30")
  *bars, last = shown.decode().replace("\r\n", "\n").split("\r")
  assert last.count("\n") == 1 and all("/30 [" in bar for bar in [*bars[1:], last])
  assert re.search(r"30/30 .*loss \d.*best valid -\d", last)


@pytest.mark.fast_cases("independent")
@pytest.mark.parametrize("variant", ["independent", "mixture"])
def test_closed_forms_and_em_pass_through_the_same_workdir(commands, unbroken, variant):
  workdir = unbroken(variant)
  (step,) = checkpoint.list_steps(workdir / "checkpoints")
  assert checkpoint.newest_good_step(workdir / "best") == step
  assert [row["step"] for row in rows(workdir) if "valid/nats" in row] == [step]
  assert "is finished already" in commands.good("train", f"{TINY}:{variant}", f"--workdir={workdir}")
  assert f"step {step}" in commands.good("evaluate", f"--workdir={workdir}")


EARLY = ("--config.training.patience=2", "--config.training.num_steps=60", "--config.optimizer.learning_rate=2.0",
         "--config.training.ema_decay=0.0", "--config.training.eval_every=2")


@pytest.mark.slow
def test_early_stopping_survives_a_kill_at_any_time(commands, unbroken, tmp_path):
  """Before the last save the run goes on to the same end; after it, it is at its end."""
  stopped = unbroken("digits", *EARLY)
  end = json.loads((stopped / "finished.json").read_text())
  assert end["ended"] == "stopped" and end["step"] < 60 and end["worse"] == 2
  assert end["step"] - end["best_step"] == 4
  for lost in ([], [f"checkpoints/{end['step']}"]):
    workdir = tmp_path / str(len(lost))
    shutil.copytree(stopped, workdir)
    for name in ("finished.json", *lost):
      path = workdir / name
      shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert f"finished by early stopping at step {end['step']} " in commands.good(
        "train", DIGITS, f"--workdir={workdir}", *EARLY)
    before, after = (json.loads((folder / "finished.json").read_text()) for folder in (stopped, workdir))
    assert {**before, "train_seconds": 0} == {**after, "train_seconds": 0}
    assert (workdir / "metrics.jsonl").read_text() == (stopped / "metrics.jsonl").read_text()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(commands, tmp_path):
  args = [DIGITS, f"--workdir={tmp_path}/run", "--config.optimizer.learning_rate=3e37",
          "--config.optimizer.warmup_steps=29", "--config.training.checkpoint_every=1"]
  for attempt in (1, 2):  # the second goes on from the checkpoint and comes to the same end
    result = commands.run("train", *args)
    assert result.status == 2 and result.err.count("\n") == 1
    told = re.match(r"error: .* step (\d+)\b.* Training stopped; the last good checkpoint, step (\d+), is kept\. .*"
                    "learning_rate", result.err)
    assert told, (attempt, result)
    bad, good = map(int, told.groups())
    assert good < bad
    assert checkpoint.list_steps(tmp_path / "run" / "checkpoints")[-1] == good
    state = arrays(tmp_path / "run" / "checkpoints", good)
    assert all(np.isfinite(leaf).all() for leaf in state.values())
  assert not (tmp_path / "run" / "finished.json").exists()


def test_events_after_the_step_gone_on_from_are_purged(commands, unbroken, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(unbroken("digits"), workdir)
  (workdir / "finished.json").unlink()
  shutil.rmtree(workdir / "checkpoints" / "30")
  commands.good("train", DIGITS, f"--workdir={workdir}")
  files = list(events(workdir))
  starts = [event.step for file in files for event in file if event.session_log.status == SessionLog.START]
  assert starts == [0, 29]
  resumed = next(file for file in files if any(event.step == 29 and event.HasField("session_log") for event in file))
  assert min(event.step for event in resumed for value in event.summary.value if value.HasField("simple_value")) == 30


def test_a_workdir_in_use_is_refused(commands, tmp_path):
  args = [DIGITS, f"--workdir={tmp_path / 'run'}", "--config.training.num_steps=3000"]
  running = commands.start("train", *args)
  running.until(lambda: "parameters" in running.out)
  result = commands.run("train", *args)
  assert result.status == 2 and "is in use by another process" in result.err
  assert running.kill(signal.SIGTERM).wait().status == RESUME_ME


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(commands, tmp_path):
  """A limit on file sizes stands in for it: the logs reach it, the checkpoints of this small model do not."""
  rng = np.random.default_rng(0)
  np.savez(tmp_path / "data.npz", **{name: rng.integers(0, 2, (40, 4), dtype=np.uint8)
                                     for name in ("train", "valid", "test")})
  args = [f"{TINY}:npz", f"--config.data.path={tmp_path / 'data.npz'}", "--config.training.log_every=1",
          "--config.training.num_steps=80", "--config.training.eval_every=20", "--config.training.checkpoint_every=20"]
  result = commands.run("train", *args, f"--workdir={tmp_path}/run", limit=9000)
  assert result.status == 2 and result.err.count("\n") == 1
  assert re.match("error: the logs in .*/run cannot be written: File too large; what was saved before", result.err)
  good = checkpoint.newest_good_step(tmp_path / "run" / "checkpoints")
  assert good and good >= 20
  assert f"resuming from step {good}." in commands.good("train", *args, f"--workdir={tmp_path}/run")
  commands.good("train", *args, f"--workdir={tmp_path}/other")
  assert_same_runs(tmp_path / "run", tmp_path / "other")


def test_a_checkpoint_that_cannot_be_written_is_told(commands, tmp_path):
  result = commands.run("train", DIGITS, f"--workdir={tmp_path}/run", limit=12000)
  assert result.status == 2
  assert re.search("error: checkpoint .*/run/(checkpoints|best)/[34] cannot be written: File too large", result.err)
