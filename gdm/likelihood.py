"""A log-likelihood and what kind of number it is.

A `LogLikelihood` is always about the data as served: log probability mass of integers in [0, levels), log density of
continuous data. How a model gets from integers to reals is inside the model, with its Jacobian; nobody adds a constant
afterwards, and bits/dim is `-nats / (num_dims * log 2)`.
"""

import dataclasses
import enum
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from gdm.errors import NotFiniteError


class Kind(enum.StrEnum):
  """How a reported number relates to the true log-likelihood."""

  EXACT = "exact"
  LOWER_BOUND = "lower_bound"  # ELBO, importance weighting, dequantization; in expectation over its draws
  UPPER_BOUND = "upper_bound"  # minus a log Z that annealed importance sampling under-estimates; in expectation
  ESTIMATE = "estimate"  # neither side is known: stochastic trace, ODE tolerance, MCMC

  def __add__(self, other: "Kind") -> "Kind":  # type: ignore[override]
    """The kind of a sum of two terms: exact is neutral, unlike bounds make an estimate."""
    if self is Kind.EXACT:
      return other
    if other is Kind.EXACT or self is other:
      return self
    return Kind.ESTIMATE

  def __neg__(self) -> "Kind":
    """The kind of the negated term: bounds change sides."""
    flipped = {Kind.LOWER_BOUND: Kind.UPPER_BOUND, Kind.UPPER_BOUND: Kind.LOWER_BOUND}
    return flipped.get(self, self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LogLikelihood:
  """Log-likelihood of each example of a batch, in nats.

  Attributes:
    nats: log p(x) of each example, natural logarithm.
    num_dims: dimensions of each example (tokens of a sequence), the divisor of bits/dim.
    kind: exact, a bound, or an estimate.
    given: names of the batch entries it is conditional on; () is log p(x), ("y",) is log p(x | y).
    details: what else is known of each example, by name: a bound's parts in nats, a solver's evaluations. Reports give
      their means, and an error about an example its own.
  """

  nats: Float[Array, " batch"]
  num_dims: Int[Array, " batch"]
  kind: Kind = dataclasses.field(metadata={"static": True})
  given: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
  details: Mapping[str, Float[Array, " batch"]] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, nats: Float[Array, " batch"], num_dims: int, kind: Kind = Kind.EXACT, given: tuple[str, ...] = (),
         details: Mapping[str, Float[Array, " batch"]] | None = None) -> "LogLikelihood":
    """A LogLikelihood whose examples all have `num_dims` dimensions."""
    return cls(nats, jnp.full(nats.shape, num_dims, jnp.int32), kind, given, details or {})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LogNormalizer:
  """An estimate of log Z in nats, its standard error, and its kind (a bound on log Z, not on log p)."""

  nats: Float[Array, ""]
  stderr: Float[Array, ""]
  kind: Kind = dataclasses.field(metadata={"static": True})


def bits_per_dim(nats: Num[Array, "*shape"] | float, num_dims: Num[Array, "*shape"] | int):
  """Bits per dimension of a log-likelihood in nats: `-nats / (num_dims * log 2)`."""
  return -nats / (num_dims * math.log(2.0))


def require_finite(nats, first_index: int = 0, what: str = "log-likelihood", details=None) -> None:
  """Raises NotFiniteError naming the first example whose value is NaN or infinite; `nats` is a host array [B].

  `details`, name -> [B], say more about that example.
  """
  for offset, value in enumerate(nats):
    if not math.isfinite(value):
      more = ", ".join(f"{name} {values[offset]:g}" for name, values in (details or {}).items())
      raise NotFiniteError(f"{what} of example {first_index + offset} is {value}; it must be finite"
                           + (f" ({more})." if more else "."))
