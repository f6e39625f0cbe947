"""Products of float32 numbers in float32, on every machine.

By default a TPU multiplies float32 matrices in one pass of bfloat16, and an NVIDIA GPU since Ampere in TF32: 8 and 11
bits of mantissa of 24. Training tolerates that, and is as configured (see gdm/training/precision.py). A number that is
reported, a decision to accept or reject, an inverse, and the error estimate of an ODE's solver do not. On a CPU both
are the same.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")
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


def at_highest_precision(function: Callable[P, T]) -> Callable[P, T]:
  """Return a function that computes with products of the highest precision; one that yields does so for each item.

  What takes the items computes as it did: the precision is set while the function runs, and not between its items.

  Example:

    @at_highest_precision
    def score_split(run, split): ...
  """
  if not inspect.isgeneratorfunction(function):
    return highest_precision()(function)

  @functools.wraps(function)
  def items(*args: P.args, **kwargs: P.kwargs) -> Any:
    generator = function(*args, **kwargs)
    while True:
      with highest_precision():
        try:
          item = next(generator)
        except StopIteration as stop:
          return stop.value
      yield item

  return items
