"""Every dimension on its own: categorical (Bernoulli for two levels) for discrete data, Gaussian for continuous."""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from gdm.baselines import examples, tables
from gdm.baselines.solved import Solved
from gdm.dataspec import DataSpec
from gdm.distributions import categorical
from gdm.distributions.moments import variance_of_fit
from gdm.errors import SpecError
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Params, PyTree, Samples


@dataclasses.dataclass(frozen=True)
class Independent(Solved):
  """p(x) = prod_d p(x_d), each factor by its empirical frequencies or moments.

  Attributes:
    spec: any data.
    alpha: Dirichlet pseudo-count of each level (1 is Laplace's rule); discrete data.
    variance_floor: variance of a dimension whose values are all equal, in the data's own squared units; continuous
      data.
  """

  spec: DataSpec
  alpha: float = 1.0
  variance_floor: float = 1e-6

  def __post_init__(self) -> None:
    tables.require_alpha(self.alpha)
    if not self.spec.is_discrete:
      self.spec.require_whole("Independent")
    if not self.variance_floor > 0:
      raise SpecError(f"model.variance_floor is {self.variance_floor}; it must be above 0.")

  @property
  def _law(self) -> "_Categorical | _Gaussian":
    return _Categorical(self.spec, self.alpha) if self.spec.is_discrete else _Gaussian(self.spec, self.variance_floor)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Uniform, or standard normal."""
    return {"model": self._law.init()}, {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report=None) -> tuple[Params, Carry]:
    """Smoothed frequencies in one pass, or moments in two."""
    return {"model": self._law.solve(batches)}, {}

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact log p(x) in nats."""
    x = examples.flat(self.spec, batch)
    return examples.exact_of_real(self.spec, batch, self._law.log_prob(params["model"], x))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw [num, *event]; `temperature` divides each dimension's log-probability."""
    examples.check_options(condition, temperature, "Independent")
    return examples.as_samples(self.spec, self._law.sample(params["model"], key, num, temperature))

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Draw the unknown dimensions; exact for any region, which here says nothing about the rest."""
    drawn = self.sample(params, carry, key, x.shape[0]).x
    return Samples(jnp.where(known, x.astype(drawn.dtype), drawn), {})


@dataclasses.dataclass(frozen=True)
class _Categorical:
  """Parameters: log-probabilities "logits" [dims, levels]."""

  spec: DataSpec
  alpha: float

  @property
  def levels(self) -> int:
    return self.spec.require_discrete("Independent")

  @property
  def layout(self) -> tables.Layout:
    return tables.layout_of(((),) * self.spec.num_dims, self.levels)

  def init(self) -> PyTree:
    return {"logits": jnp.full((self.spec.num_dims, self.levels), -np.log(self.levels), jnp.float32)}

  def solve(self, batches: Iterable[Batch]) -> PyTree:
    count = jax.jit(lambda x, weight: tables.counts(self.layout, self.levels, x, weight))
    counted = examples.accumulate(self.spec, count, batches)
    return {"logits": jnp.asarray(tables.estimate(self.layout, counted, self.alpha))}

  def log_prob(self, params: PyTree, x: Num[Array, "batch dims"]) -> Float[Array, "batch dims"]:
    return params["logits"][jnp.arange(self.spec.num_dims), x]

  def sample(self, params: PyTree, key: Key[Array, ""], num: int, temperature: float) -> Num[Array, "num dims"]:
    logits = jnp.broadcast_to(params["logits"], (num, *params["logits"].shape))
    return categorical.sample(key, logits, temperature)


@dataclasses.dataclass(frozen=True)
class _Gaussian:
  """Parameters: "mean" and "scale" (standard deviation) [dims]."""

  spec: DataSpec
  variance_floor: float

  def init(self) -> PyTree:
    return {"mean": jnp.zeros(self.spec.num_dims), "scale": jnp.ones(self.spec.num_dims)}

  def solve(self, batches: Iterable[Batch]) -> PyTree:
    mean, variance, _ = examples.moments(self.spec, batches)
    scale = np.sqrt(variance_of_fit(mean, variance, self.variance_floor))
    return {"mean": jnp.asarray(mean, jnp.float32), "scale": jnp.asarray(scale, jnp.float32)}

  def log_prob(self, params: PyTree, x: Num[Array, "batch dims"]) -> Float[Array, "batch dims"]:
    return jax.scipy.stats.norm.logpdf(x, params["mean"], params["scale"])

  def sample(self, params: PyTree, key: Key[Array, ""], num: int, temperature: float) -> Num[Array, "num dims"]:
    noise = jax.random.normal(key, (num, self.spec.num_dims))
    return params["mean"] + jnp.sqrt(temperature) * params["scale"] * noise
