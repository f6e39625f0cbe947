"""The machine checked: versions, devices, XLA's flag, compiled programs against a reference, precision of products."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata

import jax
import numpy as np

from gdm import compiler, selfcheck

SIZE, SIZES = 8192, (8, 256, 65536)
EXACT = 1e-5  # relative error of a product of float32 matrices, far below one in TF32 (5e-4) or bfloat16 (4e-3)

Tell = Callable[[str], object]  # takes a line


def check_machine(everything: bool = False, tell: Tell = print) -> list[str]:
  """Check this machine, and return what to do about each fault; [] where all is right.

  Programs are compiled here and now: JAX's cache of compiled programs is off from then on.

  Args:
    everything: whether every program of `gdm.selfcheck` is run at three sizes, in place of a few.
    tell: takes a line about each check.
  """
  jax.config.update("jax_enable_compilation_cache", False)
  start = time.monotonic()
  names = ("jax", "jaxlib", "flax", "numpy")
  versions = " ".join(f"{name} {metadata.version(name)}" for name in names)
  tell(f"versions  Python {platform.python_version()} {versions}")
  tell(f"devices   {len(jax.devices())} x {jax.devices()[0].device_kind}")
  remedies = [*_flag(tell), *_programs(everything, tell), *_precision(tell)]
  tell(f"{time.monotonic() - start:.0f} seconds")
  return remedies


def _flag(tell: Tell) -> Iterator[str]:
  value = compiler.given(os.environ.get("XLA_FLAGS", ""))
  wrong = value not in compiler.RIGHT and jax.default_backend() == "cpu"
  tell(f"{_verdict(wrong)}      {compiler.FLAG}{' is not set' if value is None else '='}")
  if value:
    tell(f"{'':10}{value}")
  if wrong:
    yield f"XLA_FLAGS lacks the flag that keeps XLA right on CPUs: {compiler.REMEDY}."


def _programs(everything: bool, tell: Tell) -> Iterator[str]:
  """Tell a line for each program with its greatest error; yield what to do where one fails."""
  failed = 0
  for size in SIZES if everything else (SIZE,):
    for program in selfcheck.programs(size):
      if everything or program.name in selfcheck.SHORT:
        error = selfcheck.error(program)
        wrong = not error <= program.tolerance
        failed += wrong
        tell(f"{_verdict(wrong)}      {f'{program.name}, {size}':<58.58} {error:9.1e}")
  if failed:
    yield (f"Programs compiled wrongly on this machine, with jaxlib {metadata.version('jaxlib')}: {failed}. Trust no "
           f"number computed with it. On a CPU, {compiler.REMEDY}; if that does not help, install another version: "
           f"pip install jax==0.10.2 jaxlib==0.10.2.")


def _precision(tell: Tell) -> Iterator[str]:
  """Tell the errors of a product of matrices at default and at highest precision; yield what to do."""
  a, b = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
  expected = a.astype(np.float64) @ b.astype(np.float64)
  for name in ("default", "highest"):
    product = jax.jit(lambda a, b, name=name: jax.numpy.matmul(a, b, precision=None if name == "default" else name))
    error = float(np.abs(np.asarray(product(a, b)) - expected).max() / np.abs(expected).max())
    wrong = name == "highest" and not error <= EXACT
    tell(f"{_verdict(wrong)}      {f'float32 products at {name} precision':<58} {error:9.1e}")
    if wrong:
      yield ("Products of float32 matrices are rounded even at the highest precision: unset NVIDIA_TF32_OVERRIDE, and "
             "take likelihoods from another device where that does not help.")
    elif error > EXACT:
      tell("          (as TPUs and newer GPUs have it: training is fast with it, likelihoods need the highest)")


def _verdict(wrong: bool) -> str:
  return "FAIL" if wrong else "PASS"
