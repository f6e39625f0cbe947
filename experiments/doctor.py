"""Check this machine: versions, devices, XLA's flag, compiled programs against a reference, precision of products.

  python -m experiments.doctor          a few programs of each kind, about 20 seconds on an idle machine
  python -m experiments.doctor --all    every program at three sizes, minutes

Each program of gdm/selfcheck.py is compiled as a whole and compared with the same operations one at a time in float64.
Exits with 1 if anything fails, and says in words what to do.
"""

import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata

import jax
import numpy as np
from absl import flags

from experiments import cli
from gdm import compiler, selfcheck

SIZE, SIZES = 8192, (8, 256, 65536)
EXACT = 1e-5  # relative error of a product of float32 matrices, far below one in TF32 (5e-4) or bfloat16 (4e-3)

_ALL = flags.DEFINE_bool("all", False, "Run every program at three sizes instead of a few.")


def main() -> int:
  jax.config.update("jax_enable_compilation_cache", False)  # programs are to be compiled here and now
  start = time.monotonic()
  names = ("jax", "jaxlib", "flax", "numpy")
  print("versions  Python", platform.python_version(), *(f"{name} {metadata.version(name)}" for name in names))
  print(f"devices   {len(jax.devices())} x {jax.devices()[0].device_kind}")
  remedies = [*_flag(), *_programs(_ALL.value), *_precision()]
  print(f"{time.monotonic() - start:.0f} seconds")
  for remedy in remedies:
    print(f"\n{remedy}")
  return 1 if remedies else 0


def _flag() -> Iterator[str]:
  value = compiler.given(os.environ.get("XLA_FLAGS", ""))
  wrong = value not in compiler.RIGHT and jax.default_backend() == "cpu"
  print(f"{_verdict(wrong)}      {compiler.FLAG}{' is not set' if value is None else '='}")
  if value:
    print(f"{'':10}{value}")
  if wrong:
    yield f"XLA_FLAGS lacks the flag that keeps XLA right on CPUs: {compiler.REMEDY}."


def _programs(everything: bool) -> Iterator[str]:
  """Print a line for each program and its greatest error; yield what to do where one fails."""
  failed = 0
  for size in SIZES if everything else (SIZE,):
    for program in selfcheck.programs(size):
      if everything or program.name in selfcheck.SHORT:
        error = selfcheck.error(program)
        wrong = not error <= program.tolerance
        failed += wrong
        print(f"{_verdict(wrong)}      {f'{program.name}, {size}':<58.58} {error:9.1e}")
  if failed:
    yield (f"Programs compiled wrongly on this machine, with jaxlib {metadata.version('jaxlib')}: {failed}. Trust no "
           f"number computed with it. On a CPU, {compiler.REMEDY}; if that does not help, install another version: "
           f"pip install jax==0.10.2 jaxlib==0.10.2.")


def _precision() -> Iterator[str]:
  """Print the errors of a product of matrices at default and at highest precision; yield what to do."""
  a, b = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
  expected = a.astype(np.float64) @ b.astype(np.float64)
  for name in ("default", "highest"):
    product = jax.jit(lambda a, b, name=name: jax.numpy.matmul(a, b, precision=None if name == "default" else name))
    error = float(np.abs(np.asarray(product(a, b)) - expected).max() / np.abs(expected).max())
    wrong = name == "highest" and not error <= EXACT
    print(f"{_verdict(wrong)}      {f'float32 products at {name} precision':<58} {error:9.1e}")
    if wrong:
      yield ("Products of float32 matrices are rounded even at the highest precision: unset NVIDIA_TF32_OVERRIDE, and "
             "take likelihoods from another device where that does not help.")
    elif error > EXACT:
      print("          (as TPUs and newer GPUs have it: training is fast with it, likelihoods need the highest)")


def _verdict(wrong: bool) -> str:
  return "FAIL" if wrong else "PASS"


if __name__ == "__main__":
  cli.run(main, precise=False)  # which compares precisions
