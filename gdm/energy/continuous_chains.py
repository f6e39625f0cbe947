"""Chains of a density of real numbers: draws, completions and clean pictures, and whether a buffer's chains are lost.

The functions are those of ContinuousEnergy, which is the `model` of all of them; they are compiled, since callers ask
for them as they are, and a model is hashable and holds no arrays.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Num

from gdm.inference import annealed_importance as annealing
from gdm.inference import langevin, metropolis
from gdm.inference.watched import watch
from gdm.model import Carry, Params

KERNELS: Mapping[str, Callable[[Any, langevin.LogProb, Array], metropolis.Kernel]] = {
    "langevin": lambda model, log_prob, scale: metropolis.unadjusted(
        log_prob, model.step_size, model.noise**2, scale),
    "mala": lambda model, log_prob, scale: metropolis.mala(log_prob, model.step_size, scale),
    "hmc": lambda model, log_prob, scale: metropolis.hmc(log_prob, model.hmc_step_size, model.num_leapfrog, scale),
}


def _from_base(model: Any, params: Params, carry: Carry, key: Key[Array, ""], num: int,
               condition: Array | None, temperature: Float[Array, ""]) -> Array:
  ladder = annealing.ladder(model.num_temperatures)
  return annealing.forward(model.path(params, carry, condition, temperature), ladder, key, num).x


def _from_chains(model: Any, params: Params, carry: Carry, key: Key[Array, ""], num: int,
                 condition: Array | None, temperature: Float[Array, ""]) -> Array:
  chains = carry["chains"].reshape(-1, *model.spec.event)
  return jax.random.permutation(key, chains)[jnp.arange(num) % len(chains)]


STARTS: Mapping[str, Callable[..., Array]] = {"base": _from_base, "chains": _from_chains}


@functools.partial(jax.jit, static_argnames=("model", "num", "num_steps", "sampler", "start"))
def sample(model: Any, params: Params, carry: Carry, key: Key[Array, ""], num: int,
           condition: Array | None, num_steps: int, sampler: str, start: str,
           temperature: Float[Array, ""]) -> metropolis.Walk:
  """Standardized draws, after `num_steps` steps of a kernel from where a start of STARTS puts them."""
  start_key, walk_key = jax.random.split(key)
  energy = model.energy(params, carry, condition)
  u = STARTS[start](model, params, carry, start_key, num, condition, temperature)
  if not num_steps:  # no gradient for a walk of none
    return metropolis.Walk(u, jnp.ones(num, u.dtype), ~_finite(u), jnp.zeros((num, 0), u.dtype))

  def log_prob(u):
    return -energy(u) / temperature

  kernel = KERNELS[sampler](model, log_prob, jnp.sqrt(temperature) * model.spread(params))
  known = [u, *([carry["chains"].reshape(-1, *model.spec.event)] if "chains" in carry else [])]
  walked = metropolis.walk(walk_key, u, log_prob, kernel, num_steps, watch(jnp.concatenate(known)))
  return walked._replace(divergent=walked.divergent | ~_finite(u))


@functools.partial(jax.jit, static_argnames=("model",))
def complete(model: Any, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
             known: Bool[Array, "*event"]) -> tuple[Array, dict[str, Array]]:
  """Draws of what is unknown, in the data's values: from the base, annealed given what is known."""
  noise_key, base_key, key = jax.random.split(key, 3)
  path, scale = model.path(params, carry), jnp.where(known, 0.0, model.spread(params))
  u = jnp.where(known, model.standardize(params, x, noise_key), model.sample_base(params, carry, base_key, len(x)))
  u, info = _annealed(model, path.log_density, u, scale, key)
  return model.as_data(params, u), info


@functools.partial(jax.jit, static_argnames=("model",))
def denoise(model: Any, params: Params, carry: Carry, key: Key[Array, ""], x: Float[Array, "batch *event"],
            deviation: Float[Array, ""]) -> tuple[Array, dict[str, Array]]:
  """Draws of what x was before noise of a deviation, in the data's values: from x, annealed given x."""
  base, path = params["base"], model.path(params, carry)
  middle = 0.5 * model.spec.is_discrete  # of what an integer stands for once it is dequantized
  seen, noise = (x + middle - base["centre"]) / base["scale"], deviation / base["scale"]

  def log_density(u, beta):
    return path.log_density(u, beta) - 0.5 * _total(jnp.square((seen - u) / noise))

  # Where the noise is narrower than the model, it is what confines the chains.
  spread = model.spread(params)
  u, info = _annealed(model, log_density, seen, 1.0 / jnp.sqrt(1.0 / jnp.square(spread) + 1.0 / jnp.square(noise)), key)
  return u * base["scale"] + base["centre"] - middle, info


def _annealed(model: Any, log_density: Callable[[Array, Array], Array], u: Array, scale: Array,
              key: Key[Array, ""]) -> tuple[Array, dict[str, Array]]:
  """One chain from each u, moved at every temperature; and the share of those that left the finite numbers."""
  betas = jnp.asarray(annealing.ladder(model.num_temperatures)[1:], u.dtype)

  def step(u, rung):
    index, beta = rung
    return model.move(jax.random.fold_in(key, index), u, lambda u: log_density(u, beta), scale), None

  u = jax.lax.scan(step, u, (jnp.arange(len(betas)), betas))[0]
  return u, {"divergent": jnp.mean(~_finite(u) * 1.0)}


@jax.jit
def farthest(chains: Float[Array, "chains dims"], base: Params,
             margin: Float[Array, ""]) -> tuple[Array, Array, Array, Array]:
  """The first chain that is beyond the data's range by `margin` widths or NaN: its index, whether it is, its range."""
  low, high = jnp.min(chains, axis=1), jnp.max(chains, axis=1)
  reach = margin * (base["high"] - base["low"])
  out = ~((low >= base["low"] - reach) & (high <= base["high"] + reach))
  index = jnp.argmax(out)
  return index, out[index], low[index], high[index]


def _finite(u: Float[Array, "chains *event"]) -> Bool[Array, " chains"]:
  return jnp.isfinite(u).reshape(len(u), -1).all(axis=1)


def _total(x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  return jnp.sum(x, axis=tuple(range(1, x.ndim)))
