"""Energy-based models of real numbers: a network's energy on a Gaussian reference.

log f(u) = -E(u) - |u|^2 / (2 reference^2) of standardized data u (Xie et al., arXiv:1602.03264, equation 1).
Perceptrons and convolutions grow at most linearly at infinity, so that with the reference every f is a density; a fresh
model, of energy zero, is the reference itself.
"""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.energy.losses import Energy
from gdm.energy.network_energy import NetworkEnergy
from gdm.errors import ConfigError
from gdm.model import Carry, Params

DEVIATIONS = 8.0  # of the reference, within which quadrature looks


@dataclasses.dataclass(frozen=True)
class EBM(NetworkEnergy):
  """A network's energy on a Gaussian reference; see NetworkEnergy for the other attributes.

  Attributes:
    reference: deviation of the Gaussian reference, in those of the data.
  """

  reference: float = 1.0

  def __post_init__(self) -> None:
    super().__post_init__()
    if not 0.0 < self.reference < math.inf:
      raise ConfigError(f"model.reference is {self.reference}; it must be positive.")

  def energy(self, params: Params, carry: Carry, condition: Array | None = None) -> Energy:
    of_network = self.network_energy(params)
    return lambda u: of_network(u) + self.of_reference(u)

  def of_reference(self, u: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    """The reference's energy."""
    return 0.5 * jnp.sum(jnp.square(u / self.reference), axis=tuple(range(1, u.ndim)))

  @property
  def first_log_normalizer(self) -> float:
    return self.spec.num_dims * math.log(self.reference * math.sqrt(2.0 * math.pi))

  @property
  def reach(self) -> float:
    return DEVIATIONS * self.reference
