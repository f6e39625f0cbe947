"""Unnormalized densities of real numbers: what all of them share, whatever their energy.

Energies are of standardized values u of the data. Integers are dequantized: u is of x + noise with uniform noise in
[0, 1), and log p(x) >= E[log p(u)] + log |du/dx| (Theis et al., arXiv:1511.01844, section 3.1); a score is one draw.
"""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key, Num

from gdm import checks
from gdm.batches import checked, nan_unless_valid, require_no_lengths
from gdm.energy.continuous import chains
from gdm.energy.continuous.chains import Energy
from gdm.energy.continuous.quadrature import integral
from gdm.energy.energy import EnergyModel, picked_chains
from gdm.energy.normalizers import LogIntegral, spread_over
from gdm.errors import ConfigError, NotFiniteError, SpecError
from gdm.inference import annealed_importance as annealing
from gdm.inference.quadrature import MAX_DIMS, Box
from gdm.likelihood import Kind, LogLikelihood, LogNormalizer
from gdm.model import Batch, Carry, Condition, MeasurementLikelihood, Params, Samples
from gdm.precision import highest_precision


@dataclasses.dataclass(frozen=True)
class ContinuousEnergy(EnergyModel):
  """A density of real numbers known up to its integral: scores, draws and completions.

  See `EnergyModel` for the other attributes. Parameters: the group "base", which nothing moves: how data is
  standardized (a vector's dimensions each, other events as a whole), the mean and deviation of every dimension of the
  standardized data, and its range. Carry: "chains" [chain_shards, chains_per_shard, *event], the replay buffer of
  standardized values, for "pcd".

  Attributes:
    num_steps: Langevin steps per training step.
    step_size: Langevin step size, in units of each dimension's variance.
    noise: factor of the Langevin noise; 1 samples the model, less samples f to the power of 1 / noise^2.
    range_margin: how many widths of the data's range chains may be beyond it; farther out, training is an error.
    hmc_step_size: the longest leapfrog step of annealing, in deviations of the density at each temperature, whose
      covariance a pilot run finds; it finds shorter steps where fewer than 0.8 of the moves would be accepted.
    num_leapfrog: leapfrog steps of a move; a path of 1.6 deviations makes a Gaussian's draw nearly independent.
  """

  num_steps: int = 20
  chains_per_shard: int = 64
  num_temperatures: int = 200
  step_size: float = 0.01
  noise: float = 1.0
  range_margin: float = 1.0
  hmc_step_size: float = 0.4
  num_leapfrog: int = 4

  known_normalizers: ClassVar[Sequence[str]] = ("quadrature", "ais", "smc")
  rejects: ClassVar[bool] = True

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.at_least("model.num_leapfrog", self.num_leapfrog, 1)
    for name in ("step_size", "hmc_step_size"):
      checks.positive(f"model.{name}", getattr(self, name))
    for name in ("noise", "range_margin"):
      checks.at_least(f"model.{name}", getattr(self, name), 0)
    if self.normalizer == "quadrature" and self.spec.num_dims > MAX_DIMS:
      raise ConfigError(f"model.normalizer is 'quadrature', but the data has {self.spec.num_dims} dimensions; a grid "
                        f"takes at most {MAX_DIMS}: choose 'ais'.")

  # What a model supplies.

  @abc.abstractmethod
  def energy(self, params: Params, carry: Carry, condition: Array | None = None) -> Energy:
    """Return -log f of standardized values u [batch, *event] in nats; given labels, of both together."""

  @abc.abstractmethod
  def base_of(self, params: Params, carry: Carry) -> chains.PathBase:
    """Return where paths begin, and chains at first."""

  @abc.abstractmethod
  def box(self, params: Params) -> Box:
    """Return where quadrature looks first, in standardized units: twice as far as f reaches, for an alarm beyond."""

  @abc.abstractmethod
  def checked_condition(self, condition: Array | None, num: int, start: str) -> Array | None:
    """Return the condition of `num` draws. Raise SpecError or ConfigError where the model cannot be given it."""

  # What follows from it.

  # The density.

  def spread(self, params: Params) -> Float[Array, "*event"]:
    """Return the deviation of every standardized dimension: the scale on which samplers move."""
    return params["base"]["deviation"]

  def unnormalized_log_prob(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, " batch"]:
    """Return log f of the data as served, in nats, Jacobian included. Integers get noise, the same at every call."""
    require_no_lengths(self.spec, batch)
    u = self.standardize(params, batch["x"], jax.random.key(0))
    return nan_unless_valid(self.spec, batch, -self.energy(params, carry)(u) - self.log_volume(params))

  def log_normalizer(self, params: Params, carry: Carry, key: Key[Array, ""],
                     examples: Num[Array | np.ndarray, "examples *event"] | None = None) -> tuple[LogNormalizer, ...]:
    """Return log Z in nats; and that which noise-contrastive estimation learned, an estimate, as a second one.

    By quadrature it is exact up to the cells' error, which stands as its standard error; by annealing it is below the
    truth on average, with what share of Z lies in modes that annealing from the base misses and that were found from
    elsewhere. Examples are places where either looks for mass, too. Of integers the bound by dequantization enters
    here, on the other side.
    """
    u = None if examples is None else self.standardize(params, examples, jax.random.key(0))
    with highest_precision():
      found = self.normalized.log_normalizer(self, params, carry, key, u)
    by_dequantization = Kind.UPPER_BOUND if self.spec.is_discrete else Kind.EXACT
    found = dataclasses.replace(found, kind=found.kind + by_dequantization)
    if "log_z" not in params.get("model", {}):
      return (found,)
    return found, LogNormalizer(jnp.asarray(params["model"]["log_z"]), jnp.zeros(()), Kind.ESTIMATE)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x) in nats: by quadrature; or RAISE's lower bound of the annealed sampler's log p(x), by
    `num_samples` chains from each example.

    Raise ConfigError where neither the dimensions nor the settings let it be found.
    """
    noise_key, key = jax.random.split(key)
    by_dequantization = Kind.LOWER_BOUND if self.spec.is_discrete else Kind.EXACT
    u = self.standardize(params, batch["x"], noise_key)
    of_u = self.normalized.log_prob(self, params, carry, u, key, num_samples)
    # Noise and chains leave the exponential unbiased.
    found = LogLikelihood.of(of_u.nats - self.log_volume(params), self.spec.num_dims, of_u.kind + by_dequantization,
                             unbiased=True)
    return checked(self.spec, batch, dataclasses.replace(found, error=of_u.error))

  # Draws.

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             num_steps: int = 0, sampler: str = "hmc", start: str = "base", temperature: float = 1.0,
             num_temperatures: int = 0) -> Samples:
    """Draw [num, *event] in the data's values.

    Args:
      params: the parameters.
      carry: the carry.
      key: of these draws.
      num: how many.
      condition: must be None, but for models of labels.
      num_steps: further steps at the model itself.
      sampler: of the further steps: "langevin" as in training, "mala" of the same step, or "hmc", whose step and mass a
        pilot finds.
      start: "base" anneals draws from the base. "smc" resamples them on the way, `num_chains` of them at least, so that
        parts of the density get their shares where chains don't cross from one to another; draws may be copies of each
        other. "chains" takes those of the buffer.
      temperature: draws are of f to the power of 1 / temperature; Langevin's noise comes on top.
      num_temperatures: steps of annealing; 0 is the model's own number.

    Returns:
      The draws, and of the sampler: "nfe", gradients of a chain; "divergent", the share of chains that ever left the
      finite numbers, and "lost", of those that are not finite now. With further steps "acceptance", their mean, 1 for
      Langevin which rejects nothing, and along them "log_density" [num, num_steps], log f to the power of
      1 / temperature, and "mean" and "component" of gdm/inference/watched.py, of standardized values, by which
      gdm/inference/diagnostics.py says whether chains agree. Of annealing "least_acceptance", "least_acceptance_beta",
      "stuck", "least_path" and "pilot_nfe", see gdm/energy/continuous/chains.py, and "effective_sample_size" of its
      weights; of smc "resamplings" and "ancestors" too. `diagnostics.failure` puts into words what of it shows that
      draws are not from the model.

    Raises:
      ConfigError: an unknown sampler or start, too few steps, no temperature, or chains where there are none.
      NotFiniteError: a chain of the buffer has left the data's range; names it.
      SpecError: the model cannot be given this condition.
    """
    checks.one_of("sampler", sampler, chains.KERNELS)
    checks.one_of("start", start, chains.STARTS)
    condition = self.checked_condition(condition, num, start)
    checks.at_least("num_steps", num_steps, 0)
    checks.positive("temperature", temperature)
    if start == "chains":
      self.require_chains(carry)
      if not isinstance(carry["chains"], Tracer) and (words := self.diagnose(params, carry)):
        raise NotFiniteError(words)
    model = self._annealed_over(num_temperatures)
    annealed = 0 if start == "chains" else model._annealing_nfe
    each = self.num_leapfrog if sampler == "hmc" else 1
    drawn, info = _sample(model, params, carry, key, num, condition, num_steps, sampler, start, temperature)
    nfe = annealed + (1 + each * num_steps if num_steps else 0)
    return Samples(self.as_data(params, drawn), {"nfe": nfe, **info})

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"], num_temperatures: int = 0) -> Samples:
    """Keep x where `known`; the rest starts at the base and is annealed to the model given the known part.

    Over `num_temperatures` steps, or the model's own number for 0. Of annealing the info tells what `sample`'s does.
    """
    known, model = jnp.asarray(known), self._annealed_over(num_temperatures)
    drawn, info = _complete(model, params, carry, key, jnp.asarray(x), known)
    return Samples(jnp.where(known, jnp.asarray(x, drawn.dtype), drawn), {"nfe": model._annealing_nfe, **info})

  def denoise(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
              deviation: float, num_temperatures: int = 0) -> Samples:
    """Draw from p(clean | x) where x is clean plus Gaussian noise of `deviation`, in the data's units.

    Chains start at x and are annealed from the base, given x, to the model, given x, over `num_temperatures` steps, or
    the model's own number for 0. The draws are real numbers: levels are not rounded to, since noise is not. Of
    annealing the info tells what `sample`'s does.

    Raise ConfigError unless the deviation is positive.
    """
    checks.positive("deviation", deviation)
    model = self._annealed_over(num_temperatures)
    drawn, info = _denoise(model, params, carry, key, jnp.asarray(x, jnp.result_type(float)), deviation)
    return Samples(drawn, {"nfe": model._annealing_nfe, **info})

  def sample_posterior(self, params: Params, carry: Carry, key: Key[Array, ""],
                       log_likelihood: MeasurementLikelihood, batch: int, num: int,
                       condition: Condition | None = None) -> Samples:
    """Draw [num, batch, *event] given measurements: chains from the base, annealed to the density times the likelihood
    by Hamiltonian Monte Carlo. The draws are real numbers, as those of `denoise`; of annealing the info tells what
    `sample`'s does. Raise SpecError for a condition."""
    checks.unconditional(self, condition)
    drawn, info = _posterior(self, params, carry, key, log_likelihood, batch, num)
    return Samples(drawn.reshape(num, batch, *self.spec.event), {"nfe": self._annealing_nfe, **info})

  def diagnose(self, params: Params, carry: Carry) -> str:
    """Name the first chain of the buffer that is NaN or beyond the data's range by `range_margin`; "" for none."""
    if "chains" not in carry:
      return ""
    buffer, base = carry["chains"].reshape(-1, self.spec.num_dims), params["base"]
    index, out, low, high = (np.asarray(found).item() for found in chains.farthest(buffer, base, self.range_margin))
    if not out:
      return ""
    return (f"chain {index} of {len(buffer)} lies in [{low:g}, {high:g}]; the data, standardized, lies in "
            f"[{float(base['low']):g}, {float(base['high']):g}]: training has diverged. model.adjusted=True, or "
            "a smaller model.step_size, may hold the chains.")

  def target(self, params: Params, carry: Carry, condition: Array | None = None) -> chains.Target:
    """Return the density as its chains see it."""
    buffer = carry["chains"].reshape(-1, *self.spec.event) if "chains" in carry else None
    moves = chains.Moves(self.num_temperatures, self.num_chains, self.hmc_step_size, self.num_leapfrog, self.step_size,
                         self.noise)
    return chains.Target(lambda given: self.energy(params, carry, given), condition, self.base_of(params, carry),
                         self.spread(params), buffer, moves)

  @property
  def automatic_normalizer(self) -> str:
    return "quadrature" if self.spec.num_dims <= MAX_DIMS else "ais"

  def log_f(self, params: Params, carry: Carry, x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    return -self.energy(params, carry)(x)

  def log_integral(self, params: Params, carry: Carry,
                   examples: Float[Array, "examples *event"] | None = None) -> LogIntegral:
    """Return log Z in nats by quadrature, and its error; examples, chains and draws of the base are looked at."""
    return integral(self.target(params, carry), self.box(params), examples)

  def path(self, params: Params, carry: Carry) -> annealing.Path:
    """Return the path from the model's base, by Hamiltonian Monte Carlo with what a pilot run finds."""
    return chains.path(self.target(params, carry))

  def path_about(self, params: Params, carry: Carry, x: Float[Array, "states *event"],
                 weights: Float[Array, " states"]) -> annealing.Path:
    return chains.path(self.target(params, carry), chains.gaussian_about(x, weights, self.spread(params)))

  def settle(self, params: Params, carry: Carry, key: Key[Array, ""], x: Float[Array, "chains *event"],
             num_steps: int) -> Float[Array, "chains *event"]:
    return chains.settle(self.target(params, carry), key, x, num_steps)

  def starts(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
             examples: Float[Array, "examples *event"] | None = None) -> list[Float[Array, "num *event"]]:
    """Standardized values where modes that annealing misses are looked for.

    The buffer's chains, examples, or draws of the base where there is neither; their mirror images; and uniform states
    as far as f reaches.
    """
    pick_key, base_key, box_key = jax.random.split(key, 3)
    held = []
    if "chains" in carry:
      held.append(picked_chains(carry["chains"].reshape(-1, *self.spec.event), pick_key, num))
    if examples is not None:
      held.append(spread_over(examples, num))
    box, middle = self.box(params), params["base"]["mean"]
    one = held[-1] if held else self.base_of(params, carry).sample(base_key, num)
    ends = jax.random.uniform(box_key, one.shape, one.dtype, -1.0, 1.0)
    # A box is twice as wide as what holds f.
    found = [*held, 2.0 * middle - one, box.centre + 0.5 * box.half_width * ends]
    return [jnp.where(jnp.isfinite(u), u, middle) for u in found]

  @property
  def _annealing_nfe(self) -> int:
    return self.num_temperatures * (self.num_leapfrog + 1)

  def _annealed_over(self, num_temperatures: int) -> "ContinuousEnergy":
    """Return the model with so many steps of annealing; itself for 0."""
    return dataclasses.replace(self, num_temperatures=num_temperatures) if num_temperatures else self

  # Data and values.

  def real_values(self, x: Num[Array | np.ndarray, "batch *event"],
                  key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """Return data as real numbers; integers get noise. Raise SpecError where x is not of the spec's shape."""
    x = jnp.asarray(x)
    if x.shape[1:] != self.spec.event:
      raise SpecError(f"x has shape {x.shape}; it must be [batch, *spec.event] with spec.event {self.spec.event}.")
    x = x.astype(jnp.result_type(float))
    return x + jax.random.uniform(key, x.shape, x.dtype) if self.spec.is_discrete else x

  def standardize(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
                  key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """Return the values u of data; integers get noise. Raise SpecError where x is not of the spec's shape."""
    base = params["base"]
    return (self.real_values(x, key) - base["centre"]) / base["scale"]

  def log_volume(self, params: Params) -> Float[Array, ""]:
    """Return log |dx/du|, in nats."""
    return jnp.sum(jnp.log(jnp.broadcast_to(params["base"]["scale"], self.spec.event)))

  def as_data(self, params: Params, u: Float[Array, "num *event"]) -> Num[Array, "num *event"]:
    """Values u in the data's own."""
    x = u * params["base"]["scale"] + params["base"]["centre"]
    return x if self.spec.levels is None else jnp.clip(jnp.floor(x), 0, self.spec.levels - 1).astype(jnp.int32)


# Compiled, since callers ask for these as they are; a model is hashable and holds no arrays.


@functools.partial(jax.jit, static_argnames=("model", "num", "num_steps", "sampler", "start"))
def _sample(model: ContinuousEnergy, params: Params, carry: Carry, key: Key[Array, ""], num: int,
            condition: Array | None, num_steps: int, sampler: str, start: str,
            temperature: Float[Array, ""]) -> chains.ChainDraws:
  return chains.sample(model.target(params, carry, condition), key, num, num_steps, sampler, start, temperature)


@functools.partial(jax.jit, static_argnames=("model",))
def _complete(model: ContinuousEnergy, params: Params, carry: Carry, key: Key[Array, ""],
              x: Num[Array, "batch *event"], known: Bool[Array, "*event"]) -> chains.ChainDraws:
  """Return completions in the data's values."""
  keys = jax.random.split(key, 4)
  found = chains.complete(model.target(params, carry), keys[1:], model.standardize(params, x, keys[0]), known)
  return found._replace(u=model.as_data(params, found.u))


@functools.partial(jax.jit, static_argnames=("model",))
def _denoise(model: ContinuousEnergy, params: Params, carry: Carry, key: Key[Array, ""],
             x: Float[Array, "batch *event"], deviation: Float[Array, ""]) -> chains.ChainDraws:
  """Return clean examples in the data's values."""
  base, middle = params["base"], 0.5 * model.spec.is_discrete  # of what an integer stands for once it is dequantized
  seen = (x + middle - base["centre"]) / base["scale"]
  found = chains.denoise(model.target(params, carry), key, seen, deviation / base["scale"])
  return found._replace(u=found.u * base["scale"] + base["centre"] - middle)


@functools.partial(jax.jit, static_argnames=("model", "batch", "num"))
def _posterior(model: ContinuousEnergy, params: Params, carry: Carry, key: Key[Array, ""],
               log_likelihood: MeasurementLikelihood, batch: int, num: int) -> chains.ChainDraws:
  """Return draws in the data's values, all measurements one after the other, `num` times."""
  base, middle = params["base"], 0.5 * model.spec.is_discrete

  def data(u):
    return u * base["scale"] + base["centre"] - middle

  rows = jnp.tile(jnp.arange(batch), num)
  found = chains.posterior(model.target(params, carry), key, lambda u, rows: log_likelihood(data(u), rows), rows)
  return found._replace(u=data(found.u))
