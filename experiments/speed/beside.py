"""Training beside the same model in another library, which lives in a process and an environment of its own.

Both programs train at the same time, one waiting while the other is timed, so that what else the machine does hits both
alike.
"""

import contextlib
import os
import sys

from experiments.speed.peers.protocol import Case, Peer
from experiments.speed.rows import Row
from experiments.speed.settings import Settings
from experiments.speed.timing import rates, ratios, summary


def num_threads() -> int:
  """Cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def training(what: str, case: Case, ours: str, theirs: str, settings: Settings, seconds: float,
             low: float | None = None, choose_threads: bool = False) -> list[Row]:
  """Training steps/s and memory of a case, and those of PyTorch where its python is given.

  Args:
    what: the case in words.
    case: what both programs train.
    ours, theirs: their modules.
    settings: of the benchmark.
    seconds: of one timing.
    low: the target of the ratio.
    choose_threads: take one thread for our side where that is quicker than all, as PyTorch's side does.
  """
  with contextlib.ExitStack() as stack:
    numbers = sorted({1, case.threads} if choose_threads else {case.threads})
    ours_by_threads = {num: Peer(sys.executable, ours, case, {"NPROC": str(num)}) for num in numbers}
    for each in ours_by_threads.values():
      stack.callback(each.close)
    threads = _quickest(ours_by_threads, seconds) if choose_threads else case.threads
    our = ours_by_threads[threads]
    peer, missing = None, "PyTorch is not installed: give --peer_python"
    if settings.peer_python:
      try:
        peer = Peer(settings.peer_python, theirs, case)
        stack.callback(peer.close)
      except RuntimeError as error:
        missing = f"not measured: {error}"
    steps = max(1, round(seconds / our.seconds(1)))
    our_times, peer_times, processor = [], [], []
    for _ in range(settings.repeats):
      our_times.append(our.seconds(steps))
      if peer is not None:
        peer_times.append(peer.seconds(steps))
        processor.append(peer.processor / our.processor)
    how = f"AdamW, {steps} steps a time, {threads} of {case.threads} threads, {our.params:,} parameters"
    memory = "peak of the process beyond its imports; ours includes compiling"
    rows = [summary(f"{what}: training", rates(our_times, steps), "steps/s", how),
            Row(f"{what}: memory", our.memory, "MiB", memory)]
    name = f"{what}: training over PyTorch"
    if peer is None:
      return [*rows, Row(name, None, "x", missing, low=low)]
    return [
        *rows,
        summary(f"{what}: PyTorch", rates(peer_times, steps), "steps/s", f"fused AdamW, {peer.params:,} parameters"),
        Row(f"{what}: PyTorch's memory", peer.memory, "MiB", memory),
        summary(name, ratios(peer_times, our_times), "x", "ratios of neighbouring timings", low=low),
        summary(f"{name}, processor time", processor, "x", "steadier on a busy machine, but with several threads "
                "PyTorch's spin while they wait"),
    ]


def _quickest(peers: dict[int, Peer], seconds: float) -> int:
  """Return which of them takes least for as many steps, in turns."""
  steps = max(1, round(0.3 * seconds / min(peer.seconds(1) for peer in peers.values())))
  taken = {name: sum(peer.seconds(steps) for _ in range(3)) for name, peer in peers.items()}
  return min(taken, key=lambda name: taken[name])
