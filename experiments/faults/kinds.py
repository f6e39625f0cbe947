"""The kinds of faults. Each does its fault to a scene and leaves a run that the same command must finish."""

import contextlib
import importlib.util
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiments.faults import bucket_kinds
from experiments.faults.injected import STALLED, VALIDATING
from experiments.faults.scene import Lost, Scene
from gdm.runs.exits import EXIT_BAD_INPUT, EXIT_RESUME_ME
from gdm.training import checkpoint

KILLED, TERMINATED = -signal.SIGKILL, -signal.SIGTERM
_FILE_BYTES = (1 << 13, 1 << 17)  # from what a run prints, which the limit holds for too, to its largest file
_DISK_BYTES = (1 << 14, 1 << 20)
_WATCHDOG_SECONDS = 30.0  # a run whose own watchdog takes longer is ended from outside
_GRACE_SECONDS = 2.0  # from SIGTERM to SIGKILL, as batch systems have it


def kill(scene: Scene) -> None:
  """SIGKILL at a moment drawn evenly from the run's duration."""
  running = scene.start()
  scene.sleep()
  scene.end(running.kill(), {KILLED, 0})


def kill_again_and_again(scene: Scene) -> None:
  """The same two to five times in a row."""
  for _ in range(scene.chance.randint(2, 5)):
    kill(scene)


def kill_in_save(scene: Scene) -> None:
  """SIGKILL while a checkpoint is being written, at some row of the log."""
  running, rows = scene.start(), scene.chance.randrange(scene.unbroken.num_rows)
  scene.until(running, lambda: scene.rows() >= rows)
  scene.until(running, scene.saving)
  time.sleep(scene.chance.uniform(0.0, 0.02) * scene.chance.randint(0, 1))  # half of them at its start
  scene.end(running.kill(), {KILLED, 0})


def terminate(scene: Scene) -> None:
  """SIGTERM at a moment drawn evenly from the run's duration: it says "resume me", or had no chance to say anything."""
  running = scene.start()
  scene.sleep()
  scene.end(running.kill(signal.SIGTERM), {EXIT_RESUME_ME, TERMINATED, 0})


def terminate_in_validation(scene: Scene) -> None:
  """SIGTERM inside a validation of seconds: the run ends within the grace period, and has saved that step."""
  running = scene.start(inject=f"validate@{scene.chance.randint(1, scene.unbroken.num_steps)}")
  if not scene.until(running, lambda: VALIDATING in running.out):
    scene.end(running, {0})  # there was none from that step on
    return
  time.sleep(scene.chance.uniform(0.0, 0.5))
  running.kill(signal.SIGTERM)
  if not running.ends_within(_GRACE_SECONDS):
    scene.end(running.kill(), ())
  result = scene.end(running, {EXIT_RESUME_ME})
  if "interrupted and saved at step" not in result.out:
    raise Lost(f"it ended with {result.out.splitlines()[-1:]}")


def flip(scene: Scene) -> None:
  """A flipped bit in any file of any checkpoint, after a kill."""
  def damage(contents: bytearray) -> bytearray:
    contents[scene.chance.randrange(len(contents))] ^= 1 << scene.chance.randrange(8)
    return contents

  _damage(scene, damage)


def truncate(scene: Scene) -> None:
  """Any file of any checkpoint cut short, after a kill."""
  _damage(scene, lambda contents: contents[:scene.chance.randrange(len(contents))])


def limit_files(scene: Scene) -> None:
  """No space left, as a limit on the size of each file."""
  scene.end(scene.start(limit=_log_uniform(scene, *_FILE_BYTES)), {EXIT_BAD_INPUT, 0})
  _require_good(scene)


@contextlib.contextmanager
def small_disk(scene: Scene) -> Iterator[None]:
  """No space left on a file system of the workdir's own, which is then enlarged."""
  scene.workdir.path.mkdir()
  _mount(f"size={_log_uniform(scene, *_DISK_BYTES) // 4096 * 4096}", scene.workdir.path)
  try:
    scene.end(scene.start(), {EXIT_BAD_INPUT, 0})
    _mount("remount,size=256m", scene.workdir.path)
    _require_good(scene)
    yield
  finally:
    subprocess.run(["umount", "--lazy", str(scene.workdir.path)], check=True)


def poison(scene: Scene) -> None:
  """Parameters that become NaN at a step, which must be named, and the last checkpoint kept."""
  step = scene.chance.randint(1, scene.unbroken.num_steps)
  result = scene.end(scene.start(inject=f"nan@{step}"), {EXIT_BAD_INPUT})
  good = checkpoint.newest_good_step(scene.workdir.checkpoints)
  kept = "no checkpoint was saved yet" if good is None else f"the last good checkpoint, step {good}, is kept"
  if f"at step {step}" not in result.err or kept not in result.err:
    raise Lost(f"NaN at step {step}, with checkpoint {good}, but it said {result.err!r}")
  if good is not None and good >= step:
    raise Lost(f"NaN at step {step}, but step {good} was saved")


def stall(scene: Scene) -> None:
  """A data source that never answers again, until the run's own watchdog or a batch system ends it."""
  running = scene.start(inject=f"stall@{scene.chance.randint(1, scene.unbroken.num_steps)}")
  if not scene.until(running, lambda: STALLED in running.out):
    scene.end(running, ())
  if 0.0 < scene.unbroken.stall_seconds <= _WATCHDOG_SECONDS:
    scene.end(running, {EXIT_RESUME_ME}, seconds=scene.unbroken.stall_seconds + _WATCHDOG_SECONDS)
    return
  time.sleep(scene.chance.uniform(0.0, 0.5))
  running.kill(signal.SIGTERM)
  if running.ends_within(_GRACE_SECONDS):
    scene.end(running, {EXIT_RESUME_ME, TERMINATED})
  else:
    scene.end(running.kill(), {KILLED})


def two_at_once(scene: Scene) -> None:
  """Two processes on one workdir: one refuses, and the other is not disturbed."""
  first = scene.start()
  scene.sleep(0.7)
  second = scene.start()
  results = [scene.end(running, {0, EXIT_BAD_INPUT}) for running in (first, second)]
  refused = [result for result in results if result.status == EXIT_BAD_INPUT]
  if len(refused) > 1:
    raise Lost("both refused")
  if refused and "is in use by another process" not in refused[0].err:
    raise Lost(f"refused with {refused[0].err!r}")
  if not refused and "is finished already" not in results[1].out + results[0].out:
    raise Lost("both trained")


def rename(scene: Scene) -> None:
  """The workdir renamed away under the run, and back when that has ended."""
  running, place = scene.start(), scene.workdir.path
  scene.until(running, place.exists)
  scene.sleep()
  away = place.with_name(place.name + ".away")
  with contextlib.suppress(FileNotFoundError):  # it gave up a workdir in which nothing was done yet
    place.rename(away)
  scene.end(running, {0, EXIT_BAD_INPUT, EXIT_RESUME_ME})
  if away.exists():
    if place.exists():  # what it made anew there
      place.rename(place.with_name(place.name + ".new"))
      scene.history.append("left a new folder at the old place")
    away.rename(place)
  _require_good(scene)


def make_read_only(scene: Scene) -> None:
  """Every folder of the workdir made read-only under the run, and writable again when that has ended."""
  running = scene.start()
  scene.until(running, scene.workdir.config.exists)
  scene.sleep()
  folders = [place for place in (scene.workdir.path, *scene.workdir.path.glob("*/")) if place.is_dir()]
  _protect(folders, True)
  try:
    scene.end(running, {0, EXIT_BAD_INPUT, EXIT_RESUME_ME})
  finally:
    _protect(folders, False)
  _require_good(scene)


class FaultKind(NamedTuple):
  """A kind of fault."""

  name: str
  share: float  # faults of this kind per kill asked for
  play: Callable[[Any], contextlib.AbstractContextManager[None] | None]
  damages: bool = False  # whether it can leave nothing to resume from, which the run must then say
  needs: Callable[[Path], bool] = lambda root: True  # whether this machine lets it be done
  in_bucket: bool = False  # whether the run is in a bucket


def _can_mount(root: Path) -> bool:
  """Return whether this process may mount a file system, below `root` and for a moment."""
  place = root / "mount"
  place.mkdir(exist_ok=True)
  try:
    _mount("size=64k", place)
    subprocess.run(["umount", str(place)], check=True)
  except (OSError, subprocess.CalledProcessError):
    return False
  finally:
    place.rmdir()
  return True


def _can_protect(root: Path) -> bool:
  """Return whether this process can take from itself the right to write."""
  place = root / "protected"
  place.mkdir(exist_ok=True)
  try:
    _protect([place], True)
    _protect([place], False)
  except (OSError, subprocess.CalledProcessError):
    return False
  finally:
    place.rmdir()
  return True


def _can_serve(root: Path) -> bool:
  """Return whether the packages for a bucket on this machine are installed."""
  del root
  return all(importlib.util.find_spec(name) is not None for name in ("moto", "s3fs", "boto3", "flask"))


def _in_bucket(name: str, share: float, play: Callable[[Any], None], damages: bool = False) -> FaultKind:
  return FaultKind(f"bucket: {name}", share, play, damages, _can_serve, in_bucket=True)


KINDS = {kind.name: kind for kind in (
    FaultKind("kill", 0.5, kill),
    FaultKind("kills in a row", 0.1, kill_again_and_again),
    FaultKind("kill in a save", 0.4, kill_in_save),
    FaultKind("SIGTERM", 0.2, terminate),
    FaultKind("SIGTERM in valid.", 0.1, terminate_in_validation),
    FaultKind("flipped bit", 0.3, flip, damages=True),
    FaultKind("truncated file", 0.1, truncate, damages=True),
    FaultKind("file size limit", 0.1, limit_files),
    FaultKind("full disk", 0.1, small_disk, needs=_can_mount),
    FaultKind("NaN", 0.1, poison),
    FaultKind("stalled data", 0.05, stall),
    FaultKind("two at once", 0.1, two_at_once),
    FaultKind("renamed workdir", 0.1, rename),
    FaultKind("read-only workdir", 0.1, make_read_only, needs=_can_protect),
    _in_bucket("kill", 0.1, bucket_kinds.kill),
    _in_bucket("kill in save", 0.1, bucket_kinds.kill_in_save),
    _in_bucket("SIGTERM", 0.1, bucket_kinds.terminate),
    _in_bucket("refuses", 0.15, bucket_kinds.refuse),
    _in_bucket("lease", 0.1, bucket_kinds.expire),
    _in_bucket("bit", 0.1, bucket_kinds.change, damages=True),
)}


def _damage(scene: Scene, damage: Callable[[bytearray], bytearray]) -> None:
  """Kills a run that has checkpoints and changes one of their files; the others must stay whole."""
  running, rows = scene.start(), scene.chance.randrange(scene.unbroken.num_rows - 1)
  scene.until(running, lambda: scene.sealed() and scene.rows() >= rows)
  scene.end(running.kill(), {KILLED, 0})
  scene.workdir.finished.unlink(missing_ok=True)
  folder = scene.chance.choice(scene.sealed())
  file = scene.chance.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size))
  before = file.read_bytes()
  file.write_bytes(damage(bytearray(before)))
  scene.history.append(f"damaged {file.relative_to(scene.workdir.path)}, of {len(before)} bytes")


def _require_good(scene: Scene) -> None:
  """Raise Lost where a checkpoint that was finished, and so has its manifest, does not match it."""
  if bad := set(scene.sealed()) - scene.good_steps():
    raise Lost(f"checkpoint {min(bad)} is damaged")


def _log_uniform(scene: Scene, low: int, high: int) -> int:
  return int(math.exp(scene.chance.uniform(math.log(low), math.log(high))))


def _protect(folders: list[Path], on: bool) -> None:
  """Take or gives back the right to make and rename files in the folders; root is held back by an attribute alone."""
  if os.geteuid():
    for place in folders:
      place.chmod(0o555 if on else 0o755)
  else:
    subprocess.run(["chattr", "+i" if on else "-i", *map(str, folders)], check=True, capture_output=True)


def _mount(options: str, place: Path) -> None:
  subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True, capture_output=True)
