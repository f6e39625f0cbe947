"""What the benchmark and its peers say to each other: one JSON object a line. The standard library alone.

A peer is started with a `Case` as its argument, answers with {"params": N} once it has taken its first steps, then each
{"steps": n} with {"seconds": s, "processor": s of all threads, "memory": MiB beyond its imports at its peak}, until its
input ends.
"""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
WARM_UP = 3


@dataclasses.dataclass(frozen=True)
class Case:
  """A model to train by AdamW on windows of random tokens, or on random images of one channel.

  Attributes:
    model: transformer, rnn, lstm or gru; or pixelcnn or gated_pixelcnn.
    num_layers, width: its size; heads of a transformer are 4.
    levels: size of the vocabulary, or of a pixel's values.
    context, batch: tokens of a window or pixels of an image's side, and windows or images of a step.
    threads: how many a program may use.
  """

  model: str
  num_layers: int
  width: int
  levels: int
  context: int
  batch: int
  threads: int


def serve(build: Callable[[Case], tuple[int, Callable[[int], Any]]]) -> None:
  """A peer's life: `build` gives its number of parameters and a call that takes so many steps and waits for them."""
  before = _peak()
  params, take = build(Case(**json.loads(sys.argv[1])))
  take(WARM_UP)
  _say({"params": params})
  for line in sys.stdin:
    start, processor = time.perf_counter(), time.process_time()
    take(json.loads(line)["steps"])
    _say({"seconds": time.perf_counter() - start, "processor": time.process_time() - processor,
          "memory": _peak() - before})


class Peer:
  """A peer's process, seen from the benchmark; to be closed.

  Attributes:
    params: number of its model's parameters.
    processor: seconds that the threads of its last timing took together.
    memory: MiB at its peak so far.
  """

  def __init__(self, python: str, module: str, case: Case):
    """Raises RuntimeError with its last words where it cannot start."""
    self._process = subprocess.Popen([python, "-m", module, json.dumps(dataclasses.asdict(case))], cwd=ROOT,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    self.memory = self.processor = 0.0
    try:
      self.params: int = self._answer()["params"]
    except RuntimeError:
      self.close()
      raise

  def seconds(self, steps: int) -> float:
    """How long so many steps take."""
    assert self._process.stdin is not None
    self._process.stdin.write(json.dumps({"steps": steps}) + "\n")
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
