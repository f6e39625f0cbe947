"""Seconds of `experiments.train` outside its steps: to the first, cold and from the compilation cache, and to exit."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import summary
from gdm.runs.workdir import Workdir

# One step per call and a log line per step, so that the first line of the metrics is the first step.
COMMAND = (sys.executable, "-m", "experiments.train", "--config=configs/autoregressive/made.py:digits",
           "--config.training.steps_per_call=1", "--config.training.log_every=1")
LAST_STEP = 3  # of the run whose exit is timed
IMPORTS = (sys.executable, "-c", "import experiments.train")
PLACE = (sys.executable, "-c", "import jax; from gdm.runs.console import use_compilation_cache; "
         "use_compilation_cache(); print(jax.config.jax_compilation_cache_dir)")
REPEATS = {FULL: 3, QUICK: 1, TINY: 1}
TIMEOUT_SECONDS = 300.0
POLL_SECONDS = 0.005


def run(settings: Settings) -> list[Row]:
  repeats = min(settings.repeats, REPEATS[settings.size])
  imports, cold, warm, ends = [], [], [], []
  for _ in range(repeats):
    with tempfile.TemporaryDirectory(prefix="gdm-speed-") as folder:
      place = Path(folder)
      start = time.perf_counter()
      subprocess.run(IMPORTS, check=True, env=_environment(place))
      imports.append(time.perf_counter() - start)
      cold.append(first_step(COMMAND, place / "cold", place / "cache"))
      warm.append(first_step(COMMAND, place / "warm", place / "cache"))
      ends.append(end(COMMAND, place / "end", place / "cache"))
  what = "experiments.train of made:digits, from its start"
  return [
      summary("imports alone", imports, "s", IMPORTS[-1]),
      summary("first step, cold", cold, "s", f"{what}; empty compilation cache"),
      summary("first step, warm", warm, "s", f"{what}; the same again, from the cache, which runs keep in "
              f"{cache_place()}"),
      summary("last step to finished", [finished for finished, _ in ends], "s", "the last save, curves and samples"),
      summary("finished to exit", [left for _, left in ends], "s", "from the line that says so to the process's end"),
  ]


def cache_place() -> str:
  """Return the folder where the binaries keep compiled programs on this machine."""
  said = subprocess.run(PLACE, check=True, capture_output=True, text=True).stdout.strip()
  return said.replace(str(Path.home()), "~", 1)


def first_step(command: Sequence[str], workdir: Path, cache: Path) -> float:
  """Seconds until `command --workdir=...` has logged a step; it is then killed.

  Raises:
    RuntimeError: it ended, or took too long, before.
  """
  metrics = Workdir(workdir).metrics
  with _launched([*command, f"--workdir={workdir}"], cache) as wait:
    return wait("logged no step", lambda said: metrics.exists() and "\n" in metrics.read_text())


def end(command: Sequence[str], workdir: Path, cache: Path) -> tuple[float, float]:
  """Seconds from the last step's log line to the line that says "finished", and from there to the process's end.

  Raises:
    RuntimeError: it ended, or took too long, before.
  """
  metrics, last = Workdir(workdir).metrics, f'{{"step": {LAST_STEP},'
  with _launched([*command, f"--config.training.num_steps={LAST_STEP}", f"--workdir={workdir}"], cache) as wait:
    stepped = wait("logged no last step", lambda said: metrics.exists() and last in metrics.read_text())
    finished = wait("did not finish", lambda said: "finished at step" in said)
    return finished - stepped, wait("did not exit", None) - finished


@contextlib.contextmanager
def _launched(command: Sequence[str], cache: Path) -> Iterator[Callable[[str, Callable[[str], bool] | None], float]]:
  """Start a command, and kills it in the end.

  Yields:
    `wait(complaint, reached)`: returns the seconds since the start once `reached(what it said so far)` holds, or, for
    None, once it has ended; raises RuntimeError with the complaint where it ends before, or takes too long.
  """
  with tempfile.TemporaryFile("w+") as output:
    start = time.perf_counter()
    process = subprocess.Popen(command, env=_environment(cache), stdout=output, stderr=subprocess.STDOUT)

    def said() -> str:
      return os.pread(output.fileno(), 1 << 20, 0).decode(errors="replace")  # leaves the shared position as it is

    def wait(complaint: str, reached: Callable[[str], bool] | None) -> float:
      while True:
        ended, elapsed = process.poll() is not None, time.perf_counter() - start
        if ended if reached is None else reached(said()):
          return elapsed
        if ended or elapsed > TIMEOUT_SECONDS:
          last = said().strip().splitlines()[-1:] or ["nothing"]
          raise RuntimeError(f"{' '.join(command)} {complaint} in {elapsed:.1f} s; it said: {last[0]}")
        time.sleep(POLL_SECONDS)

    try:
      yield wait
    finally:
      process.kill()
      process.wait()


def _environment(cache: Path) -> dict[str, str]:
  return {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
