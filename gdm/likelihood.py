"""A log-likelihood and what kind of number it is.

A `LogLikelihood` is always about the data as served: log probability mass of integers in [0, levels), log density of
continuous data. How a model gets from integers to reals is inside the model, with its Jacobian; nobody adds a constant
afterwards, and bits/dim is `-nats / (num_dims * log 2)`.
"""

import dataclasses
import enum
import functools
import math
import operator
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Num

from gdm.errors import NotFiniteError, SpecError

# Nats by which an exact number may be wrong numerically, by a grid say; beyond them it counts as an estimate.
MAX_EXACT_ERROR = 0.01


class Kind(enum.StrEnum):
  """The relation of a reported number to the true log-likelihood."""

  EXACT = "exact"
  LOWER_BOUND = "lower_bound"  # ELBO, importance weighting, dequantization; in expectation over its draws
  UPPER_BOUND = "upper_bound"  # minus a log Z that annealed importance sampling under-estimates; in expectation
  ESTIMATE = "estimate"  # neither side is known: stochastic trace, ODE tolerance, MCMC
  # A lower bound for another distribution, the one that the model's annealed sampler draws from (RAISE): it may lie
  # above the model's own log p, so that it is no bound of it.
  SAMPLER_BOUND = "lower_bound_of_sampler"

  def __add__(self, other: "Kind") -> "Kind":  # type: ignore[override]
    """Return the kind of a sum of two terms: exact is neutral, unlike bounds make an estimate."""
    if self is Kind.EXACT:
      return other
    if other is Kind.EXACT or self is other:
      return self
    return Kind.SAMPLER_BOUND if {self, other} == {Kind.LOWER_BOUND, Kind.SAMPLER_BOUND} else Kind.ESTIMATE

  def __neg__(self) -> "Kind":
    """Return the kind of the negated term: bounds change sides."""
    flipped = {Kind.LOWER_BOUND: Kind.UPPER_BOUND, Kind.UPPER_BOUND: Kind.LOWER_BOUND}
    return flipped.get(self, self)

  def within(self, error: float) -> "Kind":
    """Return the kind that a number has whose numerical error is `error` nats: what is exact needs a small one.

    Kinds are static and errors are computed, so that this is asked once numbers are on the host.
    """
    return self if self is not Kind.EXACT or error <= MAX_EXACT_ERROR else Kind.ESTIMATE


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
    unbiased: whether the expectation of exp(nats), over draws, is at most p(x): importance-weighted bounds and
      dequantization are, a diffusion bound is not, since its noise lifts the exponential. Exact numbers always are.
    error: how far each number may be off numerically, in nats, by a grid say; None for none. Where it is above
      MAX_EXACT_ERROR, what is called exact counts as an estimate.
  """

  nats: Float[Array, " batch"]
  num_dims: Int[Array, " batch"]
  kind: Kind = dataclasses.field(metadata={"static": True})
  given: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
  details: Mapping[str, Float[Array, " batch"]] = dataclasses.field(default_factory=dict)
  unbiased: bool = dataclasses.field(default=False, metadata={"static": True})
  error: Float[Array, " batch"] | None = None

  @classmethod
  def of(cls, nats: Float[Array, " batch"], num_dims: int, kind: Kind = Kind.EXACT, given: tuple[str, ...] = (),
         details: Mapping[str, Float[Array, " batch"]] | None = None, unbiased: bool = False) -> "LogLikelihood":
    """Return a LogLikelihood whose examples all have `num_dims` dimensions."""
    return cls(nats, jnp.full(nats.shape, num_dims, jnp.int32), kind, given, details or {}, unbiased)

  @property
  def is_mixable(self) -> bool:
    """Whether the logarithm of a sum of such terms is again a bound, or exact."""
    return self.kind is Kind.EXACT or (self.unbiased and self.kind in (Kind.LOWER_BOUND, Kind.SAMPLER_BOUND))


def mix(parts: Sequence[LogLikelihood], log_weights: Float[Array | np.ndarray, " parts"]) -> LogLikelihood:
  """Return the log-likelihood of a mixture, log sum_k exp(log_weights[k] + nats_k), with the kind that it has then.

  A sum of exact numbers is exact. A sum of bounds whose exponentials are unbiased is a bound, by Jensen's inequality:
  E[log sum w_k e^nats_k] <= log sum w_k E[e^nats_k]. Of any other noisy number the exponential is lifted by the noise,
  so that the sum is an estimate, above the truth as easily as below it. One part alone is no sum, and keeps its kind.

  Args:
    parts: of the same examples, all given the same.
    log_weights: of each part, in nats.

  Returns:
    The mixture's log-likelihood, the same in any order of the parts; NaN for an example whose dimensions they count
    differently, as where one part takes padding for data.

  Raises:
    SpecError: the parts are conditional on different things, or are seen to count the dimensions of an example
      differently.
  """
  given = sorted({part.given for part in parts})
  if len(given) > 1:
    raise SpecError(f"a mixture needs parts that are conditional on the same; given is {given}.")
  nats = jax.nn.logsumexp(jnp.stack([part.nats for part in parts]) + jnp.asarray(log_weights)[:, None], axis=0)
  mixable = all(part.is_mixable for part in parts)
  keeps = mixable or len(parts) == 1
  kind = functools.reduce(operator.add, (part.kind for part in parts)) if keeps else Kind.ESTIMATE
  # A logarithm of a sum is off by no more than its worst term.
  errors = [part.error for part in parts if part.error is not None]
  error = functools.reduce(jnp.maximum, errors) if errors else None
  num_dims = jnp.stack([part.num_dims for part in parts])
  alike = jnp.all(num_dims == num_dims[0], axis=0)
  if not isinstance(alike, Tracer) and not bool(jnp.all(alike)):
    index = int(jnp.argmin(alike))
    raise SpecError(f"a mixture needs parts that count the same dimensions, but of example {index} they count "
                    f"{', '.join(map(str, num_dims[:, index].tolist()))}; one takes padding for data.")
  return LogLikelihood(jnp.where(alike, nats, jnp.nan), jnp.max(num_dims, axis=0), kind, given[0], unbiased=mixable,
                       error=error)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LogNormalizer:
  """The logarithm of a partition function.

  Attributes:
    nats: log Z.
    stderr: its standard error, in nats; of an exact number its numerical error. Where that is above MAX_EXACT_ERROR,
      what is called exact counts as an estimate.
    kind: exact, a bound of log Z (not of log p), or an estimate.
    interval: lower and upper end of a 95 % interval for log Z, which need not lie evenly about `nats`; None is `nats`
      plus or minus 1.96 standard errors.
    effective_sample_size: how many chains of equal weight would be as good; None where there are no chains.
    missed: share of Z, in [0, 1], in states that annealing from the model's base never reaches and that were found from
      elsewhere; None where nothing was looked for.
    acceptance: the least share of moves that annealing accepted at any temperature; None where none can be rejected.
  """

  nats: Float[Array, ""]
  stderr: Float[Array, ""]
  kind: Kind = dataclasses.field(metadata={"static": True})
  interval: Float[Array, "2"] | None = None
  effective_sample_size: Float[Array, ""] | None = None
  missed: Float[Array, ""] | None = None
  acceptance: Float[Array, ""] | None = None


def bits_per_dim(nats: Num[Array, "*shape"] | float, num_dims: Num[Array, "*shape"] | int):
  """Bits per dimension of a log-likelihood in nats: `-nats / (num_dims * log 2)`."""
  return -nats / (num_dims * math.log(2.0))


def require_finite(nats, first_index: int = 0, what: str = "log-likelihood", details=None) -> None:
  """Raise NotFiniteError naming the first example whose value is NaN or infinite; `nats` is a host array [B].

  `details`, name -> [B], say more about that example.
  """
  for offset, value in enumerate(nats):
    if not math.isfinite(value):
      more = ", ".join(f"{name} {values[offset]:g}" for name, values in (details or {}).items())
      raise NotFiniteError(f"{what} of example {first_index + offset} is {value}; it must be finite"
                           + (f" ({more})." if more else "."))
