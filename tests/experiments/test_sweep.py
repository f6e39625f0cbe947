"""A sweep makes one run of each combination, once, whatever interrupts it, and ends in means over seeds."""

import itertools
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
import types

import pytest
from helpers.commands import HERE, TINY
from hypothesis import given
from hypothesis import strategies as st

from configs.energy import ebm
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, WorkdirError
from gdm.runs.registry import build_model
from gdm.runs.sweep import jobs as sweep_jobs
from gdm.runs.sweep.grid import make_points, name_point, split_axis
from gdm.runs.sweep.jobs import Job
from gdm.runs.sweep.running import SweepPlace, run_and_rank
from gdm.runs.sweep.values import read_value
from gdm.runs.workdir import Workdir

SOURCE = f"{HERE / 'tiny.py'}:digits"
FAILED, RESUME_ME = 1, 75


def points(root, *grid, **fixed):
  config = runpy.run_path(str(HERE / "tiny.py"))["get_config"]("digits")
  fixed = {name.replace("__", "."): value for name, value in fixed.items()}
  config.update_from_flattened_dict(fixed)
  return make_points(SOURCE, config, fixed, grid, root, read_value)


# The grid

_NUMBERS = st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
_WORDS = st.text(st.characters(codec="ascii", exclude_characters="'\"\\()[]{},"))
_VALUES = st.recursive(_NUMBERS | _WORDS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


@given(st.lists(_VALUES.map(lambda value: value if isinstance(value, str) else repr(value)), min_size=1))
def test_commas_within_brackets_divide_nothing(texts):
  assert split_axis(f"a.b={','.join(texts)}") == ("a.b", texts)


@pytest.mark.parametrize("text", ["a=(1,2", "a=1)", "a=(1]", "a=('x,1)", "a", "=1", ""])
def test_a_grid_that_cannot_be_read_is_refused(text):
  with pytest.raises(ConfigError, match="--grid is"):
    split_axis(text)


def test_points_are_the_product_the_last_field_fastest(tmp_path):
  found = points(tmp_path, "optimizer.learning_rate=1e-3,3e-4", "seed=2,0,1", training__num_steps=6)
  assert [(point.config.optimizer.learning_rate, point.config.seed) for point in found] == list(
      itertools.product([1e-3, 3e-4], [2, 0, 1]))
  assert {point.config.training.num_steps for point in found} == {6}
  assert [point.name for point in found[:2]] == ["learning_rate=0.001,seed=2", "learning_rate=0.001,seed=0"]
  assert [point.folder for point in found] == [tmp_path / point.name for point in found]
  train, evaluate = found[0].commands_left("valid")
  assert train[1:] == ("-m", "experiments.train", f"--config={SOURCE}", f"--workdir={found[0].folder}",
                       "--config.training.num_steps=6", "--config.optimizer.learning_rate=0.001", "--config.seed=2")
  assert evaluate[1:] == ("-m", "experiments.evaluate", f"--workdir={found[0].folder}", "--split=valid")


@pytest.mark.parametrize(("chosen", "name"), [
    ({"seed": 0, "optimizer.learning_rate": 1e-5}, "learning_rate=1e-05,seed=0"),
    ({"optimizer.learning_rate": 1e-5, "seed": 0}, "learning_rate=1e-05,seed=0"),
    ({"model.name": "made", "data.name": "toy2d:two_moons", "seed": 1}, "data.name=toy2d%3Atwo_moons,model.name=made,"
     "seed=1"),
    ({"model.hidden": (200, 200), "model.direct": True}, "direct=true,hidden=200x200"),
    ({"data.transforms": ("binarize", "quantize:4")}, "transforms=binarize+quantize%3A4"),
    ({"data.transforms": (), "data.path": "/a b/c.npz"}, "path=%2Fa%20b%2Fc.npz,transforms=empty"),
])
def test_names_say_what_varies(chosen, name):
  assert name_point(chosen) == name


@given(st.lists(st.text() | st.integers() | st.floats() | st.booleans(), unique_by=repr, min_size=2, max_size=2))
def test_names_are_one_file_each(values):
  names = [name_point({"data.path": value}) for value in values]
  assert all(re.fullmatch(r"path=[A-Za-z0-9._~%,=+-]*", name) and len(name) <= 200 for name in names)
  assert names[0] != names[1] or str(values[0]).lower() == str(values[1]).lower()  # 'true' is no value of a bool field


def test_tuples_are_values(tmp_path):
  found = points(tmp_path, "data.transforms=('binarize',),binarize:8,()")
  assert [point.config.data.transforms for point in found] == [("binarize",), ("binarize:8",), ()]
  assert [point.name for point in found] == ["transforms=binarize", "transforms=binarize%3A8", "transforms=empty"]


REFUSED = {
    (): "--grid is missing",
    ("--grid=optimizer.learning_rat=1",):
        "--grid=optimizer.learning_rat: optimizer has no field 'learning_rat'; did you mean 'learning_rate'",
    ("--grid=seed=0,x",): "--grid=seed is 'x'; it must be an integer",
    ("--grid=seed=0,1,",): "--grid=seed is ''; it must be an integer",
    ("--grid=training=1",): "--grid=training is a section",
    ("--grid=data.transforms=(a b)",): r"--grid=data.transforms holds '\(a b\)'",
    ("--grid=optimizer.learning_rate=1e-3,0.001",): "0.001 is there 2 times",
    ("--grid=seed=0", "--grid=seed=1"): "--grid names seed twice",
    ("--grid=seed=0", "--config.seed=3"): "seed is in --grid, but also fixed by --config.seed=3",
    ("--grid=seed=0", "--config.sed=3"): "no field 'sed'; did you mean 'seed'",
    ("--grid=training.accumulate=1,3",): "training.accumulate is 3; it must divide data.batch_size",
    ("--grid=seed=0", "--split=tset"): "--split=tset",
    ("--grid=seed=0", "--jobs=0"): "--jobs=0",
    ("--grid=seed=0", f"--root={__file__}"): "is a file; name a folder",
    ("--grid=seed=0", "--root=/proc/nowhere/root"): "cannot be made: No such file",
    ("--grid=seed=0", "--root="): "--root is missing",
    ("--grid=optimizer.learning_rate=1e-4..1e-2",): "give --random=N or --optuna=N",
    ("--grid=optimizer.learning_rate=1e-2..1e-4", "--random=3"): "the lower first",
    ("--grid=seed=0,1", "--random=1", "--optuna=1"): "are both given; drop one",
    ("--grid=seed=0,1", "--optuna=1", "--print"): "whose points follow from the results",
    ("--grid=seed=0", "seed=1"): "argument 'seed=1' is unknown",
}


@pytest.mark.parametrize("args", REFUSED, ids=" ".join)
def test_mistakes_are_one_line_before_anything_starts(commands, tmp_path, args):
  result = commands.run("sweep", f"{TINY}:digits", f"--root={tmp_path / 'root'}", *args)
  assert (result.status, result.out) == (2, "")
  assert result.err.startswith("error: ") and result.err.count("\n") == 1
  assert re.search(REFUSED[args], result.err), result.err
  assert not (tmp_path / "root").exists()


# What is left to do


def finish(point, split="test", **report):
  """Leaves in a workdir what train and evaluate leave, as far as a sweep looks."""
  workdir = Workdir(point.folder)
  point.folder.mkdir(parents=True)
  workdir.record(point.config)
  workdir.finished.write_text(json.dumps({"step": 30, "best_step": 27}))
  report = {"model": "fvsbn", "dataset": "digits", "split": split, "step": 27, "kind": "exact", "given": [],
            "nats_mean": -20.0, "nats_stderr": 1.0, "nats_ci95": [-22.0, -18.0], "bits_per_dim": 0.5,
            "bits_per_dim_stderr": 0.02, "num_examples": 300, "num_dims": 64, "num_draws": 1,
            "data_fingerprint": "ab12", "parameters": "ema", "num_params": 12345, "train_seconds": 61.25,
            "evaluation": point.config.evaluation.to_dict()} | report
  (point.folder / f"likelihood_{split}.json").write_text(json.dumps(report))


def modules(point, split="test"):
  return [command[2] for command in point.commands_left(split)]


def test_what_is_done_is_not_done_again(tmp_path):
  both, evaluate = ["experiments.train", "experiments.evaluate"], ["experiments.evaluate"]
  fresh, done, stale = points(tmp_path, "seed=0,1,2")
  finish(done)
  finish(stale, step=24)  # scored while it was still training
  assert [modules(point) for point in (fresh, done, stale)] == [both, [], evaluate]
  assert modules(done, "valid") == evaluate
  # Other settings of the evaluation want another score, of the same training.
  again, *_ = points(tmp_path, "seed=1", evaluation__num_draws=5)
  again.require_own_workdir()
  assert modules(again) == evaluate
  assert again.commands_left("test")[0][-1] == "--config.evaluation.num_draws=5"
  (done.folder / "likelihood_test.json").write_text("{")
  assert modules(done) == evaluate
  Workdir(done.folder).finished.unlink()
  assert modules(done) == both


def test_a_root_of_another_sweep_is_refused(tmp_path):
  (point,) = points(tmp_path, "seed=0")
  finish(point)
  (point,) = points(tmp_path, "seed=0", training__num_steps=60)
  with pytest.raises(WorkdirError, match=r"training\.num_steps: 30 there, 60 now"):
    point.require_own_workdir()


# Running: the interpreter is a script that does as seeds are told

FAKE = r"""#!/bin/sh
for argument; do case $argument in --workdir=*) workdir=${argument#--workdir=};; --config.seed=*) seed=${argument##*=};;
esac; done
echo "$2 ${workdir##*/}" >> HERE/calls
case $2:$seed in
  experiments.train:2) echo working; echo "error: no luck" >&2; exit 2;;
  experiments.train:75) exit 75;;
  experiments.train:9) kill -9 $$;;
  experiments.train:60)
    sleep 60 & trap "kill $!; echo saved >> HERE/calls; exit 75" TERM; echo $$ > HERE/pid; wait;;
  experiments.evaluate:*) mkdir -p "$workdir"; echo '{}' > "$workdir/likelihood_test.json";;
esac
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
  """A folder whose `calls` say what the interpreter was asked for."""
  script = tmp_path / "fake" / "python"
  script.parent.mkdir()
  script.write_text(FAKE.replace("HERE", str(script.parent)))
  script.chmod(0o755)
  monkeypatch.setattr(sys, "executable", str(script))
  return script.parent


def run(tmp_path, seeds, jobs):
  root = tmp_path / "root"
  root.mkdir()
  work = [Job(point.name, point.commands_left("test"), root / f"{point.name}.log" if jobs > 1 else None)
          for point in points(root, f"seed={seeds}")]
  return run_and_rank(work, SweepPlace(root, str(root), "test", jobs))


def until(condition):
  end = time.monotonic() + 20.0
  while not condition() and time.monotonic() < end:
    time.sleep(0.01)


def calls(fake):
  return [line.removeprefix("experiments.") for line in (fake / "calls").read_text().splitlines()]


def test_runs_one_after_the_other_and_ranks(tmp_path, fake):
  assert run(tmp_path, "0,1", jobs=1) == 0
  assert calls(fake) == ["train seed=0", "evaluate seed=0", "train seed=1", "evaluate seed=1", "leaderboard "]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_failure_is_told_and_the_others_go_on(tmp_path, fake, capfd, jobs):
  assert run(tmp_path, "9,2,0", jobs) == FAILED
  assert sorted(calls(fake)) == ["evaluate seed=0", "leaderboard ", "train seed=0", "train seed=2", "train seed=9"]
  told = [line for line in capfd.readouterr().err.splitlines() if line != "error: no luck"]
  reason = "see above" if jobs == 1 else "error: no luck"
  assert sorted(told) == [f"error: seed=2: experiments.train failed with exit code 2: {reason}",
                          "error: seed=9: experiments.train was killed by signal 9: see above"]
  logs = {path.name: path.read_text() for path in (tmp_path / "root").glob("*.log")}
  assert logs == ({} if jobs == 1 else
                  {"seed=0.log": "", "seed=2.log": "working\nerror: no luck\n", "seed=9.log": ""})


def test_a_run_that_was_interrupted_stops_the_sweep(tmp_path, fake):
  assert run(tmp_path, "0,75,1", jobs=1) == RESUME_ME
  assert calls(fake) == ["train seed=0", "evaluate seed=0", "train seed=75"]


@pytest.mark.fast_cases("15")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_what_runs_is_waited_for(tmp_path, fake, number):
  def send():
    until(lambda: (fake / "pid").exists() and (fake / "pid").read_text().strip())
    os.kill(os.getpid(), number)

  before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
  sender = threading.Thread(target=send)
  sender.start()
  assert run(tmp_path, "60,1", jobs=1) == RESUME_ME
  sender.join()
  assert calls(fake) == ["train seed=60", "saved"]
  with pytest.raises(ProcessLookupError):
    os.kill(int((fake / "pid").read_text()), 0)
  assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


def test_nothing_runs_on_when_the_sweep_itself_fails(tmp_path, fake, monkeypatch):
  def fail(seconds):
    until((fake / "pid").exists)
    raise OSError("no space")

  monkeypatch.setattr(sweep_jobs, "time", types.SimpleNamespace(sleep=fail))
  with pytest.raises(OSError, match="no space"):
    run(tmp_path, "60", jobs=1)
  with pytest.raises(ProcessLookupError):
    os.kill(int((fake / "pid").read_text()), 0)


def test_a_line_for_a_shell_does_all_of_one_run(tmp_path, fake):
  good, bad = points(tmp_path / "it's a root", "seed=0,2")
  for point, code in ((good, 0), (bad, 2)):
    line = Job(point.name, point.commands_left("test")).line
    assert subprocess.run(["sh", "-c", line], capture_output=True, check=False).returncode == code
  assert calls(fake) == ["train seed=0", "evaluate seed=0", "train seed=2"]
  assert (good.folder / "likelihood_test.json").exists()


# All of it


@pytest.mark.slow
def test_printed_commands_run_and_then_nothing_is_left(commands, tmp_path):
  args = [f"{TINY}:digits", f"--root={tmp_path / 'root'}", "--grid=data.transforms=('binarize',)", "--grid=seed=0,1",
          "--config.training.num_steps=6", "--config.training.log_every=6"]
  first, second = commands.good("sweep", *args, "--print").splitlines()
  assert not (tmp_path / "root").exists()
  words = shlex.split(first)
  for command in (words[:words.index("&&")], words[words.index("&&") + 1:]):
    assert command[:2] == [sys.executable, "-m"]
    commands.good(command[2].removeprefix("experiments."), *command[3:])
  done = "transforms=binarize,seed=0 (1/2): finished and scored already.\n"
  assert commands.run("sweep", *args, "--print") == (0, f"{second}\n", done)
  # With nothing left but the ranking, which is the one process here that is started from nothing.
  said = commands.good("sweep", *[arg.replace("seed=0,1", "seed=0") for arg in args])
  assert "finished and scored already" in said
  assert re.search(r"digits\+binarize · test · 300 examples.*\n.*\n.*\nfvsbn .* transforms=binarize,seed=0\n", said)


def test_a_grid_over_networks_gives_each_its_own_fields(tmp_path):
  config = ebm.get_config("two_moons")
  found = make_points("configs/energy/ebm.py:two_moons", config, {}, ["model.network.name=mlp,quadratic"], tmp_path,
                      read_value)
  assert [sorted(point.config.model.network) for point in found] == [["activation", "hidden", "name"], ["name"]]
  for point in found:
    build_model(point.config.model.to_dict(), DataSpec((2,), None))


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--random=3", "--optuna=3"])
def test_searches_train_all_and_score_the_one_that_validated_best(commands, tmp_path, flag):
  """Six commands, each a process; the same command again trains nothing."""
  root = tmp_path / "root"
  args = [f"{TINY}:digits", f"--root={root}", "--grid=optimizer.learning_rate=1e-4..1e-1", flag,
          "--config.training.num_steps=6", "--config.training.log_every=6"]
  said = commands.good("sweep", *args)
  best = {folder.name: json.loads((folder / "finished.json").read_text())["best_nats"] for folder in root.iterdir()}
  assert len(best) == 3
  [scored] = root.glob("*/likelihood_test.json")
  assert scored.parent.name == max(best, key=best.get)
  assert f"chosen on the validation split, among 3: {scored.parent.name}" in said
  assert "steps/s" not in commands.good("sweep", *args)
