"""The two likelihoods of a diffusion model, by name, and what they share: the first step, from data to noised values.

Bound (Kingma et al., arXiv:2107.00630, equation 11): -log p(x) <= prior + diffusion + reconstruction, a lower bound on
log p(x) in expectation over times and noise.

ODE (Song et al., arXiv:2011.13456, section 4.3): the log-density, by the probability flow, of values at the path's
first time. Real data is taken to be there. Integers are noised to it, and with the same reconstruction as the bound's
log P(x) >= E[log p(z) + log P(x | z) - log q(z | x)], as by any dequantization: this one's noise is the path's own, so
that the density is asked for where the network was trained. Solver and divergence make the number an estimate.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.diffusion import bound, ode
from gdm.diffusion.divergence import Divergence, Exact, Hutchinson
from gdm.diffusion.paths.path import Path, noised
from gdm.diffusion.times import LogSNRUniform, low_discrepancy_ranks
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Params


def variational(model: Any, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                num_samples: int) -> LogLikelihood:
  """The bound, each example's from `num_samples` draws of time and noise; details are its parts in nats.

  Draws lessen the noise of the estimate, they do not tighten the bound. It is its mean that bounds log p(x); the
  exponential of one draw is lifted by the noise, so that bounds can't be mixed (`LogLikelihood.unbiased`).
  """
  path, scaling = model.sampling_path(params), model.scaling(carry)
  data, context = scaling.values(jnp.asarray(batch["x"])), model.context(batch.get("y"))
  steps = model.bound_steps

  def draw(key):
    rank_key, noise_key, first_key = jax.random.split(key, 3)
    ranks = low_discrepancy_ranks(rank_key, len(data))
    noise = jax.random.normal(noise_key, data.shape, data.dtype)
    if steps is None:
      t, density = LogSNRUniform().at(path, ranks)
      sample = noised(path, data, noise, t)
      predicted = model.predicted_noise(params, path, sample.level.like(data), sample.x, t, context)
      diffusion = bound.diffusion_loss(path, t, noise, predicted, density, model.spec.levels)
    else:
      start, end = path.ends
      step = jnp.clip(jnp.floor(ranks * steps), 0, steps - 1)
      s, t = (start + (end - start) * i / steps for i in (step, step + 1.0))
      diffusion = steps * model.step_loss(params, path, s, jnp.minimum(t, 1.0), data, noise, context)
    first = jnp.full(len(data), path.ends[0], data.dtype)
    x = noised(path, data, _normal(first_key, data), first).x
    return diffusion, model.reconstruction(params, path, x, data, batch, context)

  means = [jnp.mean(part, axis=0) for part in jax.lax.map(draw, jax.random.split(key, num_samples))]
  parts = {"prior": bound.prior_loss(path, data), "diffusion": means[0], model.reconstruction_name: means[1]}
  nats = -sum(parts.values()) + _log_det(model, scaling)
  return LogLikelihood.of(nats, model.spec.num_dims, Kind.LOWER_BOUND, _given(model), parts)


def probability_flow(model: Any, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int) -> LogLikelihood:
  """The estimate by the ODE; of integers a mean over `num_samples` draws of noise.

  Details: evaluations (nfe), whether it was solved, tolerance, probes (0: exact), and of integers the log-SNR of the
  noise that dequantizes them.

  Where the solver did not reach its tolerance the log-likelihoods are NaN, and `solved` is 0.
  """
  path, scaling = model.sampling_path(params), model.scaling(carry)
  data, context = scaling.values(jnp.asarray(batch["x"])), model.context(batch.get("y"))
  denoise = model.denoiser(params, path, context)
  trace: Divergence = Hutchinson(model.num_probes) if model.num_probes else Exact()
  tolerance = ode.Tolerance(model.tolerance, model.tolerance)

  def draw(key):
    noise_key, probe_key = jax.random.split(key)
    if not model.spec.is_discrete:
      out = ode.log_likelihood(denoise, path, data, probe_key, trace, tolerance)
      return out.log_prob, out.nfe, out.solved
    noise = _normal(noise_key, data)
    first = jnp.full(len(data), path.ends[0], data.dtype)
    x = noised(path, data, noise, first).x
    out = ode.log_likelihood(denoise, path, x, probe_key, trace, tolerance)
    log_q = total(jax.scipy.stats.norm.logpdf(noise) - jnp.log(path.sigma(first[0])))
    decoded = model.reconstruction(params, path, x, data, batch, context)
    return out.log_prob - log_q - decoded, out.nfe, out.solved

  keys = jax.random.split(key, num_samples if model.spec.is_discrete or model.num_probes else 1)
  nats, nfe, solved = (jnp.mean(part, axis=0) for part in jax.lax.map(draw, keys))
  ones = jnp.ones(len(data))
  details = {"nfe": nfe * ones, "solved": solved * ones, "tolerance": model.tolerance * ones,
             "probes": model.num_probes * ones}
  if model.spec.is_discrete:  # the path's noise there is the dequantization's
    details["dequantization_log_snr"] = path.log_snr(jnp.asarray(path.ends[0], data.dtype)) * ones
  return LogLikelihood.of(nats + _log_det(model, scaling), model.spec.num_dims, Kind.ESTIMATE, _given(model), details)


# (model, params, carry, batch, key, num_samples) -> log-likelihood, of a gdm.diffusion.diffusion.Diffusion
LIKELIHOODS: dict[str, Callable[..., LogLikelihood]] = {"bound": variational, "ode": probability_flow}


def reconstruction(model: Any, path: Path, x: Float[Array, "batch *event"], data: Float[Array, "batch *event"],
                   batch: Batch) -> Float[Array, " batch"]:
  """Return -log p(data | x) in nats, given x at the path's first time, without the network.

  `data` are values, the batch is as served.
  """
  if not model.spec.is_discrete:
    return bound.reconstruction_loss(path, data)
  levels = model.spec.require_discrete("a diffusion model")
  integers = jnp.asarray(batch["x"], jnp.int32)
  values = np.linspace(-1.0, 1.0, levels, dtype=np.float32)
  return bound.discrete_reconstruction_loss(path, x, integers, values)


def total(values: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """The sum over an example's entries."""
  return jnp.sum(values.reshape(values.shape[0], -1), axis=-1)


def _log_det(model: Any, scaling: Any) -> Array:
  """Of densities, from values to data; the probability of integers needs none."""
  return jnp.zeros(()) if model.spec.is_discrete else scaling.log_det(model.spec)


def _given(model: Any) -> tuple[str, ...]:
  return ("y",) if model.class_conditional else ()


def _normal(key: Key[Array, ""], data: Array) -> Array:
  return jax.random.normal(key, data.shape, data.dtype)
