"""What energies by a network share: which networks there are, and how one is made and weighed."""

import abc
import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.energy.continuous import ContinuousEnergy
from gdm.energy.losses import Energy
from gdm.errors import ConfigError, SpecError, nearest
from gdm.model import Params, PyTree
from gdm.networks.energy_networks import ConvolutionalEnergy, MLPEnergy, QuadraticEnergy, spectrally_normalized

NETWORKS: Mapping[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "mlp": MLPEnergy, "convolutional": ConvolutionalEnergy, "quadratic": lambda hidden: QuadraticEnergy()}


@dataclasses.dataclass(frozen=True)
class NetworkEnergy(ContinuousEnergy, abc.ABC):
  """An energy with a network in it; see ContinuousEnergy for the other attributes.

  Attributes:
    network: "mlp", "convolutional" or "quadratic"; "auto" is convolutional for images.
    hidden: sizes of the network's layers, or widths of its convolutions.
    spectral: divide the hidden layers' kernels by their spectral norms where these are above 1.
  """

  network: str = "auto"
  hidden: tuple[int, ...] = (128, 128)
  spectral: bool = False

  def __post_init__(self) -> None:
    super().__post_init__()
    known = ("auto", *NETWORKS)
    if self.network not in known:
      raise ConfigError(f"model.network is {self.network!r}; {nearest(self.network, known)}")
    if self.network == "convolutional" and len(self.spec.event) != 3:
      raise SpecError(f"model.network is 'convolutional', but spec.event is {self.spec.event}; it must be images of "
                      "(height, width, channels).")
    self._network()

  def init_network(self, key: Key[Array, ""], u: Float[Array, "batch *event"]) -> PyTree:
    return self._network().init(key, u[:1]).get("params", {})

  def network_energy(self, params: Params) -> Energy:
    """What the network makes of standardized values, in nats."""
    network, weights = self._network(), params["model"]["network"]
    weights = spectrally_normalized(weights) if self.spectral else weights
    return lambda u: jnp.asarray(network.apply({"params": weights}, u))

  def _network(self) -> nn.Module:
    automatic = "convolutional" if self.spec.is_image else "mlp"
    return NETWORKS[automatic if self.network == "auto" else self.network](self.hidden)
