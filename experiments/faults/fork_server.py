"""A process that has imported everything and forks one child per command: a start costs milliseconds, not seconds.

  {"module": "experiments.train", "args": [...], "out": path, "env": {...}, "limit": bytes}  ->  {"pid": ...}
  {"wait": pid, "seconds": ...}         ->  {"status": exit code, or -signal, or null where it still runs after that}

one JSON object per line. A child runs the module as `python -m` would, in a session of its own, and writes
where its threads are to stderr when it gets SIGUSR1.
"""

import contextlib
import faulthandler
import json
import os
import resource
import runpy
import signal
import sys
import time
import traceback

import jax

from gdm import compiler

_POLL_SECONDS = 0.005


def _child(order: dict) -> None:
  os.setsid()
  for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
    stream.flush()
    os.dup2(os.open(f"{order['out']}.{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  faulthandler.register(signal.SIGUSR1)  # so that a run that hangs can be asked where
  os.environ.update(order["env"])
  sys.path[1:1] = [each for each in order["env"].get("PYTHONPATH", "").split(os.pathsep) if each]
  compiler.prepare()  # as `import gdm` does in a process that starts with this environment
  if order["limit"] is not None:
    jax.config.update("jax_enable_compilation_cache", False)  # or part of an entry is left to other runs
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
  sys.argv = [order["module"], *order["args"]]
  code = 1
  try:
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
    code = 0
  except SystemExit as stop:
    code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
  except BaseException:
    traceback.print_exc()
  sys.stdout.flush()
  sys.stderr.flush()
  _exit(code)


def _exit(code: int) -> None:
  """As the interpreter ends: exit handlers run, so that what they would print or hang on is seen."""
  import atexit
  import threading
  threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
  atexit._run_exitfuncs()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _wait(pid: int, seconds: float | None) -> int | None:
  """Return the status of a child, None where it has not ended in time."""
  if seconds is None:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
  end = time.monotonic() + seconds
  while True:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
      return os.waitstatus_to_exitcode(status)
    if time.monotonic() > end:
      return None
    time.sleep(_POLL_SECONDS)


def main() -> None:
  # Everything that takes time to import; none of it may start a backend or a thread.
  import matplotlib.pyplot  # noqa: F401
  import orbax.checkpoint  # noqa: F401
  import scipy.special  # noqa: F401
  import sklearn.datasets  # noqa: F401
  import tensorboardX  # noqa: F401

  import gdm.runs.plotting
  import gdm.runs.run  # noqa: F401
  with contextlib.suppress(ImportError):
    import s3fs  # noqa: F401
  for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
      answer = {"status": _wait(order["wait"], order.get("seconds"))}
    else:
      pid = os.fork()
      if pid == 0:
        _child(order)
      answer = {"pid": pid}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main()
