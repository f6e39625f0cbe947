"""A process's share of the machine's CPU and memory: threads, and freed memory, which it keeps.

The CPU backend allocates a program's temporary memory anew in each call. Above 32 MiB glibc takes it from the system
and gives it back each time, and touching it page by page again costs more than much of the arithmetic: an LSTM's
training step took 88 ms so, and 65 ms where the process keeps it (2 layers of 256, context 64, batch 32, one core).

Those programs run on threads of the backend's, and glibc gives each thread an arena made of heaps of at most 64 MiB:
what is larger would still come from the system anew. So all threads share one arena (a PixelCNN of 28x28 images
touched 167,000 pages in every step, and took 840 ms of one core, 580 ms without).
"""

import ctypes
import importlib.util
import os
import sys

# Parameters of malloc.h, the same in all versions of glibc, and their values in bytes; of arenas their number.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_PARAMETERS = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**28, _MMAP_THRESHOLD: 2**31 - 1, _ARENA_MAX: 1}


# What JAX runs on where it is installed.
_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin", "jax_rocm60_plugin", "libtpu")


def will_run_on_cpu() -> bool:
  """Return whether JAX will choose the CPU, as far as can be told before its backend starts."""
  chosen = os.environ.get("JAX_PLATFORMS", "")
  return chosen == "cpu" or not (chosen or any(importlib.util.find_spec(plugin) for plugin in _PLUGINS))


def limit_threads(num: int) -> None:
  """Give the CPU backend so many threads instead of one for each core; to be called before it starts.

  It shares even small products among all of them, where handing over costs more than it saves: a perceptron of 128
  units on a batch of 100 took a fifth less time with one thread than with two.
  """
  os.environ["NPROC"] = str(num)


def keep_freed_memory() -> bool:
  """Tell glibc not to give memory back to the system; False where there is another allocator.

  The process stays as large as it once was. For a program that does the same step again and again; to be called before
  the backend starts its threads.
  """
  if sys.platform != "linux":
    return False
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except AttributeError:  # another C library
    return False
  return all(mallopt(parameter, value) for parameter, value in _PARAMETERS.items())
