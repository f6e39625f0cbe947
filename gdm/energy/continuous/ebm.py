"""Energy-based models of real numbers: a network's energy on a Gaussian reference.

log f(u) = -E(u) - |u|^2 / (2 reference^2) of standardized data u (Xie et al., arXiv:1602.03264, equation 1).
Perceptrons and convolutions grow at most linearly at infinity, so that with the reference every f is a density; a fresh
model, of energy zero, is the reference itself.
"""

import abc
import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.energy.continuous.chains import Energy, PathBase, gaussian_base
from gdm.energy.continuous.network_energy import NetworkEnergy
from gdm.inference.quadrature import Box
from gdm.model import Batch, Carry, Objective, Params

DEVIATIONS = 8.0  # of the reference, within which quadrature looks


@dataclasses.dataclass(frozen=True)
class OnGaussian(NetworkEnergy, abc.ABC):
  """An energy with a Gaussian reference of standardized data; see `NetworkEnergy` for the other attributes.

  Attributes:
    reference: deviation of the Gaussian reference, in deviations of the data.
  """

  reference: float = 1.0

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.positive("model.reference", self.reference)

  def base_of(self, params: Params, carry: Carry) -> PathBase:
    return gaussian_base(params["base"])

  def init_base(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    return {}, {}

  def box(self, params: Params) -> Box:
    return self.centred_box(params, DEVIATIONS * self.reference)

  def reference_energy(self, u: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    """Return |u|^2 / (2 reference^2)."""
    return 0.5 * jnp.sum(jnp.square(u / self.reference), axis=tuple(range(1, u.ndim)))

  @property
  def reference_log_normalizer(self) -> float:
    """The log of the integral of exp(-reference_energy), in nats."""
    return self.spec.num_dims * math.log(self.reference * math.sqrt(2.0 * math.pi))


@dataclasses.dataclass(frozen=True)
class EBM(OnGaussian):
  """A network's energy on a Gaussian reference; see `OnGaussian` for the attributes.

  Example:
    model = EBM(DataSpec((2,), None), network=MLPEnergy(hidden=(64, 64)), objective="cd")
  """

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (self.energy_objective(),)

  def energy(self, params: Params, carry: Carry, condition: Array | None = None) -> Energy:
    outputs = self.network_outputs(params)
    return lambda u: outputs(u) + self.reference_energy(u)

  def checked_condition(self, condition: Array | None, num: int, start: str) -> None:
    checks.unconditional(self, condition)

  @property
  def outputs(self) -> None:
    return None

  @property
  def first_log_normalizer(self) -> float:
    return self.reference_log_normalizer
