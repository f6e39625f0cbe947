"""`gdm <command>`: found from any folder, quick to tell a misspelt flag, and its help is help."""

import subprocess
import sys

import pytest
from helpers.commands import ROOT

from experiments import early
from experiments.__main__ import commands as known
from experiments.__main__ import usage
from gdm.runs.overrides import packaged_config


def run(*words, cwd):
  return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True,
                        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin", "JAX_PLATFORMS": "cpu", "HOME": str(cwd)})


@pytest.mark.parametrize("command", known())
def test_flags_are_read_from_the_source(command):
  source = early.source_of(f"experiments.{command}")
  if source is None:  # a package of its own
    return
  names = set(early.flags_of(source))
  assert names and "config.data" not in names
  for name in names:
    assert early.misspelt(f"experiments.{command}", [f"--{name}=1"]) is None
  longest = max(names, key=len)
  message = early.misspelt(f"experiments.{command}", [f"--{longest[:-2]}{longest[-1]}q=1"])
  assert message is not None and f"did you mean '--{longest}'" in message


def test_a_misspelt_flag_ends_before_jax_is_imported(tmp_path):
  script = ("import sys, experiments.__main__ as m; sys.argv = ['gdm', 'train', '--wrkdir=x']\n"
            "try: m.main()\nexcept SystemExit as e: assert e.code == 2 and 'jax' not in sys.modules, e.code\n")
  result = run("-c", script, cwd=tmp_path)
  assert (result.returncode, result.stderr) == (0, "error: there is no flag --wrkdir; did you mean '--workdir'?\n")
  result = run("-m", "experiments.train", "--wrkdir=x", cwd=tmp_path)
  assert (result.returncode, result.stderr) == (2, "error: there is no flag --wrkdir; did you mean '--workdir'?\n")


def test_commands_are_told(tmp_path):
  text = usage()
  assert max(map(len, text.splitlines())) <= 80 and all(f"\n  {name} " in text for name in known())
  assert {"train", "evaluate", "sample", "export", "speed", "leaderboard"} <= known().keys()
  result = run("-m", "experiments", "trian", cwd=tmp_path)
  assert result.returncode == 2 and "did you mean 'train'" in result.stderr
  assert run("-m", "experiments", "--help", cwd=tmp_path).returncode == 0


def test_help_lists_every_flag_and_exits_with_0(commands):
  for flag in ("--help", "--helpfull"):
    said = commands.good("evaluate", flag)
    names = set(early.flags_of(early.source_of("experiments.evaluate")))
    assert {"workdir", "checkpoint", "data", "split", "coordinator"} <= names
    assert all(f"\n  --{name}" in said for name in names)


@pytest.mark.parametrize("text", ["made:digits", "autoregressive/made:digits", "configs/autoregressive/made.py:digits"])
def test_configs_are_found_from_any_folder(tmp_path, monkeypatch, text):
  monkeypatch.chdir(tmp_path)
  expected = f"{ROOT}/configs/autoregressive/made.py:digits"
  assert packaged_config([f"--config={text}", "--config.seed=1"]) == [f"--config={expected}", "--config.seed=1"]
  assert packaged_config(["--config", text]) == ["--config", expected]
  own = tmp_path / "made.py"
  own.write_text("")
  left = ["--config=made.py:digits", "--config=none:x"]
  assert packaged_config(left) == left
