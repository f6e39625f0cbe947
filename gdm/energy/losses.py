"""Ways to train an unnormalized density of real numbers, by name.

  persistent   maximum likelihood by chains from a replay buffer (Tieleman, 2008; Du and Mordatch, arXiv:1903.08689)
  contrastive  contrastive divergence: chains from the data (Hinton, 2002)
  denoising    denoising score matching (Vincent, 2011, equation 9): learns the density of noised data
  sliced       sliced score matching with variance reduction (Song et al., arXiv:1905.07088, equation 8)
  nce          noise-contrastive estimation against the base, with a learned log Z (Gutmann and Hyvarinen, 2012)

All are of values u [batch, *event], standardized data. Score matching and NCE run no chains; what they draw for each
example is drawn beforehand, for the whole minibatch (`DRAWS`).
"""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.errors import ConfigError
from gdm.inference import langevin, metropolis
from gdm.model import Carry, LossOutput, Mean, Params

Energy = Callable[[Float[Array, "batch *event"]], Float[Array, " batch"]]


@runtime_checkable
class Trainable(Protocol):
  """What the losses need of a model."""

  @property
  def num_steps(self) -> int: ...

  @property
  def step_size(self) -> float: ...

  @property
  def noise(self) -> float: ...

  @property
  def adjusted(self) -> bool: ...

  @property
  def restart(self) -> float: ...

  @property
  def range_margin(self) -> float: ...

  @property
  def gap_limit(self) -> float: ...

  @property
  def energy_penalty(self) -> float: ...

  @property
  def kl_weight(self) -> float: ...

  @property
  def denoising_scale(self) -> float: ...

  def energy(self, params: Params, carry: Carry) -> Energy: ...

  def base_log_prob(self, params: Params, carry: Carry,
                    u: Float[Array, "batch *event"]) -> Float[Array, " batch"]: ...

  def sample_base(self, params: Params, carry: Carry, key: Key[Array, ""], num: int) -> Float[Array, "num *event"]: ...

  def spread(self, params: Params) -> Float[Array, "*event"]: ...


# (model, params, carry, u, noise [batch, *event] of `DRAWS` or None, key) -> loss of a minibatch.
Loss = Callable[..., LossOutput]


def persistent(model: Trainable, params: Params, carry: Carry, u: Float[Array, "batch *event"],
               noise: None, key: Key[Array, ""]) -> LossOutput:
  """Of each part of the buffer, chains drawn without replacement go on; some start anew, within the data's range."""
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
  fresh = jnp.clip(model.sample_base(params, carry, base_key, len(start)), base["low"], base["high"])
  anew = jax.random.bernoulli(restart_key, model.restart, (len(start),))
  start = jnp.where(anew.reshape(-1, *(1,) * (u.ndim - 1)), fresh, start)
  out, moved = _contrast(model, params, carry, u, start, key)
  chains = chains.at[:, picked].set(moved.reshape(shards, taken, *chains.shape[2:]).astype(chains.dtype))
  return out._replace(carry={**carry, "chains": chains})


def contrastive(model: Trainable, params: Params, carry: Carry, u: Float[Array, "batch *event"],
                noise: None, key: Key[Array, ""]) -> LossOutput:
  """Chains start at the batch."""
  return _contrast(model, params, carry, u, u, key)[0]._replace(carry=carry)


def denoising(model: Trainable, params: Params, carry: Carry, u: Float[Array, "batch *event"],
              noise: Float[Array, "batch *event"], key: Key[Array, ""]) -> LossOutput:
  """|sigma s(u + sigma z) + z|^2 / 2, so that the size of the loss does not depend on sigma."""
  energy = model.energy(params, carry)
  value, score = langevin.value_and_gradient(lambda u: -energy(u), u + model.denoising_scale * noise)
  each = 0.5 * _total(jnp.square(model.denoising_scale * score + noise))
  return LossOutput(jnp.mean(each), {"score_error": Mean.of(each), "data_energy": Mean.of(-value)}, carry)


def sliced(model: Trainable, params: Params, carry: Carry, u: Float[Array, "batch *event"],
           noise: Float[Array, "batch *event"], key: Key[Array, ""]) -> LossOutput:
  """v' (ds/du) v + |s|^2 / 2 for a normal v; up to a constant of the data, the Fisher divergence in expectation."""
  energy, direction = model.energy(params, carry), noise
  (value, score), (_, change) = jax.jvp(lambda u: langevin.value_and_gradient(lambda u: -energy(u), u),
                                        (u,), (direction,))
  each = _total(direction * change + 0.5 * jnp.square(score))
  return LossOutput(jnp.mean(each), {"score_loss": Mean.of(each), "data_energy": Mean.of(-value)}, carry)


def nce(model: Trainable, params: Params, carry: Carry, u: Float[Array, "batch *event"],
        noise: Float[Array, "batch *event"], key: Key[Array, ""]) -> LossOutput:
  """Logistic regression between data and as many draws of the base, by the log-ratio of their densities."""
  energy = model.energy(params, carry)

  def log_ratio(u):
    return -energy(u) - params["model"]["log_z"] - model.base_log_prob(params, carry, u)

  of_data, of_noise = log_ratio(u), log_ratio(noise)
  each = jax.nn.softplus(-of_data) + jax.nn.softplus(of_noise)
  metrics = {"nce": Mean.of(each), "accuracy": Mean.of(0.5 * ((of_data > 0) * 1.0 + (of_noise < 0) * 1.0)),
             "log_z": Mean.of(params["model"]["log_z"])}
  return LossOutput(jnp.mean(each), metrics, carry)


def _contrast(model: Trainable, params: Params, carry: Carry, u: Array, start: Array,
              key: Key[Array, ""]) -> tuple[LossOutput, Array]:
  """The energy gap, whose gradient is -d log p's where chains are draws of p, and the chains after their walk."""
  fixed = jax.lax.stop_gradient(params)
  energy, still = model.energy(params, carry), model.energy(fixed, carry)
  walk = _adjusted if model.adjusted else _unadjusted
  moved, acceptance = walk(model, energy, still, model.spread(fixed), key, start)
  fake = jax.lax.stop_gradient(moved)
  of_data, of_fake = energy(u), energy(fake)
  loss = jnp.mean(of_data) - jnp.mean(of_fake)
  gap = jnp.where(jnp.abs(loss) > model.gap_limit, jnp.sign(loss) * jnp.inf, loss)
  metrics = {"energy_gap": Mean.of(gap), "data_energy": Mean.of(of_data), "chain_energy": Mean.of(of_fake),
             "chain_norm": Mean.of(jnp.sqrt(_total(jnp.square(fake)))), "chain_min": Mean.of(jnp.min(fake)),
             "chain_max": Mean.of(jnp.max(fake)),
             "chain_excess": Mean.of(excess(fake, params["base"], model.range_margin)), **acceptance}
  if model.energy_penalty:
    size = jnp.mean(jnp.square(of_data)) + jnp.mean(jnp.square(of_fake))
    loss, metrics["energy_size"] = loss + model.energy_penalty * size, Mean.of(size)
  if model.kl_weight:
    kl = jnp.mean(still(moved)) - nearest_neighbour_entropy(moved)
    loss, metrics["chain_kl"] = loss + model.kl_weight * kl, Mean.of(kl)
  return LossOutput(loss, metrics, {}), fake


def _unadjusted(model: Trainable, energy: Energy, still: Energy, scale: Array, key: Key[Array, ""],
                start: Array) -> tuple[Array, dict[str, Mean]]:
  """Langevin steps; the improved terms send gradients through the last one, which is as the others otherwise."""
  inside = model.num_steps - bool(model.kl_weight)  # what stands outside the loop as well is compiled twice
  sizes, temperature = jnp.full(inside, model.step_size), model.noise**2
  moved = jax.lax.stop_gradient(langevin.walk(key, start, lambda u: -still(u), sizes, temperature, scale))
  if model.kl_weight:
    moved = langevin.step(jax.random.fold_in(key, inside), moved, lambda u: -energy(u), model.step_size, temperature,
                          scale)
  return moved, {}


def _adjusted(model: Trainable, energy: Energy, still: Energy, scale: Array, key: Key[Array, ""],
              start: Array) -> tuple[Array, dict[str, Mean]]:
  """The same proposals, accepted or not: Langevin at temperature T is Langevin of f^(1 / T) with T times the step."""
  temperature = model.noise**2

  def log_prob(u):
    return -still(u) / temperature

  kernel = metropolis.mala(log_prob, model.step_size * temperature, scale)
  moved = metropolis.walk(key, start, log_prob, kernel, model.num_steps)
  return moved.x, {"chain_acceptance": Mean.of(moved.acceptance)}


def excess(chains: Float[Array, "chains *event"], base: Params, margin: float) -> Float[Array, ""]:
  """How far the chain that is farthest out is beyond the data's range, in its widths: 0 within, infinite beyond
  `margin`, where training has diverged."""
  width = base["high"] - base["low"]
  most = jnp.maximum(base["low"] - jnp.min(chains), jnp.max(chains) - base["high"]) / width
  return jnp.where(most > margin, jnp.inf, jnp.maximum(most, 0.0))


def nearest_neighbour_entropy(x: Float[Array, "points *event"]) -> Float[Array, ""]:
  """Differential entropy in nats, up to a constant: dimensions times the mean log distance to the nearest other point.

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


def standard_normal(model: Trainable, params: Params, carry: Carry, u: Float[Array, "batch *event"],
                    key: Key[Array, ""]) -> Float[Array, "batch *event"]:
  """Draw standard normal numbers in the shape of u."""
  return jax.random.normal(key, u.shape, u.dtype)


def from_base(model: Trainable, params: Params, carry: Carry, u: Float[Array, "batch *event"],
              key: Key[Array, ""]) -> Float[Array, "batch *event"]:
  """Draw as many examples of the base as the batch has."""
  return model.sample_base(params, carry, key, len(u))


LOSSES: Mapping[str, Loss] = {"persistent": persistent, "contrastive": contrastive, "denoising": denoising,
                              "sliced": sliced, "nce": nce}
UNITS: Mapping[str, str] = {"persistent": "nats", "contrastive": "nats", "denoising": "half squared error of the noise",
                            "sliced": "Fisher divergence but for a constant", "nce": "nats"}

# Objective -> what its loss draws for each example of a minibatch: (model, params, carry, u, key) -> noise.
DRAWS: Mapping[str, Callable[..., Float[Array, "batch *event"]]] = {
    "denoising": standard_normal, "sliced": standard_normal, "nce": from_base}
