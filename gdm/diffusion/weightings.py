"""Weights of the noise prediction's squared error at each time.

All are written as weights of ||noise - predicted noise||^2; `weight_of` divides by the square of a prediction's
`noise_scale` for the weight of its own squared error, so that one loss is the same whatever the network predicts.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import PREDICTIONS, Prediction


@runtime_checkable
class Weighting(Protocol):
  """A weight of the noise's squared error at each time, for times uniform in [0, 1]."""

  def __call__(self, path: NoisePath, t: Float[Array, " batch"]) -> Float[Array, " batch"]: ...


@dataclasses.dataclass(frozen=True)
class Simple:
  """One (Ho et al., arXiv:2006.11239, equation 14)."""

  def __call__(self, path: NoisePath, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return jnp.ones_like(t)


@dataclasses.dataclass(frozen=True)
class VLB:
  """-lambda'(t) / 2: the variational bound in nats, in continuous time (arXiv:2107.00630, equation 17)."""

  def __call__(self, path: NoisePath, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return -0.5 * path.log_snr_rate(t)


@dataclasses.dataclass(frozen=True)
class DiscreteVLB:
  """T / 2 expm1(lambda(t - 1 / T) - lambda(t)): the bound of T steps, in nats (arXiv:2107.00630, equation 14).

  Of t = 1 / T, which belongs to the reconstruction where SNR(0) is infinite, it is infinite there.
  """

  num_steps: int

  def __post_init__(self) -> None:
    checks.at_least("num_steps", self.num_steps, 1)

  def __call__(self, path: NoisePath, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    before = jnp.maximum(t - 1.0 / self.num_steps, 0.0)
    return 0.5 * self.num_steps * jnp.expm1(path.log_snr(before) - path.log_snr(t))


@dataclasses.dataclass(frozen=True)
class Likelihood:
  """g^2 of the score's squared error (Song et al., arXiv:2101.09258, theorem 1): twice the bound's."""

  def __call__(self, path: NoisePath, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return path.diffusion(t) / path.sigma(t) ** 2


@dataclasses.dataclass(frozen=True)
class MinSNR:
  """min(SNR, gamma) of the data's squared error (Hang et al., arXiv:2303.09556, section 3.4)."""

  gamma: float = 5.0

  def __post_init__(self) -> None:
    checks.positive("gamma of a min-SNR weighting", self.gamma, "(5 in the paper)")

  def __call__(self, path: NoisePath, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return jnp.minimum(1.0, self.gamma * jnp.exp(-path.log_snr(t)))


@dataclasses.dataclass(frozen=True)
class EDMWeighting:
  """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2 of the data's squared error (arXiv:2206.00364, table 1).

  sigma is sigma / alpha, of any path. A preconditioned network's own squared error has weight one.
  """

  sigma_data: float = 0.5

  def __post_init__(self) -> None:
    checks.positive("sigma_data", self.sigma_data, "(the data's standard deviation)")

  def __call__(self, path: NoisePath, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return jnp.exp(-path.log_snr(t)) / self.sigma_data**2 + 1.0


@dataclasses.dataclass(frozen=True)
class VelocityWeighting:
  """One, of the velocity's squared error (Lipman et al., arXiv:2210.02747, equation 9)."""

  def __call__(self, path: NoisePath, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return PREDICTIONS["velocity"].noise_scale(path.level(t)) ** 2


WEIGHTINGS: dict[str, type] = {"simple": Simple, "vlb": VLB, "discrete_vlb": DiscreteVLB, "likelihood": Likelihood,
                               "min_snr": MinSNR, "edm": EDMWeighting, "flow_matching": VelocityWeighting}


def weight_of(prediction: Prediction, weighting: Weighting, path: NoisePath,
              t: Float[Array, " batch"]) -> Float[Array, " batch"]:
  """Return the weight of a prediction's own squared error."""
  return weighting(path, t) / prediction.noise_scale(path.level(t)) ** 2
