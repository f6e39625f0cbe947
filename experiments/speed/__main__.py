"""Measures how fast this machine trains, loads, samples and scores, and writes one JSON and one table.

  python -m experiments.speed [--out=runs/speed.json] [--sections=training,loader] [--quick] [--repeats=7]
      [--data=../shared/data/adult.npz] [--data_dir=../shared/tfds]
      [--peer_python=DIR/bin/python] [--peers=DIR]

Other libraries to compare with live in environments of their own: --peer_python is the python of one with PyTorch, for
the sections sequences, images and energy; --peers is a folder of one for each library of the section flows,
DIR/flowjax and DIR/zuko. experiments/speed/sequences.py and experiments/speed/flows.py say
how to make them. What is not there is not measured, and its rows say so.

Each section runs in a process of its own. Exit codes: 0 all measured, 1 a section failed, 2 bad input. A target that is
missed is marked and is no failure: a busy machine misses targets.
"""

import datetime
import shutil
import sys
import time
from pathlib import Path

from absl import flags

from experiments.cli import run
from experiments.speed import measure
from experiments.speed.rows import render
from experiments.speed.sections import SECTIONS, choose
from experiments.speed.settings import FULL, QUICK, Settings
from gdm.errors import ConfigError
from gdm.runs.workdir import write_json

_DATA, _DATA_DIR = "../shared/data/adult.npz", "../shared/tfds"

_OUT = flags.DEFINE_string("out", "runs/speed.json", "Where to write the JSON.")
_SECTIONS = flags.DEFINE_list("sections", [], f"Which to measure, all by default: {', '.join(SECTIONS)}.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timings of which the median is taken.")
_SIZE = flags.DEFINE_boolean("quick", False, "Measure less: seconds per section, and noisier.")
_NPZ = flags.DEFINE_string("data", _DATA, "Binary data to train and score on; the default, where it is absent, gives "
                           "way to synthetic data of the same shape.")
_TFDS = flags.DEFINE_string("data_dir", _DATA_DIR, "Where TFDS data lies, for the loader on disk; the default, where "
                            "it is absent, gives way to TFDS's own place.")
_PEER = flags.DEFINE_string("peer_python", "", "The python of an environment with PyTorch, for the sections "
                            "sequences, images and energy to compare with.")
_PEERS = flags.DEFINE_string("peers", "", "A folder of environments, each under its library's name, for section flows "
                             "to compare with.")


def main() -> int:
  names, out, settings = choose(_SECTIONS.value), Path(_OUT.value), _settings()
  _require_writable(out)
  data = settings.dataset().name  # loaded here too, so that bad data is told before minutes of measuring
  start, began = time.monotonic(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  results = []
  for name in names:
    print(f"{name} ...", file=sys.stderr, flush=True)
    results.append(measure.apart(name, settings))
  rows = [(result.section, row) for result in results for row in result.rows]
  failures = {result.section: result.failure for result in results if result.failure}
  machine = next((result.machine for result in results if result.machine), {})
  write_json(out, {
      "began": began, "seconds": time.monotonic() - start, "size": settings.size, "repeats": settings.repeats,
      "data": data, "machine": machine, "section_seconds": {result.section: result.seconds for result in results},
      "rows": [{"section": name, **row.to_dict()} for name, row in rows], "failures": failures,
  })
  print(f"{machine.get('cpu', '?')}, {machine.get('cores', '?')} cores; {machine.get('devices', '?')}; data: {data}; "
        f"load average {', '.join(f'{load:.1f}' for load in machine.get('load_average') or [])}")
  print(render(rows))
  print(f"{out} written after {time.monotonic() - start:.0f} s.")
  for name, failure in failures.items():
    print(f"error: section {name} failed: {failure}", file=sys.stderr)
  return int(bool(failures))


def _settings() -> Settings:
  if _REPEATS.value < 1:
    raise ConfigError(f"--repeats is {_REPEATS.value}; it must be at least 1.")
  if _PEER.value and shutil.which(_PEER.value) is None:
    raise ConfigError(f"--peer_python is {_PEER.value!r}, which is no program; it must be a python with PyTorch.")
  if _PEERS.value and not Path(_PEERS.value).is_dir():
    raise ConfigError(f"--peers is {_PEERS.value!r}, which is no folder; it must hold environments, as PEERS/zuko.")
  data = _NPZ.value if _NPZ.present or Path(_DATA).exists() else ""
  data_dir = _TFDS.value if _TFDS.present or Path(_DATA_DIR).is_dir() else ""
  return Settings(data, data_dir, _REPEATS.value, QUICK if _SIZE.value else FULL,
                  _PEER.value, _PEERS.value)


def _require_writable(out: Path) -> None:
  """Raise ConfigError now rather than after minutes of measuring."""
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir():
      raise IsADirectoryError(0, "it is a folder")
    probe = out.with_name(f".{out.name}.probe")
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise ConfigError(f"--out is {str(out)!r}, which cannot be written: {error.strerror}.") from error


if __name__ == "__main__":
  run(main, precise=False)
