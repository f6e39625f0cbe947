"""Seconds from the start of `experiments.train` to its first logged step: cold, and from the compilation cache."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import summary
from experiments.workdir import Workdir

# One step per call and a log line per step, so that the first line of the metrics is the first step.
COMMAND = (sys.executable, "-m", "experiments.train", "--config=configs/autoregressive/made.py:digits",
           "--config.training.steps_per_call=1", "--config.training.log_every=1")
IMPORTS = (sys.executable, "-c", "import experiments.train")
REPEATS = {FULL: 3, QUICK: 1, TINY: 1}
TIMEOUT_SECONDS = 300.0
POLL_SECONDS = 0.005


def run(settings: Settings) -> list[Row]:
  repeats = min(settings.repeats, REPEATS[settings.size])
  imports, cold, warm = [], [], []
  for _ in range(repeats):
    with tempfile.TemporaryDirectory(prefix="gdm-speed-") as folder:
      place = Path(folder)
      start = time.perf_counter()
      subprocess.run(IMPORTS, check=True, env=_environment(place))
      imports.append(time.perf_counter() - start)
      cold.append(first_step(COMMAND, place / "cold", place / "cache"))
      warm.append(first_step(COMMAND, place / "warm", place / "cache"))
  what = "experiments.train of made:digits, from its start"
  return [
      summary("imports alone", imports, "s", IMPORTS[-1]),
      summary("first step, cold", cold, "s", f"{what}; empty compilation cache"),
      summary("first step, warm", warm, "s", f"{what}; the same again"),
  ]


def first_step(command: Sequence[str], workdir: Path, cache: Path) -> float:
  """Seconds until `command --workdir=...` has logged a step; it is then killed.

  Raises:
    RuntimeError: it ended, or took too long, before.
  """
  metrics = Workdir(workdir).metrics
  start = time.perf_counter()
  with tempfile.TemporaryFile("w+") as output:
    process = subprocess.Popen([*command, f"--workdir={workdir}"], env=_environment(cache), stdout=output,
                               stderr=subprocess.STDOUT)
    try:
      while not (metrics.exists() and "\n" in metrics.read_text()):
        elapsed = time.perf_counter() - start
        if process.poll() is not None or elapsed > TIMEOUT_SECONDS:
          output.seek(0)
          said = output.read().strip().splitlines()[-1:] or ["nothing"]
          raise RuntimeError(f"{' '.join(command)} logged no step in {elapsed:.1f} s; it said: {said[0]}")
        time.sleep(POLL_SECONDS)
      return time.perf_counter() - start
    finally:
      process.kill()
      process.wait()


def _environment(cache: Path) -> dict[str, str]:
  return {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
