"""Energies with a network in them, and five ways to train it.

  pcd        maximum likelihood by chains from a replay buffer (Tieleman, 2008; Du and Mordatch, arXiv:1903.08689)
  cd         contrastive divergence: chains from the data (Hinton, 2002)
  denoising  denoising score matching (Vincent, 2011, equation 9): learns the density of noised data
  sliced     sliced score matching with variance reduction (Song et al., arXiv:1905.07088, equation 8)
  nce        noise-contrastive estimation against the base, with a learned log Z (Gutmann and Hyvarinen, 2012)

Score matching and NCE run no chains; what they draw for each example is drawn beforehand, for the whole minibatch.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.distributions.moments import moments
from gdm.energy.continuous.chains import Energy
from gdm.energy.continuous.energy import ContinuousEnergy
from gdm.energy.continuous.networks import energy_network, spectrally_normalized
from gdm.errors import ConfigError
from gdm.inference import langevin, metropolis
from gdm.inference.quadrature import Box
from gdm.model import Batch, Carry, LossFn, LossOutput, Mean, Objective, Params, PyTree


@dataclasses.dataclass(frozen=True)
class NetworkEnergy(ContinuousEnergy):
  """An energy with a network; see `ContinuousEnergy` for the other attributes.

  Parameters: beside the base's the group "model": "network", and "log_z" of noise-contrastive estimation.

  Attributes:
    network: a module of gdm/energy/continuous/networks.py; None is convolutional for images, else a perceptron.
    spectral: divide the hidden layers' kernels by their spectral norms where these are above 1.
    adjusted: accept or reject every step in training (MALA), which takes the step's bias away.
    restart: probability that a chain starts anew from the base.
    gap_limit: nats between the mean energies of data and chains beyond which training is an error.
    energy_penalty: weight of the mean squared energies of data and chains (Du and Mordatch, section 3.3).
    kl_weight: weight of the improved terms (Du et al., arXiv:2012.01316): the chains' energy, through their last step,
      minus their entropy.
    denoising_scale: deviation of the noise of denoising score matching, in deviations of the data.
  """

  network: nn.Module | None = None
  spectral: bool = False
  adjusted: bool = False
  restart: float = 0.05
  gap_limit: float = 1000.0
  energy_penalty: float = 0.0
  kl_weight: float = 0.0
  denoising_scale: float = 0.1

  known_objectives: ClassVar[Sequence[str]] = ("pcd", "cd", "denoising", "sliced", "nce")

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in ("gap_limit", "denoising_scale"):
      checks.positive(f"model.{name}", getattr(self, name))
    for name in ("energy_penalty", "kl_weight"):
      checks.at_least(f"model.{name}", getattr(self, name), 0)
    if not 0.0 <= self.restart <= 1.0:
      raise ConfigError(f"model.restart is {self.restart}; it must be a probability.")
    if self.adjusted and (self.kl_weight or not self.noise):
      field = "kl_weight" if self.kl_weight else "noise"
      raise ConfigError(f"model.adjusted and model.{field} is {getattr(self, field)}; a step that may be rejected "
                        "needs noise, and has no gradient for the improved terms.")
    _ = self.module

  # What a model supplies.

  @property
  @abc.abstractmethod
  def outputs(self) -> int | None:
    """Numbers that the network gives for each example; None is one, without an axis of its own."""

  @property
  @abc.abstractmethod
  def first_log_normalizer(self) -> float:
    """log Z of a fresh model in nats, from where noise-contrastive estimation learns it."""

  @abc.abstractmethod
  def init_base(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameter groups and carry of a base that has its own."""

  # What follows from it.

  @property
  def module(self) -> nn.Module:
    """The network, made for this data."""
    return energy_network(self.network, self.spec, self.outputs)

  def network_outputs(self, params: Params) -> Callable[[Float[Array, "batch *event"]], Float[Array, "batch *outputs"]]:
    """Return the network as a function of standardized values, in nats."""
    module, weights = self.module, params["model"]["network"]
    weights = spectrally_normalized(weights) if self.spectral else weights
    return lambda u: jnp.asarray(module.apply({"params": weights}, u))

  def centred_box(self, params: Params, reach: float) -> Box:
    """Return a box about 0 twice as far as `reach`, half the side of one that holds nearly all of f."""
    half_width = jnp.full(self.spec.event, 2.0 * reach, jnp.result_type(float))
    return Box(jnp.zeros_like(half_width), self.spread(params), half_width)

  def energy_objective(self, loss: LossFn | None = None) -> Objective:
    """Return the objective of the energy, by a loss that is `energy_loss` or has it as a part."""
    reason = (f"model.kl_weight is {self.kl_weight}, whose entropy is of the chains of a whole minibatch"
              if self.kl_weight and self.objective not in DRAWS else "")
    return Objective(groups=("model",), loss=loss or self.energy_loss, prepare=self.prepare, whole_batch=reason,
                     unit=UNITS[self.objective])

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return a network of energy zero; the base, and chains from it, by the batch."""
    network_key, noise_key, chain_key = jax.random.split(key, 3)
    x = self.real_values(batch["x"], noise_key)
    axes = (0,) if len(self.spec.event) == 1 else tuple(range(x.ndim))
    centre, scale, _ = moments(x, axes)
    u = (x - centre) / scale
    each = moments(u)
    base = {"centre": centre, "scale": scale, "mean": each.mean, "deviation": each.scale, "low": jnp.min(u),
            "high": jnp.max(u)}
    model: PyTree = {"network": self.module.init(network_key, u[:1]).get("params", {})}
    if self.objective == "nce":
      model["log_z"] = jnp.asarray(self.first_log_normalizer, u.dtype)
    groups, statistics = self.init_base(jax.random.fold_in(key, 0), batch)
    params, carry = {"model": model, "base": base, **groups}, dict(statistics)
    if self.objective == "pcd":
      drawn = self.base_of(params, carry).sample(chain_key, self.chain_shards * self.chains_per_shard)
      drawn = jnp.clip(drawn, base["low"], base["high"])
      carry["chains"] = drawn.reshape(self.chain_shards, self.chains_per_shard, *self.spec.event)
    return params, carry

  def energy_loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the objective's loss, which is no likelihood.

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

  # The losses, of a minibatch u [batch, *event] and what was drawn for it.

  def pcd(self, params: Params, carry: Carry, u: Float[Array, "batch *event"], noise: None,
          key: Key[Array, ""]) -> LossOutput:
    """Let chains go on, drawn without replacement of each part of the buffer; some start anew, within the data's range.
    """
    chains = carry["chains"]
    shards, held = chains.shape[:2]
    taken = -(-u.shape[0] // shards)
    if taken > held:
      raise ConfigError(f"model.chains_per_shard is {held}, so that the buffer has {shards * held} chains, fewer than "
                        f"the batch of {u.shape[0]}; it must be at least {taken}.")
    pick_key, restart_key, base_key, key = jax.random.split(key, 4)
    # The same places in all parts, so that no chain crosses from one device to another.
    picked = jax.random.choice(pick_key, held, (taken,), replace=False)
    start = chains[:, picked].reshape(-1, *chains.shape[2:])
    base = params["base"]
    fresh = jnp.clip(self.base_of(params, carry).sample(base_key, len(start)), base["low"], base["high"])
    anew = jax.random.bernoulli(restart_key, self.restart, (len(start),))
    start = jnp.where(anew.reshape(-1, *(1,) * (u.ndim - 1)), fresh, start)
    out, moved = self._contrast(params, carry, u, start, key)
    chains = chains.at[:, picked].set(moved.reshape(shards, taken, *chains.shape[2:]).astype(chains.dtype))
    return out._replace(carry={**carry, "chains": chains})

  def cd(self, params: Params, carry: Carry, u: Float[Array, "batch *event"], noise: None,
         key: Key[Array, ""]) -> LossOutput:
    """Start chains at the batch."""
    return self._contrast(params, carry, u, u, key)[0]._replace(carry=carry)

  def denoising(self, params: Params, carry: Carry, u: Float[Array, "batch *event"],
                noise: Float[Array, "batch *event"], key: Key[Array, ""]) -> LossOutput:
    """|sigma s(u + sigma z) + z|^2 / 2, so that the size of the loss does not depend on sigma."""
    energy = self.energy(params, carry)
    value, score = langevin.value_and_gradient(lambda u: -energy(u), u + self.denoising_scale * noise)
    each = 0.5 * _total(jnp.square(self.denoising_scale * score + noise))
    return LossOutput(jnp.mean(each), {"score_error": Mean.of(each), "data_energy": Mean.of(-value)}, carry)

  def sliced(self, params: Params, carry: Carry, u: Float[Array, "batch *event"], noise: Float[Array, "batch *event"],
             key: Key[Array, ""]) -> LossOutput:
    """v' (ds/du) v + |s|^2 / 2 for a normal v; up to a constant of the data, the Fisher divergence in expectation."""
    energy, direction = self.energy(params, carry), noise
    (value, score), (_, change) = jax.jvp(lambda u: langevin.value_and_gradient(lambda u: -energy(u), u),
                                          (u,), (direction,))
    each = _total(direction * change + 0.5 * jnp.square(score))
    return LossOutput(jnp.mean(each), {"score_loss": Mean.of(each), "data_energy": Mean.of(-value)}, carry)

  def nce(self, params: Params, carry: Carry, u: Float[Array, "batch *event"], noise: Float[Array, "batch *event"],
          key: Key[Array, ""]) -> LossOutput:
    """Logistic regression between data and as many draws of the base, by the log-ratio of their densities."""
    energy, base = self.energy(params, carry), self.base_of(params, carry)

    def log_ratio(u):
      return -energy(u) - params["model"]["log_z"] - base.log_prob(u)

    of_data, of_noise = log_ratio(u), log_ratio(noise)
    each = jax.nn.softplus(-of_data) + jax.nn.softplus(of_noise)
    metrics = {"nce": Mean.of(each), "accuracy": Mean.of(0.5 * ((of_data > 0) * 1.0 + (of_noise < 0) * 1.0)),
               "log_z": Mean.of(params["model"]["log_z"])}
    return LossOutput(jnp.mean(each), metrics, carry)

  def _contrast(self, params: Params, carry: Carry, u: Array, start: Array,
                key: Key[Array, ""]) -> tuple[LossOutput, Array]:
    """Return the energy gap, whose gradient is -d log p's where chains are draws of p, and the chains after their walk.
    """
    fixed = jax.lax.stop_gradient(params)
    energy, still = self.energy(params, carry), self.energy(fixed, carry)
    walk = self._adjusted if self.adjusted else self._unadjusted
    moved, acceptance = walk(energy, still, self.spread(fixed), key, start)
    fake = jax.lax.stop_gradient(moved)
    of_data, of_fake = energy(u), energy(fake)
    loss = jnp.mean(of_data) - jnp.mean(of_fake)
    gap = jnp.where(jnp.abs(loss) > self.gap_limit, jnp.sign(loss) * jnp.inf, loss)
    metrics = {"energy_gap": Mean.of(gap), "data_energy": Mean.of(of_data), "chain_energy": Mean.of(of_fake),
               "chain_norm": Mean.of(jnp.sqrt(_total(jnp.square(fake)))), "chain_min": Mean.of(jnp.min(fake)),
               "chain_max": Mean.of(jnp.max(fake)),
               "chain_excess": Mean.of(excess(fake, params["base"], self.range_margin)), **acceptance}
    if self.energy_penalty:
      size = jnp.mean(jnp.square(of_data)) + jnp.mean(jnp.square(of_fake))
      loss, metrics["energy_size"] = loss + self.energy_penalty * size, Mean.of(size)
    if self.kl_weight:
      kl = jnp.mean(still(moved)) - nearest_neighbour_entropy(moved)
      loss, metrics["chain_kl"] = loss + self.kl_weight * kl, Mean.of(kl)
    return LossOutput(loss, metrics, {}), fake

  def _unadjusted(self, energy: Energy, still: Energy, scale: Array, key: Key[Array, ""],
                  start: Array) -> tuple[Array, dict[str, Mean]]:
    """Take Langevin steps; the improved terms send gradients through the last one, which is as the others otherwise."""
    inside = self.num_steps - bool(self.kl_weight)  # what stands outside the loop as well is compiled twice
    sizes, temperature = jnp.full(inside, self.step_size), self.noise**2
    moved = jax.lax.stop_gradient(langevin.walk(key, start, lambda u: -still(u), sizes, temperature, scale))
    if self.kl_weight:
      moved = langevin.step(jax.random.fold_in(key, inside), moved, lambda u: -energy(u), self.step_size, temperature,
                            scale)
    return moved, {}

  def _adjusted(self, energy: Energy, still: Energy, scale: Array, key: Key[Array, ""],
                start: Array) -> tuple[Array, dict[str, Mean]]:
    """Accept or reject the same proposals: Langevin at temperature T is Langevin of f^(1 / T) with T times the step."""
    temperature = self.noise**2

    def log_prob(u):
      return -still(u) / temperature

    kernel = metropolis.mala(log_prob, self.step_size * temperature, scale)
    moved = metropolis.walk(key, start, log_prob, kernel, self.num_steps)
    return moved.x, {"chain_acceptance": Mean.of(moved.acceptance)}


LOSSES: Mapping[str, Callable[..., LossOutput]] = {
    "pcd": NetworkEnergy.pcd, "cd": NetworkEnergy.cd, "denoising": NetworkEnergy.denoising,
    "sliced": NetworkEnergy.sliced, "nce": NetworkEnergy.nce}
UNITS: Mapping[str, str] = {"pcd": "nats", "cd": "nats", "denoising": "half squared error of the noise",
                            "sliced": "Fisher divergence but for a constant", "nce": "nats"}


def _standard_normal(model: NetworkEnergy, params: Params, carry: Carry, u: Float[Array, "batch *event"],
                     key: Key[Array, ""]) -> Float[Array, "batch *event"]:
  return jax.random.normal(key, u.shape, u.dtype)


def _from_base(model: NetworkEnergy, params: Params, carry: Carry, u: Float[Array, "batch *event"],
               key: Key[Array, ""]) -> Float[Array, "batch *event"]:
  return model.base_of(params, carry).sample(key, len(u))


# Objective -> what its loss draws for each example of a minibatch: (model, params, carry, u, key) -> noise.
DRAWS: Mapping[str, Callable[..., Float[Array, "batch *event"]]] = {
    "denoising": _standard_normal, "sliced": _standard_normal, "nce": _from_base}


def excess(chains: Float[Array, "chains *event"], base: Params, margin: float) -> Float[Array, ""]:
  """Return how far the chain that is farthest out is beyond the data's range, in its widths.

  It is 0 within the range, and infinite beyond `margin`, where training has diverged.
  """
  width = base["high"] - base["low"]
  most = jnp.maximum(base["low"] - jnp.min(chains), jnp.max(chains) - base["high"]) / width
  return jnp.where(most > margin, jnp.inf, jnp.maximum(most, 0.0))


def nearest_neighbour_entropy(x: Float[Array, "points *event"]) -> Float[Array, ""]:
  """Return the differential entropy in nats, up to a constant: dimensions times the mean log distance to the nearest
  other point.

  (Kozachenko and Leonenko, 1987; Du et al., arXiv:2012.01316, equation 8, leave the factor out.)
  """
  flat = x.reshape(x.shape[0], -1)
  fixed = jax.lax.stop_gradient(flat)
  squares = jnp.sum(jnp.square(fixed), axis=1)
  distances = squares[:, None] + squares - 2.0 * fixed @ fixed.T
  nearest = jnp.argmin(distances + jnp.diag(jnp.full(len(flat), jnp.inf, flat.dtype)), axis=1)
  # Both ends of a distance are draws of the model, but the neighbour is a constant of the estimate, as in the paper.
  squared = jnp.sum(jnp.square(flat - fixed[nearest]), axis=1)
  return 0.5 * flat.shape[1] * jnp.mean(jnp.log(squared + jnp.finfo(flat.dtype).tiny))


def _total(x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  return jnp.sum(x, axis=tuple(range(1, x.ndim)))
