"""Noise steps as normal distributions, forward and backward, for the lossless coding of integers."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdm.diffusion.bound import Decoder, PredictNormal
from gdm.diffusion.paths.path import NoisePath, prior_scale, transition
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.ancestral import posterior
from gdm.diffusion.scaling import Scaling
from gdm.model import NoiseSteps


def noise_steps(path: NoisePath, times: Float[Array, " states"], denoise: Denoise, decoder: Decoder,
                predict: PredictNormal, scaling: Scaling, event: tuple[int, ...], levels: int) -> NoiseSteps:
  """Return the steps between the times, which rise, of a path; states are divided by sqrt(alpha^2 + sigma^2).

  Backwards a step is the posterior of the data that `denoise` predicts (arXiv:2107.00630, equations 31 to 33).

  Args:
    path: the path.
    times: of the states.
    denoise: prediction of the data.
    decoder: of the data given the first state.
    predict: see `Decoder.loss`.
    scaling: of the data.
    event: shape of an example.
    levels: of the data.
  """
  size = jnp.hypot(path.alpha(times), path.sigma(times))
  forward = transition(path, times[:-1], times[1:])
  back = posterior(path, times[:-1], times[1:])

  def first(x: Int[Array, "batch *event"]) -> Float[Array, "batch dims"]:
    return (path.alpha(times[0]) / size[0] * scaling.values(x)).reshape(len(x), -1)

  def state(flat: Float[Array, "batch dims"], index: Int[Array, ""] | int) -> Float[Array, "batch *event"]:
    return size[index] * flat.reshape(len(flat), *event)

  def before(flat: Float[Array, "batch dims"], index: Int[Array, ""]) -> Float[Array, "batch dims"]:
    x = state(flat, index)
    data = denoise(x, jnp.broadcast_to(times[index], x.shape[:1]).astype(x.dtype))
    mean = back.of_x[index - 1] * x + back.of_data[index - 1] * data
    return (mean / size[index - 1]).reshape(flat.shape)

  def level_log_probs(flat: Float[Array, "batch dims"]) -> Float[Array, "batch *event levels"]:
    return decoder.log_probs(path, state(flat, 0), levels, predict)

  return NoiseSteps(
      first, forward.scale * size[:-1] / size[1:],
      jnp.concatenate([(path.sigma(times[0]) / size[0])[None], jnp.sqrt(forward.variance) / size[1:]]), before,
      jnp.sqrt(back.variance) / size[:-1], prior_scale(path) / size[-1], level_log_probs)
