"""Energies whose conditionals are known, so that Gibbs sampling moves their chains: RBMs and Ising models.

p(x) = f_1(x) / Z. A path log f_beta leads from a base, f_0, that is easy to normalize and to draw from and stands near
the data (its marginals), to the model, f_1; a model supplies the path and, for every beta, a reversible kernel.
Examples here are flat floats [*lead, dims].
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from gdm import checks
from gdm.batches import checked, nan_unless_valid, require_no_lengths
from gdm.energy.energy import EnergyModel, picked_chains
from gdm.energy.normalizers import LogIntegral, spread_over
from gdm.errors import ConfigError, SpecError
from gdm.inference import annealed_importance as annealing
from gdm.inference import gibbs
from gdm.inference.watched import watch
from gdm.likelihood import LogLikelihood, LogNormalizer
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params, PyTree, Samples

AUTO_UNITS = 20  # "auto" enumerates up to 2^20 states, which takes a second or two
MOST_UNITS = 26  # and nobody waits for more than 2^26


@dataclasses.dataclass(frozen=True)
class GibbsEnergy(EnergyModel):
  """An energy with known conditionals; see `EnergyModel` for its attributes.

  Parameters: the group "model"; and "base", which nothing moves: the marginals of the first batch.
  """

  known_objectives: ClassVar[Sequence[str]] = ("pcd", "cd")
  known_normalizers: ClassVar[Sequence[str]] = ("exact", "ais")
  rejects: ClassVar[bool] = False  # a draw from a conditional is always taken

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.normalizer == "exact" and self.num_enumerable > MOST_UNITS:
      raise ConfigError(f"model.normalizer is 'exact', but the smaller side has {self.num_enumerable} binary units; "
                        f"enumeration takes at most {MOST_UNITS}: choose 'ais'.")

  # What a model supplies.

  @property
  @abc.abstractmethod
  def num_enumerable(self) -> int:
    """Binary units to enumerate for the exact log Z."""

  @abc.abstractmethod
  def init_params(self, key: Key[Array, ""], x: Float[Array, "batch dims"]) -> tuple[PyTree, PyTree]:
    """Fresh parameters, and those of the base, from the first batch."""

  @abc.abstractmethod
  def log_density(self, params: Params, x: Float[Array, "*lead dims"],
                  beta: Float[Array, ""] | float) -> Float[Array, "*lead"]:
    """Return log f_beta(x) in nats."""

  @abc.abstractmethod
  def transition(self, params: Params, key: Key[Array, ""], x: Float[Array, "*lead dims"],
                 beta: Float[Array, ""] | float, known: Bool[Array, " dims"] | None = None
                 ) -> Float[Array, "*lead dims"]:
    """One step of a reversible kernel of f_beta that leaves known dimensions as they are."""

  @abc.abstractmethod
  def base_log_normalizer(self, params: Params) -> Float[Array, ""]:
    """Return log Z_0 in nats."""

  @abc.abstractmethod
  def sample_base(self, params: Params, key: Key[Array, ""], num: int) -> Float[Array, "num dims"]:
    """Draw from the base."""

  @abc.abstractmethod
  def sample_elsewhere(self, params: Params, key: Key[Array, ""], num: int) -> list[Float[Array, "num dims"]]:
    """States of several kinds that are far from the base's, `num` of each."""

  @abc.abstractmethod
  def fit_base(self, params: Params, x: Float[Array, "states dims"], weights: Float[Array, " states"]) -> PyTree:
    """Parameters of a base that stands near weighted states, of the model's own form."""

  @abc.abstractmethod
  def enumerated_log_normalizer(self, params: Params) -> Float[Array, ""]:
    """Return log Z in nats, exactly."""

  # What follows from it.

  @property
  def num_dims(self) -> int:
    return self.spec.num_dims

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(groups=("model",), loss=self.loss, unit="nats"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Parameters by the batch's marginals; chains that are draws from the base."""
    model_key, chain_key = jax.random.split(key)
    model, base = self.init_params(model_key, self.flatten(batch["x"]))
    params = {"model": model, "base": base}

    if self.objective == "cd":
      return params, {}
    drawn = self.sample_base(params, chain_key, self.chain_shards * self.chains_per_shard)
    chains = drawn.astype(jnp.uint8) if self.spec.is_discrete else drawn
    return params, {"chains": chains.reshape(self.chain_shards, self.chains_per_shard, *self.spec.event)}

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the energy gap, in nats: mean energy of the data minus that of the negatives; its gradient is -d log p's.

    The loss itself is no likelihood. It settles while training goes well; a gap that runs away, or chains whose mean or
    energy leaves the data's, show a model that diverges.
    """
    x, fixed = self.flatten(batch["x"]), jax.lax.stop_gradient(params)
    start = x
    if "chains" in carry:
      start = carry["chains"].reshape(*carry["chains"].shape[:2], -1).astype(x.dtype)
    fake = gibbs.repeat(lambda key, x: self.transition(fixed, key, x, 1.0), key, start, self.num_steps)
    if "chains" in carry:
      carry = {**carry, "chains": fake.reshape(carry["chains"].shape).astype(carry["chains"].dtype)}
    fake_score = self.log_density(params, jax.lax.stop_gradient(fake), 1.0)
    gap = jnp.mean(fake_score) - self.log_density(params, x, 1.0)
    metrics = {"energy_gap": Mean.of(gap), "chain_energy": Mean.of(-fake_score), "chain_mean": Mean.of(fake),
               "data_mean": Mean.of(x)}
    return LossOutput(jnp.mean(gap), metrics, carry)

  def unnormalized_log_prob(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, " batch"]:
    """Return log f_1(x) in nats."""
    require_no_lengths(self.spec, batch)
    return nan_unless_valid(self.spec, batch, self.log_density(params, self.flatten(batch["x"]), 1.0))

  def log_normalizer(self, params: Params, carry: Carry, key: Key[Array, ""],
                     examples: Num[Array | np.ndarray, "examples *event"] | None = None) -> tuple[LogNormalizer, ...]:
    """Return log Z in nats: exact; or below it on average, so that log p is too high on average, with what share of
    Z lies in modes that annealing from the base misses and that were found from elsewhere, as from examples."""
    flat = None if examples is None else self.flatten(examples)
    return (self.normalized.log_normalizer(self, params, carry, key, flat),)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x) in nats: exact; or RAISE's lower bound of the annealed sampler's log p(x), by `num_samples`
    chains from each example."""
    found = self.normalized.log_prob(self, params, carry, self.flatten(batch["x"]), key, num_samples)
    # Chains leave the exponential unbiased.
    return checked(self.spec, batch, LogLikelihood.of(found.nats, self.num_dims, found.kind, unbiased=True))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             num_steps: int = 0, start: str = "base") -> Samples:
    """Draw [num, *event].

    Args:
      params: the parameters.
      carry: the carry.
      key: of these draws.
      num: how many.
      condition: must be None.
      num_steps: further steps of the kernel at the model itself.
      start: "base" anneals draws from the base over `num_temperatures` steps: these are draws of the distribution that
        RAISE scores. "chains" takes persistent chains, each once before any twice.

    Returns:
      The draws, and of the sampler: "nfe", steps in all; and along the further steps "log_density" [num, num_steps],
      log f_1, and "mean" and "component" of gdm/inference/watched.py, by which gdm/inference/diagnostics.py says
      whether chains agree.

    Raises:
      ConfigError: an unknown start, too few steps, or chains where there are none.
      SpecError: a condition is given; these models have none.
    """
    checks.unconditional(self, condition)
    checks.at_least("num_steps", num_steps, 0)
    checks.one_of("start", start, _STARTS)
    if start == "chains":
      self.require_chains(carry)
    nfe = num_steps + (self.num_temperatures if start == "base" else 0)
    x, traces = _sample(self, params, carry, key, num, num_steps, start)
    return Samples(self._shaped(x), {"nfe": nfe, **traces})

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Keep x where `known`; the rest starts at the base and is annealed to the model given the known part."""
    drawn = _complete(self, params, key, self.flatten(x), jnp.ravel(jnp.asarray(known)))
    return Samples(self._shaped(drawn), {"nfe": self.num_temperatures})

  def start_of(self, params: Params) -> PyTree:
    """Parameters of the base that a path starts from: "start" among the groups where there is one, else "base".

    The base's mean centres the model's own energy as well, so that it can't be exchanged itself.
    """
    return params["start"] if "start" in params else params["base"]

  def log_f(self, params: Params, carry: Carry, x: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
    return self.log_density(params, x, 1.0)

  def log_integral(self, params: Params, carry: Carry,
                   examples: Float[Array, "examples dims"] | None = None) -> LogIntegral:
    """Return log Z in nats, exactly; examples are no help to a sum over all states."""
    return LogIntegral(self.enumerated_log_normalizer(params))

  @property
  def automatic_normalizer(self) -> str:
    return "exact" if self.num_enumerable <= AUTO_UNITS else "ais"

  def path(self, params: Params, carry: Carry) -> annealing.Path:
    return annealing.Path(
        log_density=lambda x, beta: self.log_density(params, x, beta),
        transition=lambda key, x, beta: self.transition(params, key, x, beta),
        sample_base=lambda key, num: self.sample_base(params, key, num),
        log_base_normalizer=self.base_log_normalizer(params))

  def path_about(self, params: Params, carry: Carry, x: Float[Array, "states dims"],
                 weights: Float[Array, " states"]) -> annealing.Path:
    return self.path({**params, "start": self.fit_base(params, x, weights)}, carry)

  def settle(self, params: Params, carry: Carry, key: Key[Array, ""], x: Float[Array, "chains dims"],
             num_steps: int) -> Float[Array, "chains dims"]:
    return gibbs.repeat(lambda key, x: self.transition(params, key, x, jnp.ones(())), key, x, num_steps)

  def starts(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
             examples: Float[Array, "examples dims"] | None = None) -> list[Float[Array, "num dims"]]:
    """Return persistent chains, examples, and states far from the base."""
    pick_key, key = jax.random.split(key)
    chains = [_from_chains(self, params, carry, pick_key, num)] if "chains" in carry else []
    seen = [] if examples is None else [spread_over(examples, num)]
    return chains + seen + self.sample_elsewhere(params, key, num)

  def flatten(self, x: Num[Array, "batch *event"] | Any) -> Float[Array, "batch dims"]:
    """Examples as flat floats. Raise SpecError where they are not of the spec's shape."""
    x = jnp.asarray(x)
    if x.shape[1:] != self.spec.event:
      raise SpecError(f"x has shape {x.shape}; it must be [batch, *spec.event] with spec.event {self.spec.event}.")
    return x.reshape(x.shape[0], self.num_dims).astype(jnp.result_type(float))

  def _shaped(self, x: Float[Array, "num dims"]) -> Num[Array, "num *event"]:
    return (x.astype(jnp.int32) if self.spec.is_discrete else x).reshape(-1, *self.spec.event)


# Compiled, since callers ask for these as they are; a model is hashable and holds no arrays.


def _from_base(model: GibbsEnergy, params: Params, carry: Carry, key: Key[Array, ""], num: int) -> Array:
  return annealing.forward(model.path(params, carry), annealing.ladder(model.num_temperatures), key, num).x


def _from_chains(model: GibbsEnergy, params: Params, carry: Carry, key: Key[Array, ""], num: int) -> Array:
  return picked_chains(carry["chains"].reshape(-1, model.num_dims).astype(jnp.result_type(float)), key, num)


_STARTS: Mapping[str, Callable[..., Array]] = {"base": _from_base, "chains": _from_chains}


@functools.partial(jax.jit, static_argnames=("model", "num", "num_steps", "start"))
def _sample(model: GibbsEnergy, params: Params, carry: Carry, key: Key[Array, ""], num: int, num_steps: int,
            start: str) -> tuple[Float[Array, "num dims"], dict[str, Float[Array, "num num_steps"]]]:
  start_key, walk_key = jax.random.split(key)
  x = _STARTS[start](model, params, carry, start_key, num)
  known = [x, *([carry["chains"].reshape(-1, model.num_dims).astype(x.dtype)] if "chains" in carry else [])]
  of_states = watch(jnp.concatenate(known))

  def step(x, index):
    x = model.transition(params, jax.random.fold_in(walk_key, index), x, 1.0)
    return x, {"log_density": model.log_density(params, x, 1.0), **of_states(x)}

  x, traces = jax.lax.scan(step, x, jnp.arange(num_steps))
  return x, jax.tree.map(jnp.transpose, traces)


@functools.partial(jax.jit, static_argnames=("model",))
def _complete(model: GibbsEnergy, params: Params, key: Key[Array, ""], x: Float[Array, "batch dims"],
              known: Bool[Array, " dims"]) -> Array:
  base_key, key = jax.random.split(key)
  start = jnp.where(known, x, model.sample_base(params, base_key, len(x)))

  def step(x, rung):
    index, beta = rung
    return model.transition(params, jax.random.fold_in(key, index), x, beta, known), None

  betas = jnp.asarray(annealing.ladder(model.num_temperatures)[1:], x.dtype)
  return jax.lax.scan(step, start, (jnp.arange(len(betas)), betas))[0]
