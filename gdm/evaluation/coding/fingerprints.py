"""Digests of what must be the same when a file is decoded: the model, the machine, the examples."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Integer

from gdm.evaluation.coding.container import digest
from gdm.model import Carry, Params


def model_digest(settings: Mapping[str, Any], params: Params, carry: Carry) -> bytes:
  """Return the fingerprint of the model's settings, and of names, types, shapes and bytes of all its arrays."""
  lines = [json.dumps(settings, sort_keys=True, default=list)]
  for place, leaf in jax.tree_util.tree_leaves_with_path({"params": params, "carry": carry}):
    array = np.asarray(leaf, order="C")
    lines.append(f"{jax.tree_util.keystr(place)} {array.dtype.name} {array.shape} {digest(array.tobytes()).hex()}")
  return digest("\n".join(lines).encode())


def examples_digest(x: Integer[np.ndarray, "examples *event"],
                    length: Integer[np.ndarray, " examples"] | None = None) -> bytes:
  """Return the fingerprint of types, shapes and bytes of the examples and their lengths."""
  arrays = [x] if length is None else [x, length]
  return digest("\n".join(f"{a.dtype.str} {a.shape} {digest(np.ascontiguousarray(a).tobytes()).hex()}"
                          for a in arrays).encode())


def backend() -> tuple[bytes, str]:
  """Return a digest of all that the last bits of a float can depend on besides the program, and a name for people.

  On a CPU they depend on its vector instructions and on how many threads share a product of matrices.
  """
  device, config = jax.local_devices()[0], cast(Any, jax.config)
  facts = {
      "platform": [device.platform, device.device_kind, device.client.platform_version],
      "versions": [importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "constriction")],
      "processor": [platform.machine(), _processor(), _num_threads()],
      "settings": [os.environ.get(name, "") for name in ("XLA_FLAGS", "NVIDIA_TF32_OVERRIDE")],
      "precision": [str(config.jax_default_matmul_precision), bool(config.jax_enable_x64)],
  }
  return digest(json.dumps(facts, sort_keys=True).encode()), f"{device.device_kind}, jax {jax.__version__}"


def _num_threads() -> int:
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
  """Return Linux's description of the first core's model and instructions; elsewhere Python's."""
  try:
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
  except OSError:
    return platform.processor()
  return "\n".join(line for line in lines if line.split("\t")[0] in ("model name", "flags", "Features", "CPU part"))
