"""The check of a machine passes where all is right, and fails with the remedy where a program is compiled wrongly."""

import jax
import numpy as np
import pytest
from absl import flags

from experiments import doctor
from gdm import compiler, selfcheck
from gdm.selfcheck import CheckedProgram

RIGHT = CheckedProgram("sums/expm1", lambda x: 2 * x, (np.arange(4.0),))
WRONG = CheckedProgram("constants/a name so long that the line would be wider than a terminal of eighty columns",
                       lambda x: x + isinstance(x, jax.core.Tracer), (np.arange(4.0),))


@pytest.fixture
def diagnose(monkeypatch, capsys):
  """Runs the doctor on given programs; returns its exit status and its lines."""
  flags.FLAGS.mark_as_parsed()
  cached = jax.config.jax_enable_compilation_cache

  def run(*programs, xla_flags=f"{compiler.FLAG}="):
    monkeypatch.setattr(selfcheck, "programs", lambda size: iter(programs))
    monkeypatch.setattr(selfcheck, "SHORT", [program.name for program in programs])
    monkeypatch.setenv("XLA_FLAGS", xla_flags)
    status = doctor.main()
    return status, capsys.readouterr().out.splitlines()

  yield run
  jax.config.update("jax_enable_compilation_cache", cached)


@pytest.mark.parametrize("value", compiler.RIGHT)
def test_a_machine_that_is_right_passes(diagnose, value):
  status, lines = diagnose(RIGHT, xla_flags=f"{compiler.FLAG}={value}")
  assert status == 0
  assert max(map(len, lines)) <= 80
  lines = [line for line in lines if line.strip() != value or not value]
  assert lines[0].split()[0] == "versions" and f"jax {jax.__version__}" in lines[0]
  assert lines[1].startswith("devices") and f"{len(jax.devices())} x" in lines[1]
  assert [line.split()[0] for line in lines[2:-1]] == ["PASS"] * 4
  assert any("highest precision" in line for line in lines)


def test_a_program_that_is_compiled_wrongly_fails_with_the_remedy(diagnose):
  status, lines = diagnose(RIGHT, WRONG)
  assert status == 1
  assert [line.split()[0] for line in lines[3:5]] == ["PASS", "FAIL"]
  assert max(map(len, lines[:lines.index("")])) <= 80
  assert f"start Python with XLA_FLAGS={compiler.FLAG}=" in lines[-1]


@pytest.mark.parametrize("xla_flags", ["", f"{compiler.FLAG}=LIBRARY_FUSION_TYPE_DOT"])
def test_the_flag_not_set_or_set_dangerously_fails(diagnose, xla_flags):
  status, lines = diagnose(RIGHT, xla_flags=xla_flags)
  assert status == 1
  assert lines[2].startswith(f"FAIL      {compiler.FLAG}")
  assert "XLA_FLAGS lacks the flag" in lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize("value, wrong", [
    *((value, ()) for value in compiler.RIGHT), ("LIBRARY_FUSION_TYPE_DOT", ("constants", "networks")),
    ("+LIBRARY_FUSION_TYPE_REDUCE", ("sums", "networks"))])
def test_the_doctor_finds_the_known_faults_of_this_jaxlib_and_none_with_the_flag(commands, value, wrong):
  result = commands.run("doctor", XLA_FLAGS=f"{compiler.FLAG}={value}")
  failed = [line.split()[1].split("/")[0] for line in result.out.splitlines() if line.startswith("FAIL")]
  assert set(failed) - {f"{compiler.FLAG}="} == set(wrong)
  assert result.status == (1 if wrong else 0)
