"""A process that has imported everything and forks one child per command: a start costs milliseconds, not seconds.

  {"module": "experiments.train", "args": [...], "out": path, "env": {...}, "limit": bytes}  ->  {"pid": ...}
  {"wait": pid}                                                              ->  {"status": exit code, or -signal}

one JSON object per line. A child runs the module as `python -m` would, in a session of its own.
"""

import json
import os
import resource
import runpy
import sys
import traceback

import jax


def _child(order: dict) -> None:
  os.setsid()
  for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
    stream.flush()
    os.dup2(os.open(f"{order['out']}.{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  os.environ.update(order["env"])
  if order["limit"] is not None:
    jax.config.update("jax_enable_compilation_cache", False)  # or part of an entry is left to other tests
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
  threading._shutdown()
  atexit._run_exitfuncs()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def main() -> None:
  # Everything that takes time to import; none of it may start a backend or a thread.
  import matplotlib.pyplot  # noqa: F401
  import orbax.checkpoint  # noqa: F401
  import scipy.special  # noqa: F401
  import sklearn.datasets  # noqa: F401
  import tensorboardX  # noqa: F401

  import experiments.pictures
  import experiments.run  # noqa: F401
  for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
      _, status = os.waitpid(order["wait"], 0)
      answer = {"status": os.waitstatus_to_exitcode(status)}
    else:
      pid = os.fork()
      if pid == 0:
        _child(order)
      answer = {"pid": pid}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main()
