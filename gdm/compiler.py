"""XLA's compiler on CPUs: the flag without which it miscompiles sums and products, and a check that it does not.

jaxlib from 0.10.2 on hands parts of a program to a library (YNNPACK) that gets some of them wrong, without an error:

- a sum over products with an expm1 or log1p of each example, next to another such function: off by any factor, from a
  few thousand examples on, unless the library is kept from sums;
- a product with a matrix whose elements are all the same constant, `x @ jnp.zeros((64, 64))`: any number or NaN, when
  the library gets matrix products alone, fused with what is around them (the value `LIBRARY_FUSION_TYPE_DOT`).

With `VALUE` the library gets single matrix products and nothing around them; with an empty value it gets nothing. Both
kinds of programs are right under either, on every version in `TESTED`; `VALUE` is a tenth to a third quicker in
recurrent networks and transformers. XLA reads XLA_FLAGS once, when JAX starts its backends, and ends the process over a
flag that it does not know.
"""

import functools
import os
import re
import shlex
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path

FLAG = "--xla_cpu_experimental_ynn_fusion_type"
VALUE = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
RIGHT = "", VALUE  # the values under which every program tried is right
REMEDY = f"start Python with XLA_FLAGS={FLAG}={VALUE} , or `import gdm` before anything that computes with JAX"

# Versions of jaxlib [first, last) that know the flag, and on which the tests of this module passed with it.
# pyproject.toml allows no others.
TESTED = (0, 10), (0, 13)


class CompilerWarning(UserWarning):
  """Programs that this process compiles for the CPU can return wrong numbers."""


_left: str | None = None  # XLA_FLAGS as `prepare` left it, where that is known to be right


def prepare(stacklevel: int = 1) -> None:
  """Set the flag in XLA_FLAGS, unless it is there; `import gdm` calls this.

  Issues a CompilerWarning where the flag cannot help (JAX has started, and its sums are found to be wrong) or where the
  user gave it another value.
  """
  global _left
  if _started():
    # A flag set now would do nothing, and would be part of the key of each program in JAX's cache of compiled programs.
    check(stacklevel + 1)
    return
  flags, version = os.environ.get("XLA_FLAGS", ""), metadata.version("jaxlib")
  value = given(flags)
  if value is None and not TESTED[0] <= _numbers(version) < TESTED[1]:
    return  # `check` finds out
  if value is None and _is_file(flags):
    message = (f"XLA_FLAGS names a file, {flags!r}, that lacks {FLAG}={VALUE} : on CPUs, jaxlib {version} returns "
               f"wrong numbers for some sums. Add the line {FLAG}={VALUE} to it.")
    warnings.warn(message, CompilerWarning, stacklevel + 1)
  elif value is None:
    os.environ["XLA_FLAGS"] = _left = f"{flags} {FLAG}={VALUE}".strip()
  elif value not in RIGHT:
    message = (f"XLA_FLAGS sets {FLAG}={value} : on CPUs, jaxlib {version} returns wrong numbers for some sums or "
               f"products unless it is {VALUE} or empty. Set {FLAG}={VALUE} or leave it out; `import gdm` sets it.")
    warnings.warn(message, CompilerWarning, stacklevel + 1)
  else:
    _left = flags


def check(stacklevel: int = 1) -> None:
  """Issue a CompilerWarning if this process miscompiles; starts JAX's backends.

  Costs nothing where XLA_FLAGS is as `prepare` left it; elsewhere, two small programs are compiled and run, once.
  """
  if _left is not None and os.environ.get("XLA_FLAGS") == _left:
    return
  wrong = miscompiled()
  if wrong:
    message = (f"this process compiles some {' and '.join(wrong)} wrongly: jaxlib {metadata.version('jaxlib')} on a "
               f"CPU returns wrong numbers without an error, since JAX started without the flag that prevents it "
               f"(whatever XLA_FLAGS is now). Trust no number of this process; {REMEDY}.")
    warnings.warn(message, CompilerWarning, stacklevel + 1)


def given(flags: str) -> str | None:
  """Return the value that XLA_FLAGS gives to the flag, the last one where there are several; None without one."""
  if _is_file(flags):
    try:
      flags = Path(flags).read_text()
    except (OSError, UnicodeDecodeError):
      return None  # XLA will say so
  try:
    words = shlex.split(flags)
  except ValueError:  # a quote without its end
    words = flags.split()
  values = [word.partition("=")[2] for word in words if re.match(rf"{FLAG}(=|$)", word)]
  return values[-1].strip() if values else None


@functools.cache
def miscompiled() -> tuple[str, ...]:
  """Return which of "sums" and "products" this process compiles wrongly for the CPU; starts JAX's backends.

  Empty where the default device is no CPU. Costs a few tenths of a second.
  """
  import jax
  import jax.numpy as jnp
  import numpy as np

  if jax.default_backend() != "cpu":
    return ()
  cpu = jax.local_devices(backend="cpu")[0]
  # A number that no other process has, so that each program is compiled here and not read from the cache of programs.
  unique = np.float32(1 + time.time_ns() % 100_000 / 1e6)
  t, noise = np.linspace(0, 1, 65536), np.random.default_rng(0).normal(size=(65536, 2))
  x = np.random.default_rng(1).normal(size=(8, 64))

  def sums(t, noise, xp):
    return xp.expm1(unique * t) * xp.sum(noise * xp.expm1(-t)[:, None], axis=-1)

  def products(x, xp):
    return x @ xp.full((64, 64), unique, x.dtype)

  programs = {"sums": (sums, (t, noise)), "products": (products, (x,))}
  wrong = []
  with (jax.ensure_compile_time_eval(), jax.default_device(cpu), jax.debug_nans(False), jax.disable_jit(False),
        jax.default_matmul_precision("highest"), jax.transfer_guard("allow")):
    for name, (function, arguments) in programs.items():
      compiled = jax.jit(lambda *arguments, function=function: function(*arguments, jnp))
      found = np.asarray(compiled(*map(np.float32, arguments)))
      if not np.allclose(found, function(*arguments, np), rtol=1e-3, atol=1e-3):
        wrong.append(name)
  return tuple(wrong)


def _started() -> bool:
  """Return whether JAX has started its backends. From then on it refuses another number of CPU devices."""
  jax = sys.modules.get("jax")
  if jax is None:
    return False
  devices = jax.config.jax_num_cpu_devices
  try:
    jax.config.update("jax_num_cpu_devices", devices + 1)
  except RuntimeError:
    return True
  jax.config.update("jax_num_cpu_devices", devices)
  return False


def _is_file(flags: str) -> bool:
  """Return whether XLA takes XLA_FLAGS for the name of a file that holds the flags."""
  return bool(flags.strip()) and not flags.strip().startswith("--")


def _numbers(version: str) -> tuple[int, ...]:
  return tuple(int(number) for number in re.findall(r"\d+", version)[:2])

