"""Unnormalized densities of real numbers: what all of them share, whatever their energy.

Energies are of standardized values u of the data. Integers are dequantized: u is of x + noise with uniform noise in
[0, 1), and log p(x) >= E[log p(u)] + log |du/dx| (Theis et al., arXiv:1511.01844, section 3.1); a score is one draw.
"""

import abc
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key, Num

from gdm.batches import checked, nan_unless_valid, require_no_lengths
from gdm.dataspec import DataSpec
from gdm.distributions.moments import moments
from gdm.energy import continuous_chains as chains
from gdm.energy import continuous_normalizers as normalizers
from gdm.energy.losses import DRAWS, LOSSES, UNITS, Energy
from gdm.energy.normalizers import normalized_by, spread_over
from gdm.errors import ConfigError, NotFiniteError, SpecError, nearest
from gdm.inference import annealed_importance as annealing
from gdm.inference import tuning
from gdm.inference.quadrature import MAX_DIMS, Box
from gdm.likelihood import Kind, LogLikelihood, LogNormalizer
from gdm.model import Batch, Carry, LossOutput, Objective, Params, PyTree, Samples


@dataclasses.dataclass(frozen=True)
class ContinuousEnergy(abc.ABC):
  """A density of real numbers known up to its integral: training, scores, draws and completions.

  Parameters: the group "model": "network", and "log_z" of noise-contrastive estimation; and "base", which nothing
  moves: how data is standardized (a vector's dimensions each, other events as a whole), the mean and deviation of every
  dimension of the standardized data, and its range.
  Carry: "chains" [chain_shards, chains_per_shard, *event], the replay buffer of standardized values, for "persistent".

  Attributes:
    spec: the data, real numbers or integers.
    objective: a name of gdm/energy/losses.py.
    num_steps: Langevin steps per training step.
    step_size: of Langevin, in squared deviations of each dimension.
    noise: of Langevin; 1 samples the model, less samples f to the power of 1 / noise^2.
    adjusted: accept or reject every step in training (MALA), which takes the step's bias away.
    restart: probability that a chain starts anew from the base.
    chain_shards: parts in which the buffer is kept; a multiple of the devices that share them.
    chains_per_shard: chains of each part; all together at least a batch.
    range_margin: how many widths of the data's range chains may be beyond it; farther out, training is an error.
    gap_limit: nats between the mean energies of data and chains beyond which training is an error.
    energy_penalty: weight of the mean squared energies of data and chains (Du and Mordatch, section 3.3).
    kl_weight: weight of the improved terms (Du et al., arXiv:2012.01316): the chains' energy, through their last step,
      minus their entropy.
    denoising_scale: deviation of the noise of denoising score matching, in those of the data.
    normalizer: "quadrature", "ais" or "smc"; "auto" is quadrature in 1 and 2 dimensions, ais in more.
    num_temperatures: steps between the base and the model, in annealing.
    num_chains: chains that estimate log Z, in annealing.
    hmc_step_size: the longest leapfrog step of annealing, in deviations of the density at each temperature, whose
      covariance a pilot run finds; it finds shorter steps where fewer than 0.8 of the moves would be accepted.
    num_leapfrog: leapfrog steps of a move; a path of 1.6 deviations makes a Gaussian's draw nearly independent.
  """

  spec: DataSpec
  objective: str = "persistent"
  num_steps: int = 20
  step_size: float = 0.01
  noise: float = 1.0
  adjusted: bool = False
  restart: float = 0.05
  chain_shards: int = 8
  chains_per_shard: int = 64
  range_margin: float = 1.0
  gap_limit: float = 1000.0
  energy_penalty: float = 0.0
  kl_weight: float = 0.0
  denoising_scale: float = 0.1
  normalizer: str = "auto"
  num_temperatures: int = 200
  num_chains: int = 256
  hmc_step_size: float = 0.4
  num_leapfrog: int = 4

  def __post_init__(self) -> None:
    self.spec.require_whole(type(self).__name__)
    for name, known in (("objective", LOSSES), ("normalizer", ("auto", *normalizers.NORMALIZERS))):
      if getattr(self, name) not in known:
        raise ConfigError(f"model.{name} is {getattr(self, name)!r}; {nearest(getattr(self, name), known)}")
    for name, least in (("num_steps", 1), ("chain_shards", 1), ("chains_per_shard", 1), ("num_temperatures", 1),
                        ("num_chains", 2), ("num_leapfrog", 1)):
      if getattr(self, name) < least:
        raise ConfigError(f"model.{name} is {getattr(self, name)}; it must be at least {least}.")
    for name in ("step_size", "gap_limit", "denoising_scale", "hmc_step_size"):
      if not 0.0 < getattr(self, name) < math.inf:
        raise ConfigError(f"model.{name} is {getattr(self, name)}; it must be positive.")
    for name in ("noise", "range_margin", "energy_penalty", "kl_weight"):
      if not 0.0 <= getattr(self, name) < math.inf:
        raise ConfigError(f"model.{name} is {getattr(self, name)}; it must be at least 0.")
    if not 0.0 <= self.restart <= 1.0:
      raise ConfigError(f"model.restart is {self.restart}; it must be a probability.")
    if self.adjusted and (self.kl_weight or not self.noise):
      field = "kl_weight" if self.kl_weight else "noise"
      raise ConfigError(f"model.adjusted and model.{field} is {getattr(self, field)}; a step that may be rejected "
                        "needs noise, and has no gradient for the improved terms.")
    if self.normalizer == "quadrature" and self.spec.num_dims > MAX_DIMS:
      raise ConfigError(f"model.normalizer is 'quadrature', but the data has {self.spec.num_dims} dimensions; a grid "
                        f"takes at most {MAX_DIMS}: choose 'ais'.")

  # What a model supplies.

  @abc.abstractmethod
  def init_network(self, key: Key[Array, ""], u: Float[Array, "batch *event"]) -> PyTree:
    """Fresh parameters, from the first batch's standardized values."""

  @abc.abstractmethod
  def energy(self, params: Params, carry: Carry, condition: Array | None = None) -> Energy:
    """-log f of standardized values u [batch, *event] in nats; given a condition per example, that of both together."""

  def init_base(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Parameter groups and carry of a base that has its own."""
    return {}, {}

  @property
  @abc.abstractmethod
  def first_log_normalizer(self) -> float:
    """log Z of a fresh model in nats, from where noise-contrastive estimation learns it."""

  @property
  @abc.abstractmethod
  def reach(self) -> float:
    """Half the side of a box, around 0, that holds nearly all of f, in standardized units."""

  def box(self, params: Params) -> Box:
    """Return where quadrature looks first, in standardized units: twice as far as f reaches, for an alarm beyond."""
    half_width = jnp.full(self.spec.event, 2.0 * self.reach, jnp.result_type(float))
    return Box(jnp.zeros_like(half_width), self.spread(params), half_width)

  # Training.

  @property
  def objectives(self) -> tuple[Objective, ...]:
    reason = (f"model.kl_weight is {self.kl_weight}, whose entropy is of the chains of a whole minibatch"
              if self.kl_weight and self.objective not in DRAWS else "")
    return (Objective(groups=("model",), loss=self.loss, prepare=self.prepare, whole_batch=reason,
                      unit=UNITS[self.objective]),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """A network of energy zero; the base, and chains from it, by the batch."""
    network_key, noise_key, chain_key = jax.random.split(key, 3)
    x = self._real(batch["x"], noise_key)
    axes = (0,) if len(self.spec.event) == 1 else tuple(range(x.ndim))
    centre, scale, _ = moments(x, axes)
    u = (x - centre) / scale
    each = moments(u)
    base = {"centre": centre, "scale": scale, "mean": each.mean, "deviation": each.scale, "low": jnp.min(u),
            "high": jnp.max(u)}
    model = {"network": self.init_network(network_key, u)}
    if self.objective == "nce":
      model["log_z"] = jnp.asarray(self.first_log_normalizer, u.dtype)
    own_params, own_carry = self.init_base(jax.random.fold_in(key, 0), batch)
    params, carry = {"model": model, "base": base, **own_params}, dict(own_carry)
    if self.objective == "persistent":
      drawn = jnp.clip(self.sample_base(params, carry, chain_key, self.chain_shards * self.chains_per_shard),
                       base["low"], base["high"])
      carry["chains"] = drawn.reshape(self.chain_shards, self.chains_per_shard, *self.spec.event)
    return params, carry

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """The objective's loss, which is no likelihood.

    A metric that is not finite ends the run by its name and step: chains beyond the data's range make "chain_excess"
    infinite, and a gap beyond its limit, as where chains are stuck while energies grow, "energy_gap".
    """
    batch = self.prepare(params, carry, batch, key)
    _, key = jax.random.split(key)
    return LOSSES[self.objective](self, params, carry, batch["u"], batch.get("noise"), key)

  def prepare(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Batch:
    """Add "u" [batch, *event], the standardized examples, and "noise" of the same shape where the loss draws any.

    A batch that has its "u" is returned as it is.
    """
    if "u" in batch:
      return batch
    noise_key, key = jax.random.split(key)
    batch = {**batch, "u": self.standardize(params, batch["x"], noise_key)}
    if self.objective in DRAWS:
      batch["noise"] = DRAWS[self.objective](self, params, carry, batch["u"], key)
    return batch

  # The density.

  def spread(self, params: Params) -> Float[Array, "*event"]:
    """The deviation of every standardized dimension: the scale on which samplers move."""
    return params["base"]["deviation"]

  def base_log_prob(self, params: Params, carry: Carry,
                    u: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    """Log-density of the base, independent Gaussians at the data's moments, in nats."""
    base = params["base"]
    return _total(jax.scipy.stats.norm.logpdf(u, base["mean"], base["deviation"]))

  def sample_base(self, params: Params, carry: Carry, key: Key[Array, ""], num: int) -> Float[Array, "num *event"]:
    base = params["base"]
    return base["mean"] + base["deviation"] * jax.random.normal(key, (num, *self.spec.event), base["mean"].dtype)

  def unnormalized_log_prob(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, " batch"]:
    """log f of the data as served, in nats, Jacobian included. Integers get noise, the same at every call."""
    require_no_lengths(self.spec, batch)
    u = self.standardize(params, batch["x"], jax.random.key(0))
    return nan_unless_valid(self.spec, batch, -self.energy(params, carry)(u) - self._log_volume(params))

  def log_normalizer(self, params: Params, carry: Carry, key: Key[Array, ""],
                     examples: Num[Array | np.ndarray, "examples *event"] | None = None) -> tuple[LogNormalizer, ...]:
    """log Z in nats; and that which noise-contrastive estimation learned, an estimate, as a second one.

    By quadrature it is exact up to the cells' error, which stands as its standard error; by annealing it is below the
    truth on average, with what share of Z lies in modes that annealing from the base misses and that were found from
    elsewhere. Examples are places where either looks for mass, too. Of integers the bound by dequantization enters
    here, on the other side.
    """
    u = None if examples is None else self.standardize(params, examples, jax.random.key(0))
    found = normalizers.log_normalizer(self, params, carry, key, u)
    if "log_z" not in params.get("model", {}):
      return (found,)
    return found, LogNormalizer(jnp.asarray(params["model"]["log_z"]), jnp.zeros(()), Kind.ESTIMATE)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """log p(x) in nats: by quadrature; or RAISE's lower bound of the annealed sampler's log p(x), by `num_samples`
    chains from each example.

    Raises ConfigError where neither the dimensions nor the settings let it be found.
    """
    noise_key, key = jax.random.split(key)
    by_dequantization = Kind.LOWER_BOUND if self.spec.is_discrete else Kind.EXACT
    u = self.standardize(params, batch["x"], noise_key)
    normalizer = normalizers.normalizer_of(self.normalizer, self.spec.num_dims)
    of_u = normalizer.log_prob(self, params, carry, u, key, num_samples)
    # Noise and chains leave the exponential unbiased.
    found = LogLikelihood.of(of_u.nats - self._log_volume(params), self.spec.num_dims, of_u.kind + by_dequantization,
                             unbiased=True)
    return checked(self.spec, batch, dataclasses.replace(found, error=of_u.error))

  def scored_by(self, name: str, **settings: Any) -> "ContinuousEnergy":
    """The model with another normalizer: quadrature; or ais or smc, with `num_temperatures` and `num_chains`."""
    return normalized_by(self, name, settings)

  # Draws.

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             num_steps: int = 0, sampler: str = "hmc", start: str = "base", temperature: float = 1.0,
             num_temperatures: int = 0) -> Samples:
    """Draws [num, *event] in the data's values.

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
      "stuck", "least_path" and "pilot_nfe", see gdm/energy/continuous_chains.py, and "effective_sample_size" of its
      weights; of smc "resamplings" and "ancestors" too. `diagnostics.failure` puts into words what of it shows that
      draws are not from the model.

    Raises:
      ConfigError: an unknown sampler or start, too few steps, no temperature, or chains where there are none.
      NotFiniteError: a chain of the buffer has left the data's range; names it.
      SpecError: the model cannot be given this condition.
    """
    condition = self.checked_condition(condition, num)
    for name, value, known in (("sampler", sampler, chains.KERNELS), ("start", start, chains.STARTS)):
      if value not in known:
        raise ConfigError(f"{name} is {value!r}; {nearest(value, known)}")
    if num_steps < 0:
      raise ConfigError(f"num_steps is {num_steps}; it must be at least 0.")
    if not 0.0 < temperature < math.inf:
      raise ConfigError(f"temperature is {temperature}; it must be finite and above 0.")
    if start == "chains":
      self._require_chains(params, carry)
    model = self._annealed_over(num_temperatures)
    annealed = 0 if start == "chains" else model._annealing_nfe
    each = self.num_leapfrog if sampler == "hmc" else 1
    drawn, info = chains.sample(model, params, carry, key, num, condition, num_steps, sampler, start, temperature)
    nfe = annealed + (1 + each * num_steps if num_steps else 0)
    return Samples(self.as_data(params, drawn), {"nfe": nfe, **info})

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"], num_temperatures: int = 0) -> Samples:
    """Keeps x where `known`; the rest starts at the base and is annealed to the model given the known part.

    Over `num_temperatures` steps, or the model's own number for 0. Of annealing the info tells what `sample`'s does.
    """
    known, model = jnp.asarray(known), self._annealed_over(num_temperatures)
    drawn, info = chains.complete(model, params, carry, key, jnp.asarray(x), known)
    return Samples(jnp.where(known, jnp.asarray(x, drawn.dtype), drawn), {"nfe": model._annealing_nfe, **info})

  def denoise(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
              deviation: float, num_temperatures: int = 0) -> Samples:
    """Draws from p(clean | x) where x is clean plus Gaussian noise of `deviation`, in the data's units.

    Chains start at x and are annealed from the base, given x, to the model, given x, over `num_temperatures` steps, or
    the model's own number for 0. The draws are real numbers: levels are not rounded to, since noise is not. Of
    annealing the info tells what `sample`'s does.

    Raises ConfigError unless the deviation is positive.
    """
    if not 0.0 < deviation < math.inf:
      raise ConfigError(f"deviation is {deviation}; it must be positive.")
    model = self._annealed_over(num_temperatures)
    drawn, info = chains.denoise(model, params, carry, key, jnp.asarray(x, jnp.result_type(float)), deviation)
    return Samples(drawn, {"nfe": model._annealing_nfe, **info})

  def diagnose(self, params: Params, carry: Carry) -> str:
    """Names the first chain of the buffer that is NaN or beyond the data's range by `range_margin`; "" for none."""
    if "chains" not in carry:
      return ""
    buffer, base = carry["chains"].reshape(-1, self.spec.num_dims), params["base"]
    index, out, low, high = (np.asarray(found).item() for found in chains.farthest(buffer, base, self.range_margin))
    if not out:
      return ""
    return (f"chain {index} of {len(buffer)} lies in [{low:g}, {high:g}]; the data, standardized, lies in "
            f"[{float(base['low']):g}, {float(base['high']):g}]: training has diverged. model.adjusted=True, or "
            "a smaller model.step_size, may hold the chains.")

  def checked_condition(self, condition: Array | None, num: int) -> Array | None:
    """The condition of `num` draws. Raises SpecError where the model cannot be given it."""
    if condition is not None:
      raise SpecError(f"{type(self).__name__} is not conditional; condition must be None.")
    return None

  def own_base(self, params: Params, carry: Carry) -> chains.Base:
    """Where the model's own path starts."""
    return chains.Base(lambda u: self.base_log_prob(params, carry, u),
                       lambda key, num: self.sample_base(params, carry, key, num), self.spread(params))

  def bridge(self, params: Params, carry: Carry, condition: Array | None = None,
             temperature: Float[Array, ""] | float = 1.0, base: chains.Base | None = None) -> tuning.LogDensity:
    """(u, beta) -> log f_beta(u) in nats, the geometric path from a base, the model's own for None, to the model at a
    temperature."""
    energy, start = self.energy(params, carry, condition), self.own_base(params, carry) if base is None else base

    def log_density(u, beta):
      return (1.0 - beta) * start.log_prob(u) - beta / temperature * energy(u)

    return log_density

  def path(self, params: Params, carry: Carry, condition: Array | None = None,
           temperature: Float[Array, ""] | float = 1.0, base: chains.Base | None = None) -> annealing.Path:
    """From a base, the model's own for None, to the model at a temperature, by Hamiltonian Monte Carlo with what a
    pilot run found."""
    tuned = chains.tune(self, params, carry, condition, temperature, base)
    return chains.tuned_path(self, params, carry, condition, temperature, tuned, base)

  def starts(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
             examples: Float[Array, "examples *event"] | None = None) -> list[Float[Array, "num *event"]]:
    """Standardized values where modes that annealing misses are looked for.

    The buffer's chains, examples, or draws of the base where there is neither; their mirror images; and uniform states
    as far as f reaches.
    """
    pick_key, base_key, box_key = jax.random.split(key, 3)
    held = []
    if "chains" in carry:
      buffer = carry["chains"].reshape(-1, *self.spec.event)
      held.append(jax.random.permutation(pick_key, buffer)[jnp.arange(num) % len(buffer)])
    if examples is not None:
      held.append(spread_over(examples, num))
    box, middle = self.box(params), params["base"]["mean"]
    one = held[-1] if held else self.sample_base(params, carry, base_key, num)
    ends = jax.random.uniform(box_key, one.shape, one.dtype, -1.0, 1.0)
    # A box is twice as wide as what holds f.
    found = [*held, 2.0 * middle - one, box.centre + 0.5 * box.half_width * ends]
    return [jnp.where(jnp.isfinite(u), u, middle) for u in found]

  @property
  def _annealing_nfe(self) -> int:
    return self.num_temperatures * (self.num_leapfrog + 1)

  def _annealed_over(self, num_temperatures: int) -> "ContinuousEnergy":
    """The model with so many steps of annealing; itself for 0."""
    return dataclasses.replace(self, num_temperatures=num_temperatures) if num_temperatures else self

  def _require_chains(self, params: Params, carry: Carry) -> None:
    """Raises ConfigError where there are no chains, NotFiniteError where one has left the data's range."""
    if "chains" not in carry:
      raise ConfigError(f"start is 'chains', but objective is {self.objective!r}, which keeps none; it must be 'base'.")
    if not isinstance(carry["chains"], Tracer) and (words := self.diagnose(params, carry)):
      raise NotFiniteError(words)

  # Data and values.

  def _real(self, x: Num[Array | np.ndarray, "batch *event"], key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """As real numbers; integers get noise. Raises SpecError where x is not of the spec's shape."""
    x = jnp.asarray(x)
    if x.shape[1:] != self.spec.event:
      raise SpecError(f"x has shape {x.shape}; it must be [batch, *spec.event] with spec.event {self.spec.event}.")
    x = x.astype(jnp.result_type(float))
    return x + jax.random.uniform(key, x.shape, x.dtype) if self.spec.is_discrete else x

  def standardize(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
                  key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """The values u of data; integers get noise. Raises SpecError where x is not of the spec's shape."""
    base = params["base"]
    return (self._real(x, key) - base["centre"]) / base["scale"]

  def _log_volume(self, params: Params) -> Float[Array, ""]:
    """log |dx/du|, in nats."""
    return jnp.sum(jnp.log(jnp.broadcast_to(params["base"]["scale"], self.spec.event)))

  def as_data(self, params: Params, u: Float[Array, "num *event"]) -> Num[Array, "num *event"]:
    """Values u in the data's own."""
    x = u * params["base"]["scale"] + params["base"]["centre"]
    return x if self.spec.levels is None else jnp.clip(jnp.floor(x), 0, self.spec.levels - 1).astype(jnp.int32)


def _total(x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  return jnp.sum(x, axis=tuple(range(1, x.ndim)))
