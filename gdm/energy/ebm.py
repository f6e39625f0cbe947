"""Energy-based models of real numbers: a network's energy on a Gaussian reference.

log f(u) = -E(u) - |u|^2 / (2 reference^2) of standardized data u (Xie et al., arXiv:1602.03264, equation 1).
Perceptrons and convolutions grow at most linearly at infinity, so that with the reference every f is a density; a fresh
model, of energy zero, is the reference itself. Integers are dequantized: u is of x + noise with uniform noise in
[0, 1), and log p(x) >= E[log p(u)] + log |du/dx| (Theis et al., arXiv:1511.01844, section 3.1); a score is one draw.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from gdm.dataspec import DataSpec
from gdm.energy.losses import LOSSES, Energy
from gdm.errors import ConfigError, NotFiniteError, SpecError, nearest
from gdm.inference import annealed_importance as annealing
from gdm.inference import langevin, metropolis
from gdm.inference.quadrature import MOST_DIMS, log_integral
from gdm.likelihood import Kind, LogNormalizer
from gdm.model import Batch, Carry, LossOutput, Objective, Params, Samples
from gdm.networks.energy_networks import ConvolutionalEnergy, MLPEnergy, QuadraticEnergy, spectrally_normalized

NETWORKS: Mapping[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "mlp": MLPEnergy, "convolutional": ConvolutionalEnergy, "quadratic": lambda hidden: QuadraticEnergy()}
NORMALIZERS = ("auto", "quadrature", "ais")
SAMPLERS = ("langevin", "mala", "hmc")
STARTS = ("base", "chains")
QUADRATURE_WIDTH = 8.0  # half the box's side, in deviations of the reference
LEAST_SCALE = 1e-6  # what never changes among the first examples would have an infinite density


@dataclasses.dataclass(frozen=True)
class EBM:
  """A network's energy on a Gaussian reference.

  Parameters: the group "model": "network", and "log_z" of noise-contrastive estimation; and "base", which nothing
  moves: how data is standardized (a vector's dimensions each, other events as a whole), the mean and deviation of every
  dimension of the standardized data, and its range.
  Carry: "chains" [chain_shards, chains_per_shard, *event], the replay buffer of standardized values, for "persistent".

  Attributes:
    spec: the data, real numbers or integers.
    network: "mlp", "convolutional" or "quadratic"; "auto" is convolutional for images.
    hidden: sizes of the network's layers, or widths of its convolutions.
    spectral: divide the hidden layers' kernels by their spectral norms where these are above 1.
    reference: deviation of the Gaussian reference, in those of the data.
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
    normalizer: "quadrature" or "ais"; "auto" is quadrature in 1 and 2 dimensions.
    num_temperatures: steps between the base and the model, in annealing.
    num_chains: chains that estimate log Z, in annealing.
    hmc_step_size: of annealing's leapfrog, in deviations of each dimension.
    num_leapfrog: leapfrog steps of a move.
  """

  spec: DataSpec
  network: str = "auto"
  hidden: tuple[int, ...] = (128, 128)
  spectral: bool = False
  reference: float = 1.0
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
  hmc_step_size: float = 0.2
  num_leapfrog: int = 4

  def __post_init__(self) -> None:
    for name, known in (("network", ("auto", *NETWORKS)), ("objective", LOSSES), ("normalizer", NORMALIZERS)):
      if getattr(self, name) not in known:
        raise ConfigError(f"model.{name} is {getattr(self, name)!r}; {nearest(getattr(self, name), known)}")
    for name, least in (("num_steps", 1), ("chain_shards", 1), ("chains_per_shard", 1), ("num_temperatures", 1),
                        ("num_chains", 2), ("num_leapfrog", 1)):
      if getattr(self, name) < least:
        raise ConfigError(f"model.{name} is {getattr(self, name)}; it must be at least {least}.")
    for name in ("reference", "step_size", "gap_limit", "denoising_scale", "hmc_step_size"):
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
    if self.network == "convolutional" and len(self.spec.event) != 3:
      raise SpecError(f"model.network is 'convolutional', but spec.event is {self.spec.event}; it must be images of "
                      "(height, width, channels).")
    if self.normalizer == "quadrature" and self.spec.num_dims > MOST_DIMS:
      raise ConfigError(f"model.normalizer is 'quadrature', but the data has {self.spec.num_dims} dimensions; a grid "
                        f"takes at most {MOST_DIMS}: choose 'ais'.")
    self._network()

  # Training.

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(groups=("model",), loss=self.loss),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """A network of energy zero; the base, and chains from it, by the batch."""
    network_key, noise_key, chain_key = jax.random.split(key, 3)
    x = self._real(batch["x"], noise_key)
    axes = (0,) if len(self.spec.event) == 1 else tuple(range(x.ndim))
    centre, scale = jnp.mean(x, axis=axes), jnp.maximum(jnp.std(x, axis=axes), LEAST_SCALE)
    u = (x - centre) / scale
    base = {"centre": centre, "scale": scale, "mean": jnp.mean(u, axis=0),
            "deviation": jnp.maximum(jnp.std(u, axis=0), LEAST_SCALE), "low": jnp.min(u), "high": jnp.max(u)}
    model = {"network": self._network().init(network_key, u[:1]).get("params", {})}
    if self.objective == "nce":
      # That of the reference, which is what a fresh model is.
      model["log_z"] = jnp.asarray(self.spec.num_dims * math.log(self.reference * math.sqrt(2.0 * math.pi)), u.dtype)
    params, carry = {"model": model, "base": base}, {}
    if self.objective == "persistent":
      drawn = jnp.clip(self.sample_base(params, chain_key, self.chain_shards * self.chains_per_shard),
                       base["low"], base["high"])
      carry = {"chains": drawn.reshape(self.chain_shards, self.chains_per_shard, *self.spec.event)}
    return params, carry

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """The objective's loss, which is no likelihood.

    A metric that is not finite ends the run by its name and step: chains beyond the data's range make "chain_excess"
    infinite, and a gap beyond its limit, as where chains are stuck while energies grow, "energy_gap".
    """
    noise_key, key = jax.random.split(key)
    return LOSSES[self.objective](self, params, carry, self._values(params, batch["x"], noise_key), key)

  # The density.

  def energy(self, params: Params) -> Energy:
    """-log f of standardized values u [batch, *event], in nats."""
    network, weights = self._network(), params["model"]["network"]
    weights = spectrally_normalized(weights) if self.spectral else weights
    return lambda u: jnp.asarray(network.apply({"params": weights}, u)) + 0.5 * _total(jnp.square(u / self.reference))

  def spread(self, params: Params) -> Float[Array, "*event"]:
    """The deviation of every standardized dimension: the scale on which samplers move."""
    return params["base"]["deviation"]

  def base_log_prob(self, params: Params, u: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    """Log-density of the base, independent Gaussians at the data's moments, in nats."""
    base = params["base"]
    return _total(jax.scipy.stats.norm.logpdf(u, base["mean"], base["deviation"]))

  def sample_base(self, params: Params, key: Key[Array, ""], num: int) -> Float[Array, "num *event"]:
    base = params["base"]
    return base["mean"] + base["deviation"] * jax.random.normal(key, (num, *self.spec.event), base["mean"].dtype)

  def unnormalized_log_prob(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, " batch"]:
    """log f of the data as served, in nats, Jacobian included. Integers get noise, the same at every call."""
    u = self._values(params, batch["x"], jax.random.key(0))
    scale = jnp.broadcast_to(params["base"]["scale"], self.spec.event)
    return -self.energy(params)(u) - jnp.sum(jnp.log(scale))

  def log_normalizer(self, params: Params, carry: Carry, key: Key[Array, ""]) -> tuple[LogNormalizer, ...]:
    """log Z in nats; and that which noise-contrastive estimation learned, an estimate, as a second one.

    By quadrature it is exact up to the grid's error, which stands as its standard error; by annealing it is below the
    truth on average. Of integers the bound by dequantization enters here, on the other side.
    """
    found = _log_normalizer(self, params, key)
    if "log_z" not in params["model"]:
      return (found,)
    return found, LogNormalizer(jnp.asarray(params["model"]["log_z"]), jnp.zeros(()), Kind.ESTIMATE)

  # Draws.

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             num_steps: int = 0, sampler: str = "hmc", start: str = "base") -> Samples:
    """Draws [num, *event] in the data's values.

    Args:
      params: the parameters.
      carry: the carry.
      key: of these draws.
      num: how many.
      condition: must be None.
      num_steps: further steps at the model itself.
      sampler: of the further steps: "langevin" as in training, "mala" of the same step, or "hmc".
      start: "base" anneals draws from the base over `num_temperatures` steps. "chains" takes those of the buffer.

    Returns:
      The draws, and of the sampler: "nfe", gradients of a chain; "acceptance", the mean of the further steps, 1 for
      Langevin which rejects nothing; "divergent", the share of chains that ever left the finite numbers.

    Raises:
      ConfigError: an unknown sampler or start, too few steps, or chains where there are none.
      NotFiniteError: a chain of the buffer has left the data's range; names it.
      SpecError: a condition is given.
    """
    if condition is not None:
      raise SpecError(f"{type(self).__name__} is not conditional; condition must be None.")
    for name, value, known in (("sampler", sampler, SAMPLERS), ("start", start, STARTS)):
      if value not in known:
        raise ConfigError(f"{name} is {value!r}; {nearest(value, known)}")
    if num_steps < 0:
      raise ConfigError(f"num_steps is {num_steps}; it must be at least 0.")
    if start == "chains":
      self.check_chains(params, carry)
    annealed = self.num_temperatures * (self.num_leapfrog + 1) if start == "base" else 0
    each = {"langevin": 1, "mala": 2, "hmc": self.num_leapfrog + 1}[sampler]
    moved = _sample(self, params, carry, key, num, num_steps, sampler, start)
    info = {"nfe": annealed + each * num_steps, "divergent": jnp.mean(moved.divergent * 1.0)}
    if num_steps:
      info["acceptance"] = jnp.mean(moved.acceptance)
    return Samples(self._data(params, moved.x), info)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Keeps x where `known`; the rest starts at the base and is annealed to the model given the known part."""
    known = jnp.asarray(known)
    drawn, divergent = _complete(self, params, key, jnp.asarray(x), known)
    made = jnp.where(known, jnp.asarray(x, drawn.dtype), drawn)
    return Samples(made, {"nfe": self.num_temperatures * (self.num_leapfrog + 1), "divergent": jnp.mean(divergent)})

  def check_chains(self, params: Params, carry: Carry) -> None:
    """Raises a NotFiniteError naming the first chain that is NaN or beyond the data's range by `range_margin`.

    Raises ConfigError where there are no chains.
    """
    if "chains" not in carry:
      raise ConfigError(f"start is 'chains', but objective is {self.objective!r}, which keeps none; it must be 'base'.")
    chains = np.asarray(carry["chains"]).reshape(-1, self.spec.num_dims)
    low, high = float(params["base"]["low"]), float(params["base"]["high"])
    reach = self.range_margin * (high - low)
    within = np.all((chains >= low - reach) & (chains <= high + reach), axis=1)
    for index in np.flatnonzero(~within)[:1]:
      here = f"[{chains[index].min():g}, {chains[index].max():g}]"
      raise NotFiniteError(f"chain {index} of {len(chains)} lies in {here}; the data, standardized, lies in [{low:g}, "
                           f"{high:g}]: training has diverged.")

  def path(self, params: Params, known: Bool[Array, "*event"] | None = None) -> annealing.Path:
    """From the base to the model, geometrically, by Hamiltonian Monte Carlo; known dimensions do not move."""
    energy, scale = self.energy(params), self.spread(params)
    scale = scale if known is None else jnp.where(known, 0.0, scale)

    def log_density(u, beta):
      return (1.0 - beta) * self.base_log_prob(params, u) - beta * energy(u)

    def transition(key, u, beta):
      return metropolis.hmc_step(key, u, lambda u: log_density(u, beta), self.hmc_step_size, self.num_leapfrog, scale).x

    return annealing.Path(log_density, transition, lambda key, num: self.sample_base(params, key, num), jnp.zeros(()))

  # Data and values.

  def _network(self) -> nn.Module:
    automatic = "convolutional" if self.spec.is_image else "mlp"
    return NETWORKS[automatic if self.network == "auto" else self.network](self.hidden)

  def _real(self, x: Num[Array | np.ndarray, "batch *event"], key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """As real numbers; integers get noise. Raises SpecError where x is not of the spec's shape."""
    x = jnp.asarray(x)
    if x.shape[1:] != self.spec.event:
      raise SpecError(f"x has shape {x.shape}; it must be [batch, *spec.event] with spec.event {self.spec.event}.")
    x = x.astype(jnp.result_type(float))
    return x + jax.random.uniform(key, x.shape, x.dtype) if self.spec.is_discrete else x

  def _values(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
              key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """Standardized."""
    base = params["base"]
    return (self._real(x, key) - base["centre"]) / base["scale"]

  def _data(self, params: Params, u: Float[Array, "num *event"]) -> Num[Array, "num *event"]:
    """In the data's own values."""
    x = u * params["base"]["scale"] + params["base"]["centre"]
    return x if self.spec.levels is None else jnp.clip(jnp.floor(x), 0, self.spec.levels - 1).astype(jnp.int32)


def _total(x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  return jnp.sum(x, axis=tuple(range(1, x.ndim)))


# Compiled, since callers ask for these as they are; a model is hashable and holds no arrays.


@functools.partial(jax.jit, static_argnames=("model",))
def _log_normalizer(model: EBM, params: Params, key: Key[Array, ""]) -> LogNormalizer:
  by_dequantization = Kind.UPPER_BOUND if model.spec.is_discrete else Kind.EXACT
  automatic = "quadrature" if model.spec.num_dims <= MOST_DIMS else "ais"
  found, kind = _BY_NAME[automatic if model.normalizer == "auto" else model.normalizer](model, params, key)
  return LogNormalizer(*found, kind + by_dequantization)


def _by_quadrature(model: EBM, params: Params, key: Key[Array, ""]) -> tuple[tuple[Array, Array], Kind]:
  energy, event = model.energy(params), model.spec.event
  width = QUADRATURE_WIDTH * model.reference
  return log_integral(lambda u: -energy(u.reshape(-1, *event)), model.spec.num_dims, width), Kind.EXACT


def _by_annealing(model: EBM, params: Params, key: Key[Array, ""]) -> tuple[tuple[Array, Array], Kind]:
  annealed = annealing.forward(model.path(params), annealing.ladder(model.num_temperatures), key, model.num_chains)
  found = annealing.estimate(annealed.log_weights)
  return (found.nats, found.stderr), Kind.LOWER_BOUND


_BY_NAME = {"quadrature": _by_quadrature, "ais": _by_annealing}


def _langevin(model: EBM, log_prob: langevin.LogProb, scale: Array) -> metropolis.Kernel:
  def kernel(key, u):
    moved = langevin.step(key, u, log_prob, model.step_size, model.noise**2, scale)
    finite = jnp.isfinite(moved).reshape(len(u), -1).all(axis=1)
    return metropolis.Move(moved, jnp.ones(len(u), u.dtype), ~finite)
  return kernel


_KERNELS: Mapping[str, Callable[[EBM, langevin.LogProb, Array], metropolis.Kernel]] = {
    "langevin": _langevin,
    "mala": lambda model, log_prob, scale: lambda key, u: metropolis.mala_step(
        key, u, log_prob, model.step_size, scale),
    "hmc": lambda model, log_prob, scale: lambda key, u: metropolis.hmc_step(
        key, u, log_prob, model.hmc_step_size, model.num_leapfrog, scale),
}


def _from_base(model: EBM, params: Params, carry: Carry, key: Key[Array, ""], num: int) -> Array:
  return annealing.forward(model.path(params), annealing.ladder(model.num_temperatures), key, num).x


def _from_chains(model: EBM, params: Params, carry: Carry, key: Key[Array, ""], num: int) -> Array:
  chains = carry["chains"].reshape(-1, *model.spec.event)
  return jax.random.permutation(key, chains)[jnp.arange(num) % len(chains)]


_FROM: Mapping[str, Callable[..., Array]] = {"base": _from_base, "chains": _from_chains}


@functools.partial(jax.jit, static_argnames=("model", "num", "num_steps", "sampler", "start"))
def _sample(model: EBM, params: Params, carry: Carry, key: Key[Array, ""], num: int, num_steps: int, sampler: str,
            start: str) -> metropolis.Move:
  start_key, walk_key = jax.random.split(key)
  energy = model.energy(params)
  u = _FROM[start](model, params, carry, start_key, num)
  return metropolis.walk(walk_key, u, _KERNELS[sampler](model, lambda u: -energy(u), model.spread(params)), num_steps)


@functools.partial(jax.jit, static_argnames=("model",))
def _complete(model: EBM, params: Params, key: Key[Array, ""], x: Num[Array, "batch *event"],
              known: Bool[Array, "*event"]) -> tuple[Array, Array]:
  noise_key, base_key, key = jax.random.split(key, 3)
  path = model.path(params, known)
  start = jnp.where(known, model._values(params, x, noise_key), model.sample_base(params, base_key, len(x)))
  betas = jnp.asarray(annealing.ladder(model.num_temperatures)[1:], start.dtype)

  def step(u, rung):
    index, beta = rung
    return path.transition(jax.random.fold_in(key, index), u, beta), None

  u = jax.lax.scan(step, start, (jnp.arange(len(betas)), betas))[0]
  return model._data(params, u), ~jnp.isfinite(u).reshape(len(x), -1).all(axis=1) * 1.0
