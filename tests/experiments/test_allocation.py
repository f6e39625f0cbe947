"""Freed memory stays in the process: what is allocated again and again is not fetched from the system each time."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from experiments.allocation import keep_freed_memory
if sys.argv[1] == "kept":
  assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23)
before = faults()
for _ in range(5):
  np.ones(2**23)  # 64 MiB
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it speaks to glibc")
def test_memory_that_is_kept_is_not_fetched_again():
  fetched, kept = (int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True,
                                      check=True).stdout) for how in ("fetched", "kept"))
  assert kept < 0.05 * fetched
