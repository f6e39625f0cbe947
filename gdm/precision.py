"""Products of float32 numbers in float32, on every machine.

By default a TPU multiplies float32 matrices in one pass of bfloat16, and an NVIDIA GPU since Ampere in TF32: 8 and 11
bits of mantissa of 24. Training tolerates that, and is as configured (see gdm/training/precision.py). A number that is
reported, a decision to accept or reject, an inverse, and the error estimate of an ODE's solver do not. On a CPU both
are the same.
"""

import contextlib
from collections.abc import Iterator

import jax

HIGHEST = "highest"


@contextlib.contextmanager
def highest_precision() -> Iterator[None]:
  """Trace what is within, or the function that it decorates, with products of the highest precision.

  A product that names its own precision keeps it. Compiled functions are traced once for each precision.

  Example:

    with highest_precision():
      nats = model.log_likelihood(params, carry, batch, key).nats
  """
  with jax.default_matmul_precision(HIGHEST):
    yield
