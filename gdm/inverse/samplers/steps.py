"""Parts that posterior samplers share: times, predictions, and steps along a noise path.

All rows of a call are at one time.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.model import Denoiser

_RHO = 7.0


class Draws(NamedTuple):
  """Draws from posteriors, in values.

  Attributes:
    x: the draws of each measurement.
    info: "nfe", network evaluations of each draw; of particles "effective_share" too.
  """

  x: Float[Array, "num batch *event"]
  info: Mapping[str, Any]


class Reverse(NamedTuple):
  """q(x_s | x_t, x_0) of a step to s < t: mean = of_x x_t + of_data x_0, and its variance."""

  of_x: Float[Array, ""]
  of_data: Float[Array, ""]
  variance: Float[Array, ""]


# step(key, x, t, s) -> x at s.
Step = Callable[[Key[Array, ""], Array, Array, Array], Array]


class WalkEnds(NamedTuple):
  """The times that a walk begins and ends at."""

  first: Float[Array, ""]
  last: Float[Array, ""]


def times(denoiser: Denoiser, num_steps: int, way: WalkEnds | None = None) -> Float[Array, " times"]:
  """Return num_steps + 1 times from noise to data, evenly spaced in (sigma / alpha)^(1 / 7), on every path (Karras et
  al., arXiv:2206.00364, equation 5)."""
  first, last = part(denoiser, 1.0) if way is None else way
  high, low = (_coordinate(denoiser, end) for end in (first, last))
  inner = _time(denoiser, high + (low - high) * jnp.arange(1, num_steps) / num_steps)
  return jnp.concatenate([first[None], inner, last[None]])


def part(denoiser: Denoiser, strength: float) -> WalkEnds:
  """Return the part of the path from a share of the way to noise, on the scale of `times`, to data."""
  last, first = (jnp.asarray(end, jnp.float32) for end in denoiser.ends)
  if strength == 1.0:
    return WalkEnds(first, last)
  high, low = (_coordinate(denoiser, end) for end in (first, last))
  return WalkEnds(_time(denoiser, low + (high - low) * strength) if strength > 0.0 else last, last)


def _coordinate(denoiser: Denoiser, t: Float[Array, ""]) -> Float[Array, ""]:
  return jnp.exp(-0.5 * denoiser.log_snr(t) / _RHO)


def _time(denoiser: Denoiser, coordinate: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  return denoiser.time(-2.0 * _RHO * jnp.log(coordinate))


def predict(denoiser: Denoiser, x: Float[Array, "batch *event"], t: Float[Array, ""]) -> Float[Array, "batch *event"]:
  """Return the mean of x_0 given x at one time."""
  return denoiser.mean(x, jnp.broadcast_to(t, x.shape[:1]).astype(x.dtype))


def clipped(denoiser: Denoiser, data: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
  """Return predicted values within the data's limits, where it has limits."""
  return data if denoiser.limits is None else jnp.clip(data, *denoiser.limits)


def size(denoiser: Denoiser, t: Float[Array, ""]) -> Float[Array, ""]:
  """Return the deviation of x at a time, where values have variance one."""
  return jnp.hypot(denoiser.alpha(t), denoiser.sigma(t))


def spread(denoiser: Denoiser, t: Float[Array, ""]) -> Float[Array, ""]:
  """Return the variance of x_0 given x at a time, where values are standard normal: r_t^2 = sigma^2 / (alpha^2 +
  sigma^2)."""
  return jax.nn.sigmoid(-denoiser.log_snr(t))


def start(denoiser: Denoiser, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
  """Draw x at the first time."""
  return size(denoiser, jnp.asarray(denoiser.ends[1], jnp.float32)) * jax.random.normal(key, shape)


def reverse(denoiser: Denoiser, t: Float[Array, ""], s: Float[Array, ""]) -> Reverse:
  """Return the step back from t to s given the data (arXiv:2107.00630, equation 32)."""
  share = -jnp.expm1(denoiser.log_snr(t) - denoiser.log_snr(s))
  ratio = (denoiser.sigma(s) / denoiser.sigma(t)) ** 2
  return Reverse(denoiser.alpha(t) / denoiser.alpha(s) * ratio, denoiser.alpha(s) * share,
                 denoiser.sigma(s) ** 2 * share)


def ancestral(denoiser: Denoiser, key: Key[Array, ""], x: Float[Array, "batch *event"],
              data: Float[Array, "batch *event"], t: Float[Array, ""], s: Float[Array, ""]
              ) -> Float[Array, "batch *event"]:
  """Draw x at s given x at t and the predicted data."""
  q = reverse(denoiser, t, s)
  return q.of_x * x + q.of_data * data + jnp.sqrt(q.variance) * jax.random.normal(key, x.shape, x.dtype)


def ddim(denoiser: Denoiser, key: Key[Array, ""], x: Float[Array, "batch *event"], data: Float[Array, "batch *event"],
         t: Float[Array, ""], s: Float[Array, ""], eta: float) -> Float[Array, "batch *event"]:
  """Draw x at s given x at t and the predicted data, with the share `eta` of fresh noise (arXiv:2010.02502, equations
  12 and 16): 0 is the probability-flow ODE, 1 ancestral sampling."""
  noise = (x - denoiser.alpha(t) * data) / denoiser.sigma(t)
  fresh = eta**2 * reverse(denoiser, t, s).variance
  kept = jnp.sqrt(jnp.maximum(denoiser.sigma(s) ** 2 - fresh, 0.0))
  return (denoiser.alpha(s) * data + kept * noise
          + jnp.sqrt(fresh) * jax.random.normal(key, x.shape, x.dtype))


def walk(denoiser: Denoiser, num_steps: int, key: Key[Array, ""], x: Float[Array, "batch *event"],
         step: Step, way: WalkEnds | None = None) -> Float[Array, "batch *event"]:
  """Return x at the last time of a part of the path, or all of it, by `num_steps` steps from the first, and then the
  predicted data there."""
  grid = times(denoiser, num_steps, way)

  def body(x, now):
    index, t, s = now
    return step(jax.random.fold_in(key, index), x, t, s), None

  x, _ = jax.lax.scan(body, x, (jnp.arange(num_steps), grid[:-1], grid[1:]))
  return clipped(denoiser, predict(denoiser, x, grid[-1]))


def rounds(x: Float[Array, "rows *event"], num: int) -> Float[Array, "num batch *event"]:
  """Return rows that hold `num` rounds of a batch as one axis for the rounds and one for the batch."""
  return x.reshape(num, -1, *x.shape[1:])
