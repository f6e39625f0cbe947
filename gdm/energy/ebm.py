"""Energy-based models of real numbers: a network's energy on a Gaussian reference.

log f(u) = -E(u) - |u|^2 / (2 reference^2) of standardized data u (Xie et al., arXiv:1602.03264, equation 1).
Perceptrons and convolutions grow at most linearly at infinity, so that with the reference every f is a density; a fresh
model, of energy zero, is the reference itself.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.energy.continuous import ContinuousEnergy
from gdm.energy.losses import Energy
from gdm.errors import ConfigError, SpecError, nearest
from gdm.model import Carry, Params, PyTree
from gdm.networks.energy_networks import ConvolutionalEnergy, MLPEnergy, QuadraticEnergy, spectrally_normalized

NETWORKS: Mapping[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "mlp": MLPEnergy, "convolutional": ConvolutionalEnergy, "quadratic": lambda hidden: QuadraticEnergy()}
DEVIATIONS = 8.0  # of the reference, within which quadrature looks


@dataclasses.dataclass(frozen=True)
class EBM(ContinuousEnergy):
  """A network's energy on a Gaussian reference; see ContinuousEnergy for the other attributes.

  Attributes:
    network: "mlp", "convolutional" or "quadratic"; "auto" is convolutional for images.
    hidden: sizes of the network's layers, or widths of its convolutions.
    spectral: divide the hidden layers' kernels by their spectral norms where these are above 1.
    reference: deviation of the Gaussian reference, in those of the data.
  """

  network: str = "auto"
  hidden: tuple[int, ...] = (128, 128)
  spectral: bool = False
  reference: float = 1.0

  def __post_init__(self) -> None:
    super().__post_init__()
    known = ("auto", *NETWORKS)
    if self.network not in known:
      raise ConfigError(f"model.network is {self.network!r}; {nearest(self.network, known)}")
    if not 0.0 < self.reference < math.inf:
      raise ConfigError(f"model.reference is {self.reference}; it must be positive.")
    if self.network == "convolutional" and len(self.spec.event) != 3:
      raise SpecError(f"model.network is 'convolutional', but spec.event is {self.spec.event}; it must be images of "
                      "(height, width, channels).")
    self._network()

  def init_network(self, key: Key[Array, ""], u: Float[Array, "batch *event"]) -> PyTree:
    return self._network().init(key, u[:1]).get("params", {})

  def energy(self, params: Params, carry: Carry, condition: Array | None = None) -> Energy:
    network, weights = self._network(), params["model"]["network"]
    weights = spectrally_normalized(weights) if self.spectral else weights

    def energy(u):
      of_reference = 0.5 * jnp.sum(jnp.square(u / self.reference), axis=tuple(range(1, u.ndim)))
      return jnp.asarray(network.apply({"params": weights}, u)) + of_reference

    return energy

  @property
  def first_log_normalizer(self) -> float:
    return self.spec.num_dims * math.log(self.reference * math.sqrt(2.0 * math.pi))

  @property
  def reach(self) -> float:
    return DEVIATIONS * self.reference

  def _network(self) -> nn.Module:
    automatic = "convolutional" if self.spec.is_image else "mlp"
    return NETWORKS[automatic if self.network == "auto" else self.network](self.hidden)
