"""Points of a sweep trained and scored: all of them, or the one that validates best."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gdm.errors import WorkdirError
from gdm.runs.exits import EXIT_RESUME_ME
from gdm.runs.sweep.grid import GridPoint
from gdm.runs.sweep.jobs import Job, caught_signals, run_jobs
from gdm.runs.sweep.space import Chosen, Proposals
from gdm.storage import is_url, local_copy


@dataclasses.dataclass(frozen=True)
class SweepPlace:
  """Where a sweep's runs are, and how they are run.

  Attributes:
    root: the folder of the workdirs; of one in a bucket the local copy.
    given: it as the user gave it, a folder or a URL.
    split: the split to score.
    at_once: runs at a time.
  """

  root: Path
  given: str
  split: str
  at_once: int = 1

  @property
  def workdirs(self) -> Path | str:
    """The folder of the workdirs as runs are given it: of one in a bucket its URL, not the local copy."""
    given = self.given.rstrip("/")
    return given if is_url(given) else self.root

  def make(self) -> None:
    """Make the folder. Raise WorkdirError where it cannot be made."""
    try:
      self.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise WorkdirError(f"--root is {str(self.root)!r}, which cannot be made: {error.strerror}; name another "
                         "folder.") from error

  def log(self, point: GridPoint) -> Path | None:
    """Return the file of a point's output; None where it goes to the terminal."""
    return self.root / f"{point.name}.log" if self.at_once > 1 else None


def scoring(points: Sequence[GridPoint], place: SweepPlace) -> tuple[list[Job], list[str]]:
  """Return jobs that train and score the points, and lines about those that are finished already."""
  jobs, done = [], []
  for number, point in enumerate(points, start=1):
    name, commands = f"{point.name} ({number}/{len(points)})", point.commands_left(place.split)
    if commands:
      jobs.append(Job(name, commands, place.log(point)))
    else:
      done.append(f"{name}: finished and scored already.")
  return jobs, done


def training(points: Sequence[GridPoint], place: SweepPlace, first: int = 1, total: int | None = None) -> list[Job]:
  """Return jobs that train the points which have no validation yet, counted from `first`, of `total`."""
  total = len(points) if total is None else total
  return [Job(f"{point.name} ({number}/{total})", point.commands_left("valid")[:1], place.log(point))
          for number, point in enumerate(points, start=first) if point.best_nats() is None]


def run_and_rank(jobs: Sequence[Job], place: SweepPlace) -> int:
  """Run the jobs, and then the leaderboard of all. Returns the exit code."""
  with caught_signals() as caught:
    code = run_jobs(jobs, place.at_once, caught)
    found = local_copy(place.workdirs, "--root")  # of a bucket, what is there by now
    reports = [*found.glob(f"*/likelihood_{place.split}.json"), *found.glob(f"*/labels_{place.split}.json")]
    if code == EXIT_RESUME_ME or not reports:
      return code
    ranking = (sys.executable, "-m", "experiments.leaderboard", str(place.workdirs), f"--split={place.split}",
               "--seeds")
    return max(code, run_jobs([Job("", (ranking,))], 1, caught))


def run_and_choose(points: Sequence[GridPoint], place: SweepPlace) -> int:
  """Train the points, and score the one that validated best. Returns the exit code."""
  place.make()
  with caught_signals() as caught:
    code = run_jobs(training(points, place), place.at_once, caught)
  return code if code == EXIT_RESUME_ME else max(code, score_best(points, place))


def run_proposals(proposals: Proposals, make: Callable[[Chosen], GridPoint], num: int, place: SweepPlace) -> int:
  """Train so many points as they are proposed, some at a time, and score the one that validated best.

  Args:
    proposals: proposes points, each from what the earlier ones came to.
    make: a point of what was chosen for it.
    num: how many.
    place: where.

  Returns:
    The exit code.
  """
  points, failed = [], 0
  while len(points) < num:
    asked = [proposals.next() for _ in range(min(place.at_once, num - len(points)))]
    several = [make(chosen) for _, chosen in asked]
    for point in several:
      point.require_own_workdir()
    place.make()
    with caught_signals() as caught:
      code = run_jobs(training(several, place, len(points) + 1, num), place.at_once, caught)
    if code == EXIT_RESUME_ME:
      return code
    failed = max(failed, code)
    for (trial, _), point in zip(asked, several, strict=True):
      proposals.tell(trial, point.best_nats())
    points += several
  return max(failed, score_best(points, place))


def score_best(points: Sequence[GridPoint], place: SweepPlace) -> int:
  """Score the point that validated best, and rank what was scored. Returns the exit code."""
  found = [(nats, point) for point in points if (nats := point.best_nats()) is not None]
  if not found:
    print("no run has a validation to choose by.", file=sys.stderr)
    return 1
  best_nats, best = max(found, key=lambda each: each[0])
  print(f"chosen on the validation split, among {len(found)}: {best.name} ({best_nats:.4f} nats)", flush=True)
  commands = best.commands_left(place.split)
  return run_and_rank([Job(best.name, commands)] if commands else [], dataclasses.replace(place, at_once=1))
