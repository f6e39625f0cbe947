"""Damage to a workdir is named, and what is whole is used; nothing is started over unasked."""

import errno
import fcntl
import json
import logging
import os
import re
import shutil

import pytest
from helpers.commands import TINY, assert_same_runs

from gdm.runs import defaults
from gdm.runs.workdir import Workdir
from gdm.training import checkpoint

ARGS = f"{TINY}:digits"


@pytest.fixture
def workdir(unbroken, tmp_path):
  """A copy of a finished run that no longer knows that it is finished."""
  shutil.copytree(unbroken("digits"), tmp_path / "run")
  (tmp_path / "run" / "finished.json").unlink()
  return tmp_path / "run"


def damage(folder):
  """Flips a bit in the largest file below `folder`."""
  victim = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
  contents = bytearray(victim.read_bytes())
  contents[len(contents) // 2] ^= 4
  victim.write_bytes(contents)


def test_the_newest_good_checkpoint_is_used_and_the_bad_one_named(commands, unbroken, workdir):
  damage(workdir / "checkpoints" / "30")
  result = commands.run("train", ARGS, f"--workdir={workdir}")
  assert result.status == 0 and "resuming from step 28." in result.out
  assert result.err.startswith(f"WARNING: Checkpoint {workdir}/checkpoints/30 is damaged (")
  assert result.err.count("\n") == 1
  assert_same_runs(workdir, unbroken("digits"))
  assert (workdir / "damaged" / "checkpoints-30").is_dir()


@pytest.mark.slow
def test_the_best_checkpoint_is_gone_on_from_where_all_others_are_damaged(commands, unbroken, workdir):
  for name in ("checkpoints/28", "checkpoints/30", "best/30"):
    damage(workdir / name)
  result = commands.run("train", ARGS, f"--workdir={workdir}")
  assert result.status == 0 and "resuming from step 27." in result.out
  assert result.err.count("WARNING: Checkpoint") == result.err.count("\n") == 3
  assert_same_runs(workdir, unbroken("digits"))


def test_a_run_without_any_whole_checkpoint_is_not_started_over(commands, workdir):
  for place in ("checkpoints", "best"):
    for step in checkpoint.list_steps(workdir / place):
      damage(workdir / place / str(step))
  before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
  result = commands.run("train", ARGS, f"--workdir={workdir}")
  assert result.status == 2
  assert f"error: no checkpoint of {workdir} is whole any more; restore one, or name another" in result.err
  assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()} == before
  result = commands.run("evaluate", f"--workdir={workdir}")
  assert result.status == 2 and result.err.endswith("has no whole checkpoint.\n"), result


def test_evaluation_falls_back_too_unless_the_step_was_named(commands, workdir):
  damage(workdir / "best" / "30")
  result = commands.run("evaluate", f"--workdir={workdir}")
  assert result.status == 0 and f"Checkpoint {workdir}/best/30 is damaged" in result.err
  assert json.loads((workdir / "likelihood_test.json").read_text())["step"] == 27
  damage(workdir / "checkpoints" / "28")
  result = commands.run("evaluate", f"--workdir={workdir}", "--checkpoint=28")
  assert result.status == 2
  assert result.err.startswith(f"error: checkpoint {workdir}/checkpoints/28 is damaged: ")


@pytest.mark.parametrize(("contents", "pattern"), [
    ('{"seed": 0, "da', "is damaged, it is not valid JSON"),
    ("\x00\xff", "is damaged, it is not valid JSON"),
    ("[1, 2]", "is damaged, it holds no JSON object"),
    ('{"training": {"num_steps": "many"}}', "does not hold a config of this version: .*num_steps"),
    ('{"training": 3}', "does not hold a config of this version"),
])
def test_a_damaged_config_is_named(commands, workdir, contents, pattern):
  (workdir / "config.json").write_bytes(contents.encode("latin-1"))
  for command in (["train", ARGS], ["evaluate"], ["sample"]):
    result = commands.run(*command, f"--workdir={workdir}")
    assert result.status == 2 and result.err.count("\n") == 1
    assert result.err.startswith(f"error: {workdir}/config.json ")
    assert re.search(pattern, result.err), result.err


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "finished.json", ".lock", "curves.png",
                                  "samples.png"])
def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_done(commands, workdir, name):
  (workdir / name).unlink(missing_ok=True)
  (workdir / name).mkdir()
  before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
  result = commands.run("train", ARGS, f"--workdir={workdir}")
  assert (result.status, result.out) == (2, "")
  assert result.err == (f"error: {workdir}/{name} is a folder, where training writes a file; move it away, or name "
                        "another workdir.\n")
  assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


@pytest.mark.parametrize("name", ["checkpoints", "best", "tensorboard", "damaged"])
def test_a_file_in_the_place_of_a_folder_is_named_before_anything_is_done(commands, workdir, name):
  shutil.rmtree(workdir / name, ignore_errors=True)
  (workdir / name).write_text("mine")
  result = commands.run("train", ARGS, f"--workdir={workdir}")
  assert (result.status, result.out) == (2, "")
  assert result.err == (f"error: {workdir}/{name} is a file, where training makes a folder; move it away, or name "
                        "another workdir.\n")
  assert (workdir / name).read_text() == "mine"


@pytest.mark.fast_cases(
    "evaluate-config.json", "sample-config.json", "evaluate-likelihood_test.json", "evaluate-scores_test.npz")
@pytest.mark.parametrize(("command", "name"), [
    ("evaluate", "config.json"), ("sample", "config.json"), ("evaluate", "likelihood_test.json"),
    ("evaluate", "scores_test.npz"), ("sample", "samples.npz"), ("sample", "samples.png")])
def test_other_commands_name_a_folder_in_the_place_of_a_file(commands, workdir, command, name):
  (workdir / name).unlink(missing_ok=True)
  (workdir / name).mkdir()
  result = commands.run(command, f"--workdir={workdir}")
  assert result.status == 2 and result.err.startswith("error: ") and result.err.count("\n") == 1, result
  assert name in result.err and ("folder" in result.err or "Is a directory" in result.err), result.err
  assert not [path for path in workdir.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_named_and_used(tmp_path, monkeypatch, caplog, code):
  def flock(file, operation):
    raise OSError(code, os.strerror(code))

  monkeypatch.setattr(fcntl, "flock", flock)
  workdir, config = Workdir(tmp_path / "run"), defaults.get_config()
  config.model.name = "fvsbn"
  with caplog.at_level(logging.WARNING), workdir.claim(config):
    workdir.record(config)
  assert (f"workdir {tmp_path}/run lies where files cannot be locked ({os.strerror(code)}); a lease is taken in its "
          "place.") in caplog.text
  assert workdir.config.is_file()


@pytest.mark.parametrize("contents", ["", '{"step": ', "[]", "{}"])
def test_a_damaged_record_of_the_end_is_named(commands, workdir, contents):
  (workdir / "finished.json").write_text(contents)
  result = commands.run("train", ARGS, f"--workdir={workdir}")
  assert result.status == 2 and result.err.startswith(f"error: {workdir}/finished.json ")


def test_rows_around_a_damaged_line_are_kept_and_the_damaged_file_too(commands, unbroken, workdir):
  lines = (workdir / "metrics.jsonl").read_bytes().split(b"\n")
  lines[3] = b"\xff\x00{"
  (workdir / "metrics.jsonl").write_bytes(b"\n".join(lines) + b'{"step": 9')
  result = commands.run("train", ARGS, f"--workdir={workdir}")
  assert result.status == 0
  assert result.err == f"WARNING: {workdir}/metrics.jsonl is damaged; its lines 4 are passed over.\n"
  kept = (workdir / "metrics.jsonl").read_bytes().split(b"\n")
  assert kept == (unbroken("digits") / "metrics.jsonl").read_bytes().split(b"\n")[:3] + lines[4:]
  assert b"\xff\x00{" in (workdir / "metrics.jsonl.damaged").read_bytes()


def test_a_config_of_before_some_fields_existed_still_holds(commands, workdir):
  config = json.loads((workdir / "config.json").read_text())
  for section, field in (("training", "patience"), ("optimizer", "clip_norm"), ("model", "ordering"),
                         ("evaluation", "num_draws"), ("sampling", "seed")):
    del config[section][field]
  (workdir / "config.json").write_text(json.dumps(config))
  assert "finished at step 30" in commands.good("train", ARGS, f"--workdir={workdir}")
  commands.good("evaluate", f"--workdir={workdir}")


def test_a_model_that_the_code_no_longer_knows_is_refused(commands, workdir):
  config = json.loads((workdir / "config.json").read_text())
  config["model"]["hidden"] = [500]
  (workdir / "config.json").write_text(json.dumps(config))
  result = commands.run("evaluate", f"--workdir={workdir}")
  assert result.status == 2
  assert (f"error: the model recorded in {workdir}/config.json cannot be built by this version of the code: "
          "model.hidden is unknown to fvsbn") in result.err


def test_a_model_of_other_shapes_is_refused_by_leaf(commands, workdir):
  config = json.loads((workdir / "config.json").read_text())
  config["model"] = {"name": "independent"}
  (workdir / "config.json").write_text(json.dumps(config))
  result = commands.run("evaluate", f"--workdir={workdir}")
  assert result.status == 2 and "error: the checkpoint is of another model: " in result.err
