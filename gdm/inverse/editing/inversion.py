"""DDIM inversion: examples taken to noise by the probability-flow ODE, and back, between or under other labels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.inverse.editing.sdedit import from_part
from gdm.inverse.samplers.steps import Draws, part, predict, size, times
from gdm.model import Denoiser


def inverted(denoiser: Denoiser, x: Float[Array, "batch *event"], *, num_steps: int = 100,
             strength: float = 1.0) -> Float[Array, "batch *event"]:
  """Return the states that examples come from, by the steps of DDIM backwards (Song et al., arXiv:2010.02502, section
  4.3).

  Each step takes the prediction at the state it starts from (equation 13 read from t to the later time), so that
  `reconstructed` undoes it the better, the more steps there are.

  Args:
    denoiser: the denoiser; given labels, the examples' own.
    x: values.
    num_steps: steps.
    strength: share of the way to noise, as of `sdedit`.

  Example:
    state = inverted(denoiser, jnp.ones((16, 4)), num_steps=5)
    x = reconstructed(denoiser, state, num_steps=5)  # about ones
  """
  checks.at_least("num_steps", num_steps, 1)
  way = part(denoiser, strength)
  grid = times(denoiser, num_steps, way)[::-1]

  def step(x, now):
    s, t = now
    data = predict(denoiser, x, s)
    noise = (x - denoiser.alpha(s) * data) / denoiser.sigma(s)
    return denoiser.alpha(t) * data + denoiser.sigma(t) * noise, None

  # Data without noise count as the state at the first level, whose noise is too little to see.
  return jax.lax.scan(step, denoiser.alpha(grid[0]) * x, (grid[:-1], grid[1:]))[0]


def reconstructed(denoiser: Denoiser, state: Float[Array, "batch *event"], *, num_steps: int = 100,
                  strength: float = 1.0) -> Float[Array, "batch *event"]:
  """Return the examples that states lead to by the ODE; under other labels, or guided, they are edited.

  Arguments as of `inverted`.

  Example:
    state = inverted(denoiser, jnp.ones((16, 4)), num_steps=5)
    x = reconstructed(denoiser, state, num_steps=5)  # about ones
  """
  return from_part(denoiser, part(denoiser, strength), jax.random.key(0), state, num_steps, 0.0)


def interpolated(denoiser: Denoiser, x: Float[Array, "batch *event"], other: Float[Array, "batch *event"], num: int, *,
                 num_steps: int = 100) -> Float[Array, "num batch *event"]:
  """Return `num` examples between pairs, both included: their states are interpolated on a sphere (arXiv:2010.02502,
  equation 67) and taken back.

  Raise ConfigError unless there are at least two.

  Example:
    x = interpolated(denoiser, jnp.ones((16, 4)), jnp.zeros((16, 4)), num=3, num_steps=5)  # [3, 16, 4]
  """
  checks.at_least("num", num, 2)
  one, end = (inverted(denoiser, each, num_steps=num_steps) for each in (x, other))
  states = spherical(one, end, num)
  rows = reconstructed(denoiser, states.reshape(-1, *x.shape[1:]), num_steps=num_steps)
  return rows.reshape(num, *x.shape)


def variations(denoiser: Denoiser, x: Float[Array, "batch *event"], key: Key[Array, ""], num: int, *,
               amount: float = 0.3, num_steps: int = 100) -> Draws:
  """Draw examples near given ones: their states are turned toward fresh noise by a share of a right angle.

  Args:
    denoiser: the denoiser.
    x: values.
    key: of the draws.
    num: draws of each.
    amount: 0 returns the examples, 1 forgets them.
    num_steps: steps there, and back.

  Raise ConfigError unless the amount is in [0, 1].

  Example:
    x = variations(denoiser, jnp.ones((16, 4)), key, num=2, amount=0.1, num_steps=5).x  # [2, 16, 4]
  """
  checks.at_least("amount", amount, 0.0)
  checks.at_least("1 - amount", 1.0 - amount, 0.0)
  state = jnp.tile(inverted(denoiser, x, num_steps=num_steps), (num, *(1,) * (x.ndim - 1)))
  fresh = size(denoiser, part(denoiser, 1.0).first) * jax.random.normal(key, state.shape)
  angle = amount * jnp.pi / 2.0
  rows = reconstructed(denoiser, jnp.cos(angle) * state + jnp.sin(angle) * fresh, num_steps=num_steps)
  return Draws(rows.reshape(num, *x.shape), {"nfe": (2 * num_steps + 1) * denoiser.cost})


def spherical(one: Float[Array, "batch *event"], other: Float[Array, "batch *event"],
              num: int) -> Float[Array, "num batch *event"]:
  """Return `num` points on the great circle between each pair, both included; on the line where they are parallel or
  one of them is 0, so that it has no direction."""
  axes = tuple(range(1, one.ndim))
  product = jnp.sum(one * other, axis=axes, keepdims=True)
  norms = jnp.sqrt(jnp.sum(one**2, axis=axes, keepdims=True) * jnp.sum(other**2, axis=axes, keepdims=True))
  angle = jnp.arccos(jnp.clip(product / jnp.where(norms > 0.0, norms, 1.0), -1.0, 1.0))
  share = jnp.linspace(0.0, 1.0, num).reshape(-1, *(1,) * one.ndim)
  sine = jnp.sin(angle)
  small = (sine < 1e-4) | (norms == 0.0)
  first = jnp.where(small, 1.0 - share, jnp.sin((1.0 - share) * angle) / jnp.where(small, 1.0, sine))
  last = jnp.where(small, share, jnp.sin(share * angle) / jnp.where(small, 1.0, sine))
  return first * one + last * other
