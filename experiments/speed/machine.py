"""Description of the machine of a benchmark."""

import importlib.metadata
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "grain", "orbax-checkpoint")


def describe() -> dict[str, Any]:
  """CPU, devices, memory and versions, as plain values."""
  return {
      "cpu": _cpu_model(),
      "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
      "memory_gib": _memory_gib(),
      "platform": platform.platform(),
      "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
      "backend": jax.default_backend(),
      "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
      "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
  }


def peak_mebibytes(who: int = resource.RUSAGE_SELF) -> float:
  """Return the most resident memory that this process, or (RUSAGE_CHILDREN) the largest it waited for, ever had."""
  peak = resource.getrusage(who).ru_maxrss  # kibibytes; bytes on macOS
  return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _cpu_model() -> str:
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = []
  names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
  try:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
  except (ValueError, OSError, AttributeError):
    return None
