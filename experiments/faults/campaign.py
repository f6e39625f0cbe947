"""A campaign: an unbroken run, then one fault after the other, each with its verdict."""

import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.faults.bucket import Bucket, served
from experiments.faults.bucket_scene import BucketScene
from experiments.faults.commands import Commands
from experiments.faults.kinds import KINDS, FaultKind
from experiments.faults.scene import Lost, Refused, Scene, Unbroken
from gdm.errors import UserError
from gdm.runs.workdir import Workdir

IDENTICAL, REFUSED, LOST = VERDICTS = ("identical", "refused", "lost")


class Outcome(NamedTuple):
  """The outcome of a run after a fault.

  Attributes:
    kind: of the fault.
    number: which of its kind; together with the campaign's seed it says what was drawn.
    verdict: "identical" to the unbroken run, "refused" with a clear message, or "lost".
    why: the message, or what was lost.
    history: how each process ended.
    seconds: that it took.
  """

  kind: str
  number: int
  verdict: str
  why: str
  history: tuple[str, ...]
  seconds: float

  @property
  def refused_first(self) -> bool:
    """Whether some process refused to go on, though the run could be finished in the end."""
    return self.verdict == IDENTICAL and any(entry.startswith("exit 2") for entry in self.history)


def run_unbroken(commands: Commands, config: str, folder: Path) -> Unbroken:
  """Return the run to compare with, made twice: the first time compiles. Raise UserError where it does not end
  well."""
  seconds = 0.0
  for name in ("first", "unbroken"):
    start = time.monotonic()
    result = commands.run("train", f"--config={config}", f"--workdir={folder / name}")
    seconds = time.monotonic() - start
    if result.status != 0:
      raise UserError(f"the unbroken run of {config} ended with {result.status}: {result.err.strip()[-500:]}")
  workdir = Workdir(folder / "unbroken")
  step = workdir.finished_step()
  assert step is not None, "it ended with 0"
  training = workdir.read_config().training.to_dict()
  rows = workdir.metrics.read_bytes().count(b"\n")
  return Unbroken(config, workdir.path, seconds, step, rows, training.get("stall_seconds", 0.0))


def play(kind: FaultKind, number: int, commands: Commands, unbroken: Unbroken, root: Path, seed: int,
         bucket: Bucket | None = None) -> Outcome:
  """Does one fault; the workdir stays where the run was lost."""
  folder = root / f"{kind.name.replace(' ', '-').replace(':', '')}-{number}"
  given = (commands, unbroken, folder, random.Random(f"{seed}/{kind.name}/{number}"))
  scene = BucketScene(*given, bucket) if kind.in_bucket and bucket is not None else Scene(*given)
  start = time.monotonic()
  verdict, why = _judge(kind, scene)
  if verdict != LOST:
    for path in root.glob(f"{folder.name}*"):
      if path.name.removeprefix(folder.name) in ("", ".new"):
        shutil.rmtree(path)
  return Outcome(kind.name, number, verdict, why, tuple(scene.history), time.monotonic() - start)


def _judge(kind: FaultKind, scene: Scene) -> tuple[str, str]:
  """Return the verdict and its reason."""
  try:
    with kind.play(scene) or contextlib.nullcontext():
      good = scene.good_steps()
      try:
        scene.finish()
      except Refused as refusal:
        return (REFUSED, str(refusal)) if kind.damages and not good else (
            LOST, f"refused though {sorted(path.name for path in good)} are whole: {refusal}")
      scene.require_identical()
    return IDENTICAL, ""
  except Lost as loss:
    return LOST, str(loss)
  finally:
    scene.close()


def number_of_faults(kills: int, kinds: Sequence[str], root: Path) -> dict[str, int]:
  """Return how many faults of each kind go with so many kills; none of a kind that this machine does not allow."""
  return {name: max(1, round(KINDS[name].share * kills)) if KINDS[name].needs(root) else 0 for name in kinds}


def campaign(commands: Commands, unbroken: Unbroken, root: Path, numbers: Mapping[str, int], seed: int
             ) -> Iterator[Outcome]:
  """Does the faults, kind by kind."""
  with contextlib.ExitStack() as stack:
    needed = any(number and KINDS[name].in_bucket for name, number in numbers.items())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gdm-bucket-")))
    bucket = stack.enter_context(served(folder)) if needed else None
    for name, number in numbers.items():
      for i in range(number):
        yield play(KINDS[name], i, commands, unbroken, root, seed, bucket)


def render(outcomes: Sequence[Outcome], numbers: Mapping[str, int]) -> str:
  """Return the table of verdicts by kind."""
  header = ("fault", "done", *VERDICTS, "refused first", "s each")
  lines = []
  for name in (*numbers, "all"):
    of_kind = [outcome for outcome in outcomes if name in (outcome.kind, "all")]
    seconds = sum(outcome.seconds for outcome in of_kind) / max(1, len(of_kind))
    counts = [sum(outcome.verdict == verdict for outcome in of_kind) for verdict in VERDICTS]
    lines.append((name, len(of_kind), *counts, sum(outcome.refused_first for outcome in of_kind), f"{seconds:.1f}"))
  return "\n".join(f"{row[0]:<18}" + "".join(f"{value:>{max(8, len(title) + 2)}}"
                                            for title, value in zip(header[1:], row[1:], strict=True))
                   for row in (header, *lines))
