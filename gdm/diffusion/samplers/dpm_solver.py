"""DPM-Solver++ (2M): the ODE in log-SNR, the prediction of the data extrapolated from the step before."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.sampler import SamplerStep, Stepwise, call, num_steps

# Longest step over which predictions are extrapolated, in units of the step before. Steps that are even in log-SNR, the
# grid of these solvers, are of one unit. Steps that are even in time grow sevenfold at a path's end, however many there
# are: without this limit 4 of them made deviations twice the data's, and 7 of third order seven times.
MOST_AHEAD = 2.0


@dataclasses.dataclass(frozen=True)
class DPMSolver(Stepwise):
  """Lu et al. (arXiv:2211.01095), algorithm 2, whose lambda is half the log-SNR.

  The first step is of first order, and so is one to no noise at all, where the log-SNR is infinite.
  """

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int:
    return num_steps(times)

  def memory(self, x: Float[Array, "batch *event"]) -> tuple[Float[Array, "batch *event"], Float[Array, ""]]:
    """Return the prediction of the data at the step before, and that step's size in half log-SNR: at first infinite."""
    return jnp.zeros_like(x), jnp.asarray(jnp.inf, x.dtype)

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"],
           memory: tuple[Float[Array, "batch *event"], Float[Array, ""]],
           now: SamplerStep) -> tuple[Float[Array, "batch *event"], tuple]:
    before, last_size = memory
    data = call(denoise, x, now.t)
    size = 0.5 * (path.log_snr(now.s) - path.log_snr(now.t))
    by = jnp.where(jnp.isfinite(size) & jnp.isfinite(last_size), 0.5 * jnp.minimum(size / last_size, MOST_AHEAD), 0.0)
    ahead = data + by * (data - before)
    # alpha_s (1 - exp(-size)), which is alpha_s where sigma_s is 0.
    x = path.sigma(now.s) / path.sigma(now.t) * x - path.alpha(now.s) * jnp.expm1(-size) * ahead
    return x, (data, size)
