"""The form in which a diffusion model's network is given noised data and its time."""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.diffusion.paths.path import NoisePath, expand, normalized_log_snr

NETWORK_TIMES = ("t", "log_snr")


@dataclasses.dataclass(frozen=True)
class NetworkInputs:
  """The form in which x_t and its time are given to the network.

  Attributes:
    sigma_data: standard deviation of values, by which x_t is scaled to variance one.
    time: t, or log_snr: how far the log-SNR has fallen between the path's ends, 0 to 1.
    fourier: exponents n of the features sin and cos of 2^n pi x_t beside x_t (arXiv:2107.00630, appendix C); those of
      about log2(levels) tell levels apart.
  """

  sigma_data: float = 1.0
  time: str = "t"
  fourier: tuple[int, ...] = ()

  def __post_init__(self) -> None:
    checks.positive("sigma_data", self.sigma_data)
    checks.one_of("network_time", self.time, NETWORK_TIMES)

  def features(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *wide"]:
    """Return scaled values and their waves."""
    waves = [wave(2.0**n * math.pi * x) for n in self.fourier for wave in (jnp.sin, jnp.cos)]
    return jnp.concatenate([x, *waves], axis=-1) if waves else x

  def __call__(self, path: NoisePath, x: Float[Array, "batch *event"],
               t: Float[Array, " batch"]) -> tuple[Float[Array, "batch *wide"], Float[Array, " batch"]]:
    """Return the features of x_t, and the time, in about [0, 1]."""
    level = path.level(t)
    scaled = x / expand(jnp.hypot(self.sigma_data * level.alpha, level.sigma), x)
    return self.features(scaled), t if self.time == "t" else normalized_log_snr(path, t)
