"""The two likelihoods of a diffusion model as functions of what it predicts.

Bound (Kingma et al., arXiv:2107.00630, equation 11): -log p(x) <= prior + diffusion + reconstruction, a lower bound on
log p(x) in expectation over times and noise.

ODE (Song et al., arXiv:2011.13456, section 4.3): the log-density, by the probability flow, of values at the path's
first time. Real data is taken to be there. Integers are noised to it, and with the same reconstruction as the bound's
log P(x) >= E[log p(z) + log P(x | z) - log q(z | x)], as by any dequantization: this one's noise is the path's, so
that the density is asked for where the network was trained. Solver and divergence make the number an estimate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.diffusion import bound, probability_flow
from gdm.diffusion.paths.path import NoisePath, noised, total
from gdm.diffusion.predictions import Denoise
from gdm.inference.divergence import ExactTrace, Hutchinson, JacobianTrace
from gdm.inference.ode import Tolerance
from gdm.inference.stratified import low_discrepancy_ranks

LIKELIHOODS = ("bound", "ode")

# x [batch, *event] at the path's first time -> -log p(data | x) in nats [batch].
Decode = Callable[[Array], Array]


def bound_parts(path: NoisePath, data: Float[Array, "batch *event"], diffusion: Callable[[Array, Array], Array],
                decode: Decode, key: Key[Array, ""],
                num_samples: int) -> tuple[Float[Array, " batch"], Float[Array, " batch"], Float[Array, " batch"]]:
  """Return prior, diffusion and reconstruction of each example in nats, means over `num_samples` draws.

  Args:
    path: noise path.
    data: values.
    diffusion: (ranks of the times [batch], noise) -> an estimate of the diffusion loss in nats.
    decode: the reconstruction.
    key: of times and noise.
    num_samples: draws.
  """
  def draw(key):
    rank_key, noise_key, first_key = jax.random.split(key, 3)
    ranks = low_discrepancy_ranks(rank_key, len(data))
    noise = jax.random.normal(noise_key, data.shape, data.dtype)
    first = jnp.full(len(data), path.ends[0], data.dtype)
    x = noised(path, data, jax.random.normal(first_key, data.shape, data.dtype), first).x
    return diffusion(ranks, noise), decode(x)

  means = [jnp.mean(part, axis=0) for part in jax.lax.map(draw, jax.random.split(key, num_samples))]
  return bound.prior_loss(path, data), means[0], means[1]


def flow_density(path: NoisePath, data: Float[Array, "batch *event"], denoise: Denoise, decode: Decode | None,
                 key: Key[Array, ""], num_samples: int, num_probes: int,
                 tolerance: float) -> tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]:
  """Return the log-likelihood of values by the ODE in nats, a mean over draws, and details of how it was found.

  Details: evaluations (nfe), whether it was solved, tolerance, probes (0: exact), and of integers the log-SNR of the
  noise that dequantizes them. Where the solver did not reach its tolerance the log-likelihoods are NaN, and `solved`
  is 0.

  Args:
    path: noise path.
    data: values.
    denoise: prediction of the data.
    decode: the reconstruction of integers; None for real data.
    key: of noise and probes.
    num_samples: draws; one where nothing is random.
    num_probes: of the divergence; 0 is exact.
    tolerance: of the solver, relative and absolute.
  """
  trace: JacobianTrace = Hutchinson(num_probes) if num_probes else ExactTrace()
  limits = Tolerance(tolerance, tolerance)

  def draw(key):
    noise_key, probe_key = jax.random.split(key)
    if decode is None:
      out = probability_flow.log_likelihood(denoise, path, data, probe_key, trace, limits)
      return out.log_prob, out.nfe, out.solved
    noise = jax.random.normal(noise_key, data.shape, data.dtype)
    first = jnp.full(len(data), path.ends[0], data.dtype)
    x = noised(path, data, noise, first).x
    out = probability_flow.log_likelihood(denoise, path, x, probe_key, trace, limits)
    log_q = total(jax.scipy.stats.norm.logpdf(noise) - jnp.log(path.sigma(first[0])))
    return out.log_prob - log_q - decode(x), out.nfe, out.solved

  keys = jax.random.split(key, num_samples if decode is not None or num_probes else 1)
  nats, nfe, solved = (jnp.mean(part, axis=0) for part in jax.lax.map(draw, keys))
  ones = jnp.ones(len(data))
  details = {"nfe": nfe * ones, "solved": solved * ones, "tolerance": tolerance * ones, "probes": num_probes * ones}
  if decode is not None:  # the path's noise there is the dequantization's
    details["dequantization_log_snr"] = path.log_snr(jnp.asarray(path.ends[0], data.dtype)) * ones
  return nats, details
