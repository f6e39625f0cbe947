"""DPM-Solver++ (3M) and SDE-DPM-Solver++ (2M): predictions of the data extrapolated from the steps before."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.dpm_solver import MOST_AHEAD
from gdm.diffusion.samplers.sampler import SamplerStep, Stepwise, call, num_steps

MOST_CURVED = 1.0  # the largest step in half log-SNR that a parabola is extrapolated over
# Predictions of the data one and two steps before, and the sizes of these steps in half log-SNR: at first infinite.
Memory = tuple[Array, Array, Array, Array]


def half_log_snr_step(path: NoisePath, now: SamplerStep) -> Float[Array, ""]:
  """Return h, the step in half log-SNR; infinite where it goes to no noise at all."""
  return 0.5 * (path.log_snr(now.s) - path.log_snr(now.t))


class DPMSolver3(Stepwise):
  """The ODE by a polynomial of second degree through three predictions (Lu et al., arXiv:2211.01095, section 4.1, with
  k = 3). The second derivative is twice the divided difference; without this factor, as in code that is widely used,
  the order is 2.

  The first step is of first order, the second of second, and one to no noise at all of first. Where half the
  log-SNR grows by more than `MOST_CURVED` in a step, that step is of second order, as `DPMSolver`'s: over so long a
  step a parabola through the last three predictions says nothing of the next.
  """

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int:
    return num_steps(times)

  def memory(self, x: Float[Array, "batch *event"]) -> Memory:
    infinite = jnp.asarray(jnp.inf, x.dtype)
    return jnp.zeros_like(x), jnp.zeros_like(x), infinite, infinite

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"],
           memory: Memory, now: SamplerStep) -> tuple[Float[Array, "batch *event"], Memory]:
    one, two, size_one, size_two = memory
    data, size = call(denoise, x, now.t), half_log_snr_step(path, now)
    # Divided differences of the data by h; 0 where there is no prediction yet.
    ratio, further = (
        jnp.where(jnp.isfinite(size) & jnp.isfinite(each), jnp.maximum(each / size, 1.0 / MOST_AHEAD), jnp.inf)
        for each in (size_one, size_two))
    first = (data - one) / ratio
    second = jnp.where(jnp.isfinite(further), first - (one - two) / further, 0.0)
    finite = jnp.where(jnp.isfinite(further), further, 1.0)
    known = jnp.where(jnp.isfinite(ratio), ratio, 1.0)
    slope, curve = first + known / (known + finite) * second, second / (known + finite)
    h = jnp.where(jnp.isfinite(size), size, 1.0)
    phi = -jnp.expm1(-size)  # 1 where there is no noise at s
    of_slope = jnp.where(jnp.isfinite(size), jnp.expm1(-h) / h + 1.0, 0.0)
    # The integral of h exp(-h (1 - u)) u^2 over u from 0 to 1, less its sign.
    of_curve = jnp.where(jnp.isfinite(size), 2.0 * (jnp.expm1(-h) + h) / h**2 - 1.0, 0.0)
    curved = of_slope * slope - of_curve * curve
    ahead = jnp.where(jnp.isfinite(size) & (size > MOST_CURVED), 0.5 * phi * first, curved)
    x = path.sigma(now.s) / path.sigma(now.t) * x + path.alpha(now.s) * (phi * data + ahead)
    return x, (data, one, size, size_one)


class SDEDPMSolver(Stepwise):
  """The SDE whose noise is fresh in each step, second order in the data (arXiv:2211.01095, appendix B.3)."""

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int:
    return num_steps(times)

  def memory(self, x: Float[Array, "batch *event"]) -> tuple[Array, Array]:
    return jnp.zeros_like(x), jnp.asarray(jnp.inf, x.dtype)

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"],
           memory: tuple[Array, Array], now: SamplerStep) -> tuple[Float[Array, "batch *event"], tuple[Array, Array]]:
    before, last_size = memory
    data, size = call(denoise, x, now.t), half_log_snr_step(path, now)
    by = jnp.where(jnp.isfinite(size) & jnp.isfinite(last_size), 0.5 * jnp.minimum(size / last_size, MOST_AHEAD), 0.0)
    share = -jnp.expm1(-2.0 * size)
    noise = path.sigma(now.s) * jnp.sqrt(share) * jax.random.normal(key, x.shape, x.dtype)
    kept = path.sigma(now.s) / path.sigma(now.t) * jnp.exp(-size)
    return kept * x + path.alpha(now.s) * share * (data + by * (data - before)) + noise, (data, size)
