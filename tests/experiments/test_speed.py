"""The benchmark gives well-formed rows; how fast anything is, is never asserted."""

import json
import math
import subprocess
import sys

import pytest

from experiments.speed import flows, startup
from experiments.speed.measure import apart, here
from experiments.speed.peers.protocol import ROOT
from experiments.speed.rows import Row, render
from experiments.speed.sections import SECTIONS, choose, section
from experiments.speed.settings import TINY, Settings
from experiments.speed.timing import alternate, exponent, summary
from gdm.errors import ConfigError

SLOW = ("diffusion",)  # it compiles a U-Net's training and three samplers
SETTINGS = Settings(data_dir="/nowhere", repeats=2, size=TINY)

# Stands for experiments.train: logs one step into its workdir and goes on for longer than anyone waits, or, told the
# number of steps, logs the last one and finishes.
TRAIN = """
import sys, time, pathlib
workdir = pathlib.Path(sys.argv[-1].partition("=")[2])
workdir.mkdir()
last = len(sys.argv) > 2 and sys.argv[-2].partition("=")[2]
(workdir / "metrics.jsonl").write_text(f'{{"step": {last or 1}, "loss": 0}}\\n')
if not last:
  time.sleep(600)
time.sleep(0.1)
print(f"finished at step {last}.", flush=True)
time.sleep(0.2)
"""

# Stands for a library's side of flows, and ends at once where it is told to as its second argument.
FLOWS = """
import sys, time
if len(sys.argv) > 2:
  sys.exit("no such library")
sys.path.insert(0, {root!r})
from experiments.speed.peers.protocol import DENSITY, SAMPLING, TRAINING, serve
take = lambda steps: time.sleep(1e-3 * steps)
serve(lambda case: (7, {{TRAINING: take, DENSITY: take, SAMPLING: take}}))
"""


def check(rows):
  assert len({row.name for row in rows}) == len(rows) > 0
  for row in rows:
    assert row.name and row.how
    assert row.value is None or math.isfinite(row.value)
    assert row.spread is None or row.spread[0] <= row.value <= row.spread[1]
    assert Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row


@pytest.mark.fast_cases("loader", "checkpoint")
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
                                  for name in SECTIONS if name != "startup"])
def test_every_section_gives_well_formed_rows(name):
  check(section(name)(SETTINGS))


def test_startup_gives_well_formed_rows(monkeypatch):
  monkeypatch.setattr(startup, "COMMAND", (sys.executable, "-c", TRAIN))
  monkeypatch.setattr(startup, "IMPORTS", (sys.executable, "-c", "import json"))
  monkeypatch.setattr(startup, "PLACE", (sys.executable, "-c", "print('/some/where')"))
  rows = {row.name: row for row in startup.run(SETTINGS)}
  check(list(rows.values()))
  assert all(row.value > 0 for row in rows.values())
  assert "/some/where" in rows["first step, warm"].how
  assert rows["finished to exit"].value > 0.15


def test_a_command_that_ends_before_its_first_step_is_told_with_its_last_words(tmp_path):
  command = (sys.executable, "-c", "print('error: no such config')")
  with pytest.raises(RuntimeError, match="no such config"):
    startup.first_step(command, tmp_path / "workdir", tmp_path / "cache")


def test_flows_beside_libraries_of_which_some_are_missing(monkeypatch, tmp_path):
  def python(name, *words):
    program = tmp_path / name / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "side.py"} "$3" {" ".join(words)}\n')
    program.chmod(0o755)
    return str(program)

  (tmp_path / "side.py").write_text(FLOWS.format(root=str(ROOT)))
  python("flowjax")
  python("zuko", "fails")
  monkeypatch.setattr(sys, "executable", python("ours"))
  monkeypatch.setattr(flows, "_sampling", lambda size, repeats: [])
  monkeypatch.setattr(flows, "MODELS", ("maf",))
  monkeypatch.setitem(flows.PEERS, "absent", "experiments.speed.peers.absent_flows")
  rows = flows.run(Settings(repeats=2, size=TINY, peers=str(tmp_path)))
  check(rows)
  by_name = {row.name: row for row in rows}
  ratio = by_name["maf D=3: sampling over flowjax"]
  assert ratio.value > 0 and ratio.low == 1.0 and "7 parameters" in ratio.how
  broken, absent = by_name["maf D=3: training over zuko"], by_name["maf D=3: training over absent"]
  assert broken.value is None and "no such library" in broken.how and broken.low == 2.5
  assert absent.value is None and "no absent/bin/python" in absent.how


def test_data_that_is_not_there_is_not_measured_and_says_so():
  row = section("loader")(SETTINGS)[-1]
  assert row.value is None and "not measured" in row.how


def test_peak_memory_closes_a_section():
  measured = here("loader", SETTINGS)
  (peak,) = [row for row in measured.rows if row.name == "peak memory"]
  assert peak.value > 0
  json.dumps(measured.machine)


def test_a_section_that_fails_apart_is_told_and_costs_only_itself():
  measured = apart("loader", Settings(data="/nowhere.npz", size=TINY))
  assert measured.rows == () and "/nowhere.npz" in measured.failure


def test_sections_are_chosen_in_the_tables_order():
  assert choose([]) == list(SECTIONS)
  assert choose(["loops", "training"]) == ["training", "loops"]


def test_an_unknown_section_is_an_error_with_the_nearest_name():
  with pytest.raises(ConfigError, match="did you mean 'training'"):
    choose(["trainng"])


def test_a_power_law_has_its_exponent():
  sizes = [64, 128, 512]
  assert exponent(sizes, [3e-5 * size**1.5 for size in sizes]) == pytest.approx(1.5)


def test_what_is_compared_takes_turns():
  calls = []
  times = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2, inner=2)
  assert "".join(calls) == "ab" + "aabb" * 2  # the first round is not counted
  assert [len(values) for values in times.values()] == [2, 2]


@pytest.mark.parametrize("value, met", [(0.95, True), (0.85, False), (None, None)])
def test_a_target_is_met_or_missed(value, met):
  row = Row("ratio", value, "x", "how", low=0.9)
  assert row.target == ">= 0.9" and row.met is met
  assert Row("rate", 1.0, "steps/s", "how").met is None


def test_the_table_is_aligned_and_names_a_section_once():
  rows = [("loader", summary("in memory", [1e6, 2e6, 3e6], "examples/s", "how")), ("loader", Row("b", None, "", "why")),
          ("sampling", Row("exponent", 2.0, "", "fit", high=1.15))]
  header, rule, *lines = render(rows).splitlines()
  assert [line.startswith(name) for line, name in zip(lines, ("loader", " ", "sampling"), strict=True)] == [True] * 3
  assert "2,000,000" in lines[0] and "MISSED" in lines[2]
  assert lines[0].index("how") == lines[1].index("why") == lines[2].index("fit") == header.index("how")
  assert len(rule) <= max(map(len, lines))


@pytest.mark.slow
def test_the_binary_writes_one_json_and_one_table(tmp_path):
  out = tmp_path / "new" / "speed.json"
  command = [sys.executable, "-m", "experiments.speed", "--quick", "--repeats=1", "--sections=loader,sampling",
             f"--data_dir={tmp_path}", f"--out={out}"]
  result = subprocess.run(command, capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr
  report = json.loads(out.read_text())
  assert set(report["section_seconds"]) == {"loader", "sampling"} and report["failures"] == {}
  assert {row["section"] for row in report["rows"]} == {"loader", "sampling"}
  assert report["machine"]["versions"]["jax"] and report["data"]
  assert "exponent in D" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--sections=trainin", "--repeats=0", "--data=/nowhere.npz", "--out=/dev/null/x.json",
                                  "--peers=/nowhere",
                                  "training"])
def test_errors_are_one_line_and_exit_code_2(flag, tmp_path):
  result = subprocess.run([sys.executable, "-m", "experiments.speed", f"--out={tmp_path / 'speed.json'}", flag],
                          capture_output=True, text=True, check=False)
  assert result.returncode == 2, result.stderr
  assert result.stdout == ""
  assert len(result.stderr.strip().splitlines()) == 1
