"""Runs sections, each in a process of its own, so that its peak memory is its own and a crash costs only itself."""

import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.speed import machine
from experiments.speed.rows import Row
from experiments.speed.sections import section
from experiments.speed.settings import Settings


@dataclasses.dataclass(frozen=True)
class MeasuredSection:
  """The result of one section.

  Attributes:
    section: its name.
    rows: its rows, peak memory last; () where it failed.
    seconds: how long it took, start of the process included.
    machine: what it ran on.
    failure: the last line of a section that failed, else "".
  """

  section: str
  rows: tuple[Row, ...]
  seconds: float
  machine: dict[str, Any] = dataclasses.field(default_factory=dict)
  failure: str = ""


def here(name: str, settings: Settings) -> MeasuredSection:
  """Measure a section in this process."""
  start, before = time.monotonic(), machine.peak_mebibytes()
  rows = section(name)(settings)
  rows += _memory(before)
  return MeasuredSection(name, tuple(rows), time.monotonic() - start, machine.describe())


def apart(name: str, settings: Settings) -> MeasuredSection:
  """Measure a section in a process of its own, which runs this module."""
  start = time.monotonic()
  with tempfile.TemporaryDirectory(prefix="gdm-speed-") as folder:
    out = Path(folder) / "section.json"
    command = [sys.executable, "-m", __name__, name, json.dumps(dataclasses.asdict(settings)), str(out)]
    process = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(process.stderr)
    if process.returncode:
      said = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
      return MeasuredSection(name, (), time.monotonic() - start, failure=said[-1])
    result = json.loads(out.read_text())
  return MeasuredSection(name, tuple(Row.from_dict(row) for row in result["rows"]), time.monotonic() - start,
                         result["machine"])


def _memory(before: float) -> list[Row]:
  rows = [Row("peak memory", machine.peak_mebibytes(), "MiB", f"ru_maxrss of the section's process; {before:.0f} MiB "
              "before it began")]
  if children := machine.peak_mebibytes(resource.RUSAGE_CHILDREN):
    rows.append(Row("peak memory of its largest child", children, "MiB", "ru_maxrss of the processes it started"))
  stats = jax.devices()[0].memory_stats() or {}  # None on a CPU
  if "peak_bytes_in_use" in stats:
    rows.append(Row("peak device memory", stats["peak_bytes_in_use"] / 2**20, "MiB", "first device's allocator"))
  return rows


def main(arguments: Sequence[str]) -> None:
  """`python -m experiments.speed.measure SECTION SETTINGS_JSON OUT`: what `apart` starts."""
  name, settings, out = arguments
  jax.config.update("jax_enable_compilation_cache", False)  # times of first calls are of compiling
  measured = here(name, Settings(**json.loads(settings)))
  Path(out).write_text(json.dumps({"rows": [row.to_dict() for row in measured.rows], "machine": measured.machine}))


if __name__ == "__main__":
  main(sys.argv[1:])
