"""Which kind of device programs are traced for: the process's own, unless a check asks for another.

Code that is written differently for CPUs and for accelerators asks `backend()` here and not JAX, so that a machine
without an accelerator can trace, export and compile what one would run (gdm/studies/accelerators.py).
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_target: contextvars.ContextVar[str] = contextvars.ContextVar("target", default="")


def backend() -> str:
  """Return "cpu", "gpu" or "tpu": the kind of device that is traced for."""
  return _target.get() or jax.default_backend()


@contextlib.contextmanager
def tracing_for(kind: str) -> Iterator[None]:
  """Trace for another kind of device: "cpu", "gpu" or "tpu".

  What JAX traced before is forgotten at both ends, since its caches don't know the kind.
  """
  jax.clear_caches()
  token = _target.set(kind)
  try:
    yield
  finally:
    _target.reset(token)
    jax.clear_caches()
