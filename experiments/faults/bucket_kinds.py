"""The kinds of faults to runs in a bucket."""

import signal
import time

from experiments.faults.bucket_scene import BucketScene
from experiments.faults.scene import Lost
from gdm.runs.exits import EXIT_BAD_INPUT, EXIT_RESUME_ME

_KILLED, _TERMINATED = -signal.SIGKILL, -signal.SIGTERM
_STATUSES = ("503 Slow Down", "500 Internal Server Error", "403 Forbidden")
_REFUSED_SECONDS = (0.5, 8.0)


def kill(scene: BucketScene) -> None:
  """SIGKILL at a moment drawn evenly from 1.5 times what an unbroken run in a folder takes."""
  running = scene.start()
  scene.sleep(1.5)
  scene.end(running.kill(), {_KILLED, 0})


def kill_in_save(scene: BucketScene) -> None:
  """SIGKILL while the files of a checkpoint are being sent."""
  running = scene.start()
  scene.until(running, scene.in_bucket)
  scene.sleep()
  scene.until(running, scene.saving)
  scene.end(running.kill(), {_KILLED, 0})


def terminate(scene: BucketScene) -> None:
  """SIGTERM at such a moment."""
  running = scene.start()
  scene.sleep(1.5)
  scene.end(running.kill(signal.SIGTERM), {EXIT_RESUME_ME, _TERMINATED, 0})


def refuse(scene: BucketScene) -> None:
  """The bucket refuses every write for some seconds; the run waits for it and ends as ever, or is killed meanwhile."""
  running = scene.start()
  scene.until(running, scene.in_bucket)
  scene.sleep(1.5)
  killed = scene.chance.random() < 0.3
  with scene.bucket.refusing(scene.chance.choice(_STATUSES)):
    time.sleep(scene.chance.uniform(*_REFUSED_SECONDS))
    if killed:
      running.kill()
  scene.end(running, {_KILLED, 0} if killed else {0})


def expire(scene: BucketScene) -> None:
  """A run that is stopped until another takes its lease, and then goes on: it must notice, and write nothing."""
  first = scene.start()
  scene.until(first, scene.in_bucket)
  scene.sleep()
  first.kill(signal.SIGSTOP)
  second = scene.start()
  if not scene.until(second, lambda: "resuming from step" in second.out or "parameters." in second.out):
    first.kill(signal.SIGCONT)
    scene.end(second, {0})  # the first had finished already
    scene.end(first, {0})
    return
  scene.sleep(0.3)
  first.kill(signal.SIGCONT)
  result = scene.end(first, {EXIT_BAD_INPUT, 0}, seconds=scene.limit_seconds)
  if result.status == EXIT_BAD_INPUT and "was taken over by another process" not in result.err:
    raise Lost(f"it lost its lease, and said {result.err!r}")
  scene.end(second, {0})


def change(scene: BucketScene) -> None:
  """A flipped bit in any object of any checkpoint, after a kill."""
  running = scene.start()
  scene.until(running, scene.in_bucket)
  scene.sleep(1.5)
  scene.end(running.kill(), {_KILLED, 0})
  scene.store.delete(["finished.json"])
  names = sorted(name for name, size in scene.store.list().items()
                 if size and name.split("/")[0] in ("checkpoints", "best"))
  if not names:
    return
  name = scene.chance.choice(names)
  contents = bytearray(scene.store.read(name) or b"")
  contents[scene.chance.randrange(len(contents))] ^= 1 << scene.chance.randrange(8)
  scene.store.write(name, bytes(contents))
  scene.history.append(f"damaged {name}, of {len(contents)} bytes")
