"""Whatever is done to a run, it ends as the unbroken one or says why not; and the campaign sees where it does not."""

import json
import shutil

import pytest
from helpers.commands import TINY

from experiments.faults.campaign import (
  IDENTICAL,
  LOST,
  REFUSED,
  Outcome,
  campaign,
  number_of_faults,
  play,
  render,
  run_unbroken,
)
from experiments.faults.commands import Result
from experiments.faults.compare import difference
from experiments.faults.kinds import KINDS, FaultKind

CHEAP = ("kill in a save", "flipped bit", "truncated file", "NaN")


@pytest.fixture(scope="module")
def reference(commands, tmp_path_factory):
  return run_unbroken(commands, f"{TINY}:digits".removeprefix("--config="), tmp_path_factory.mktemp("reference"))


def do(name, commands, reference, root):
  if not number_of_faults(1, [name], root)[name]:
    pytest.skip("this machine does not allow this fault: it takes root, or a user who is not")
  (outcome,) = campaign(commands, reference, root, {name: 1}, seed=0)
  assert outcome.verdict in (IDENTICAL, REFUSED), outcome
  assert not list(root.iterdir())


@pytest.mark.fast_cases("truncated file")
@pytest.mark.parametrize("name", CHEAP)
def test_a_fault_loses_nothing(commands, reference, tmp_path, name):
  do(name, commands, reference, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KINDS if name not in CHEAP])
def test_a_fault_of_any_other_kind_loses_nothing(commands, reference, tmp_path, name):
  do(name, commands, reference, tmp_path)


def tamper(scene):
  """A run that finishes, and then has another row than it should."""
  scene.end(scene.start(), {0})
  scene.workdir.metrics.write_text(scene.workdir.metrics.read_text().replace('"step": 8', '"step": 9'))


def crash(scene):
  """A run that ends by a bug."""
  scene.end(scene.start(inject="bug@2"), {0, 2, 75})


def hang(scene):
  scene.end(scene.start(inject="stall@1"), {0}, seconds=1.5)


@pytest.mark.fast_cases(
    "crash-exit 1, where [0, 2, 75] are right; it said ",
    "hang-it hung for 1.5 s; what it said, and where its threads were, is in ")
@pytest.mark.parametrize(("fault", "why"), [
    (tamper, "other numbers than unbroken: metrics.jsonl differs"),
    (crash, "exit 1, where [0, 2, 75] are right; it said "),
    (hang, "it hung for 1.5 s; what it said, and where its threads were, is in "),
])
def test_what_is_lost_is_seen_and_kept(commands, reference, tmp_path, fault, why):
  outcome = play(FaultKind("planted", 1, fault), 0, commands, reference, tmp_path, seed=0)
  assert outcome.verdict == LOST and why in outcome.why, outcome
  assert (tmp_path / "planted-0").is_dir()


@pytest.mark.slow
def test_refusing_is_losing_where_something_is_whole(commands, reference, tmp_path):
  def forget(scene):
    scene.end(scene.start(), {0})
    scene.workdir.finished.write_text("{")

  outcome = play(FaultKind("planted", 1, forget, damages=True), 0, commands, reference, tmp_path, seed=0)
  assert outcome.verdict == LOST and "are whole: error: " in outcome.why, outcome


@pytest.mark.slow
def test_two_runs_of_other_numbers_differ(commands, reference, tmp_path):
  other = shutil.copytree(reference.workdir, tmp_path / "other")
  assert difference(other, reference.workdir) is None
  commands.good("train", f"--config={reference.config}", f"--workdir={tmp_path / 'seed'}", "--config.seed=1")
  assert difference(tmp_path / "seed", reference.workdir) == "metrics.jsonl differs"
  for place in ("best", "checkpoints"):
    shutil.rmtree(other / place)
    shutil.copytree(tmp_path / "seed" / place, other / place)
    assert f"{place}/30: " in difference(other, reference.workdir)
  for step in (other / "checkpoints").iterdir():
    shutil.rmtree(step)
  assert difference(other, reference.workdir) == "checkpoints: the newest good step is None, not 30"


def test_the_table_counts_by_kind():
  outcomes = [Outcome("kill", 0, IDENTICAL, "", ("exit -9", "exit 0"), 1.0),
              Outcome("kill", 1, LOST, "", ("exit 1",), 2.0),
              Outcome("NaN", 0, IDENTICAL, "", ("exit 2: error: nll is nan", "exit 0"), 3.0)]
  rows = [line.split() for line in render(outcomes, {"kill": 2, "NaN": 1, "SIGTERM": 0}).splitlines()]
  assert rows == [
      ["fault", "done", "identical", "refused", "lost", "refused", "first", "s", "each"],
      ["kill", "2", "1", "0", "1", "0", "1.5"],
      ["NaN", "1", "1", "0", "0", "1", "3.0"],
      ["SIGTERM", "0", "0", "0", "0", "0", "0.0"],
      ["all", "3", "2", "0", "1", "1", "2.0"]]


def test_a_hundred_kills_are_a_hundred_kills(tmp_path):
  numbers = number_of_faults(100, list(KINDS), tmp_path)
  assert sum(number for name, number in numbers.items() if name.startswith("kill")) == 100
  assert all(number >= 1 for name, number in numbers.items() if KINDS[name].needs(tmp_path))
  assert set(number_of_faults(1, list(KINDS), tmp_path).values()) <= {0, 1}


@pytest.mark.parametrize(("args", "message"), [
    (["--kills=0"], "--kills is 0; it must be at least 1."),
    (["--kinds=NaN,kil"], "--kinds has 'kil'; did you mean 'kill'?"),
    (["--root={}"], "--root is {}, which is there and not empty; name a new folder."),
])
def test_bad_input_is_one_line(commands, tmp_path, args, message):
  (tmp_path / "something").touch()
  result = commands.run("faults", *(arg.format(tmp_path) for arg in args))
  assert result == Result(2, "", f"error: {message.format(tmp_path)}\n")


@pytest.mark.parametrize("args", [[], ["--inject=nan@x", "--"], ["--inject=fire@3", "--"], ["--inject=nan@3"]])
def test_an_unknown_injection_is_one_line(commands, args):
  result = commands.run("faults.injected", *args)
  assert result == Result(2, "", "error: usage: --inject=nan|bug|stall|validate@STEP -- <flags of experiments.train>\n")


@pytest.mark.slow
def test_the_script_writes_what_it_prints(commands, tmp_path):
  result = commands.run("faults", "--kills=1", "--kinds=NaN,kill", f"--out={tmp_path / 'out' / 'faults.json'}",
                        f"--root={tmp_path / 'runs'}")
  assert (result.status, result.err) == (0, ""), result
  written = json.loads((tmp_path / "out" / "faults.json").read_text())
  assert [(outcome["kind"], outcome["verdict"]) for outcome in written["outcomes"]] == [
      ("NaN", IDENTICAL), ("kill", IDENTICAL)]
  assert [line.split()[0] for line in result.out.splitlines()[-5:-1]] == ["fault", "NaN", "kill", "all"]
  assert not (tmp_path / "runs").exists()
