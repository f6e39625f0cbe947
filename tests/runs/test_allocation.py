"""Freed memory stays in the process: what is allocated again and again is not fetched from the system each time."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import numpy as np
from gdm.runs.allocation import keep_freed_memory
if sys.argv[1] == "kept":
  assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def work():
  np.ones(2**23)
  before = faults()
  for _ in range(5):
    np.ones(2**23)  # 64 MiB
  print(faults() - before)


if sys.argv[2] == "main":
  work()
else:
  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it speaks to glibc")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_memory_that_is_kept_is_not_fetched_again(where):
  fetched, kept = (int(subprocess.run([sys.executable, "-c", PROGRAM, how, where], capture_output=True, text=True,
                                      check=True).stdout) for how in ("fetched", "kept"))
  assert kept < 0.05 * fetched
