"""The times that a sampler visits, from noise to data: num_steps + 1 of them."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from gdm import checks
from gdm.diffusion.paths.path import NoisePath
from gdm.errors import ConfigError


@runtime_checkable
class TimeGrid(Protocol):
  """A choice of times."""

  def times(self, path: NoisePath, num_steps: int) -> Float[Array, " times"]:
    """num_steps + 1 falling times; a ConfigError if there is no step."""
    ...


@dataclasses.dataclass(frozen=True)
class UniformGrid:
  """Evenly spaced.

  Attributes:
    first: at the noise; None for the path's end.
    last: at the data; None for the path's end, 0 for no noise at all where the path starts without.
  """

  first: float | None = None
  last: float | None = None

  def times(self, path: NoisePath, num_steps: int) -> Float[Array, " times"]:
    checks.at_least("num_steps", num_steps, 1)
    last, first = path.ends
    return jnp.linspace(first if self.first is None else self.first, last if self.last is None else self.last,
                        num_steps + 1)


@dataclasses.dataclass(frozen=True)
class LogSNRGrid:
  """Evenly spaced in log-SNR between the path's ends (Lu et al., arXiv:2211.01095, section 6).

  Attributes:
    to_zero: whether the last step goes to t = 0 instead, all noise at once.
  """

  to_zero: bool = False

  def times(self, path: NoisePath, num_steps: int) -> Float[Array, " times"]:
    return _between(path, num_steps, self.to_zero, lambda start, end, rank: start + (end - start) * rank)


@dataclasses.dataclass(frozen=True)
class RhoGrid:
  """Evenly spaced in (sigma / alpha)^(1 / rho) (Karras et al., arXiv:2206.00364, equation 5), the last step to t = 0.

  Attributes:
    rho: 1 is even in sigma; the larger, the more steps are near the data.
    to_zero: whether the last step goes to t = 0; False of a path that has noise there.
  """

  rho: float = 7.0
  to_zero: bool = True

  def __post_init__(self) -> None:
    checks.positive("rho", self.rho, "(7 in the paper)")

  def times(self, path: NoisePath, num_steps: int) -> Float[Array, " times"]:
    def between(start, end, rank):
      low, high = jnp.exp(-0.5 * start / self.rho), jnp.exp(-0.5 * end / self.rho)
      return -2.0 * self.rho * jnp.log(low + (high - low) * rank)

    return _between(path, num_steps, self.to_zero, between)


def _between(path, num_steps, to_zero, between) -> Float[Array, " times"]:
  """Time of log-SNRs between the path's ends, whose own times are exact; and 0 after them."""
  checks.at_least("num_steps", num_steps, 1)
  last, first = path.ends
  num = num_steps if to_zero else num_steps + 1
  with jax.ensure_compile_time_eval():  # the ends of a path without parameters are known inside jax.jit too
    start, end = (path.log_snr(jnp.asarray(t)) for t in (first, last))
  for t, value in ((first, start), (last, end)):
    if num > 2 and not isinstance(value, Tracer) and not np.isfinite(value):
      raise ConfigError(f"the path's log-SNR is {value} at its end t = {t}, so that times cannot be spaced by it; "
                        "choose a uniform grid, or a path that ends before, as RectifiedFlow(margin=1e-5).")
  inner = path.time(between(start, end, jnp.arange(1, max(num - 1, 1)) / max(num - 1, 1)))
  return jnp.concatenate([jnp.asarray([first]), inner, jnp.asarray([last] * (num > 1) + [0.0] * to_zero)])
