"""The protocol of the benchmark and its peers: one JSON object a line. The standard library alone.

A peer is started with a `Case` as its argument. It has one task, training, or several, such as sampling. Once it has
done the first steps of each it answers with {"params": N, "first": {task: s}}, then each {"task": t, "steps": n} with
{"seconds": s, "processor": s of all threads, "memory": MiB beyond its imports at its peak}, until its input ends.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
WARM_UP = 3

# Tasks. A step of the last two is a batch.
TRAINING, DENSITY, SAMPLING = "training", "log-density", "sampling"

# Of each task, a call that does so many steps and waits for them.
Tasks = Mapping[str, Callable[[int], Any]]


@dataclasses.dataclass(frozen=True)
class Case:
  """A model to train on windows of random tokens, on random images of one channel or on random vectors.

  Attributes:
    model: transformer, rnn, lstm or gru; pixelcnn or gated_pixelcnn; mlp or convolutional; or coupling, maf or spline.
    num_layers, width: its size; heads of a transformer are 4, hidden layers of each layer of a flow are 2.
    levels: size of the vocabulary, of a pixel's values, or bins of a spline.
    context, batch: tokens of a window, pixels of an image's side or numbers of a vector, and how many of them a step
      takes.
    threads: how many a program may use.
  """

  model: str
  num_layers: int
  width: int
  levels: int
  context: int
  batch: int
  threads: int


def serve(build: Callable[[Case], tuple[int, Tasks]]) -> None:
  """A peer's life: `build` gives its number of parameters and its tasks, of which the first is timed from here on."""
  before, first = _peak(), {}
  start = time.perf_counter()
  params, tasks = build(Case(**json.loads(sys.argv[1])))
  for task, take in tasks.items():
    take(1)
    first[task] = time.perf_counter() - start
    take(WARM_UP - 1)
    start = time.perf_counter()
  _say({"params": params, "first": first})
  for line in sys.stdin:
    asked = json.loads(line)
    start, processor = time.perf_counter(), time.process_time()
    tasks[asked["task"]](asked["steps"])
    _say({"seconds": time.perf_counter() - start, "processor": time.process_time() - processor,
          "memory": _peak() - before})


class Peer:
  """A peer's process, seen from the benchmark; to be closed.

  Attributes:
    params: number of its model's parameters.
    first: seconds to the end of the first step of each task, compiling included; of the first task, from before the
      model is built.
    processor: seconds that the threads of its last timing took together.
    memory: MiB at its peak so far.
  """

  def __init__(self, python: str, module: str, case: Case, environment: Mapping[str, str] | None = None):
    """Raise RuntimeError with its last words where it cannot start; `environment` is added to this process's."""
    self._process = subprocess.Popen(
        [python, "-m", module, json.dumps(dataclasses.asdict(case))], cwd=ROOT,
        env={**os.environ, **(environment or {})}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    self.memory = self.processor = 0.0
    try:
      answer = self._answer()
    except RuntimeError:
      self.close()
      raise
    self.params: int = answer["params"]
    self.first: dict[str, float] = answer["first"]

  def seconds(self, steps: int, task: str = TRAINING) -> float:
    """Return the seconds of so many steps of a task."""
    assert self._process.stdin is not None
    self._process.stdin.write(json.dumps({"task": task, "steps": steps}) + "\n")
    self._process.stdin.flush()
    answer = self._answer()
    self.memory, self.processor = answer["memory"], answer["processor"]
    return answer["seconds"]

  def close(self) -> None:
    self._process.communicate()

  def _answer(self) -> dict[str, Any]:
    assert self._process.stdout is not None
    if line := self._process.stdout.readline():
      return json.loads(line)
    words: Sequence[str] = self._process.communicate()[1].strip().splitlines()
    raise RuntimeError(words[-1] if words else f"exit code {self._process.returncode}")


def _say(answer: dict[str, Any]) -> None:
  print(json.dumps(answer), flush=True)


def _peak() -> float:
  # Not ru_maxrss, which begins at the peak of the process that started this one.
  kibibytes = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
  return int(kibibytes) / 1024
