"""Multi-layer perceptrons as generators and critics."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.adversarial.networks.layers import OF_CRITICS, OF_GENERATORS, normalized, weighted
from gdm.adversarial.networks.scores import LABELS, score
from gdm.networks.activations import activation
from gdm.networks.from_data import from_data
from gdm.networks.linear import Linear


class PerceptronGenerator(nn.Module):
  """Latents, and labels beside them -> examples.

  Attributes:
    hidden: sizes of the hidden layers.
    activation: of the hidden units.
    normalization: of the hidden units: none or batch.
    event: shape of an example.
  """

  hidden: tuple[int, ...] = (256, 256)
  activation: str = "relu"
  normalization: str = "none"
  event: tuple[int, ...] = from_data((1,))

  def __post_init__(self) -> None:
    checks.sizes("generator.hidden", self.hidden)
    checks.one_of("generator.normalization", self.normalization, OF_GENERATORS)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, z: Float[Array, "batch dims"], labels: Float[Array, "batch classes"] | None = None,
               train: bool = False) -> Float[Array, "batch *event"]:
    h = z if labels is None else jnp.concatenate([z, labels], axis=1)
    for i, size in enumerate(self.hidden):
      h = Linear(size, (2.0 / h.shape[1]) ** 0.5, use_bias=True, name=f"linear_{i}")(h)
      h = activation(self.activation)(normalized(self.normalization, h, train, f"normalization_{i}"))
    made = Linear(math.prod(self.event), h.shape[1] ** -0.5, use_bias=True, name="last")(h)
    return made.reshape(z.shape[0], *self.event)


class PerceptronCritic(nn.Module):
  """Examples, flattened, and labels -> scores.

  Attributes:
    hidden: sizes of the hidden layers.
    activation: of the hidden units.
    normalization: none, batch or layer of the hidden units, or spectral of the weights.
    labels: concatenate them with the example, or projection: of the last hidden layer (arXiv:1802.05637).
  """

  hidden: tuple[int, ...] = (256, 256)
  activation: str = "leaky_relu"
  normalization: str = "none"
  labels: str = "concatenate"

  def __post_init__(self) -> None:
    checks.sizes("critic.hidden", self.hidden)
    checks.one_of("critic.normalization", self.normalization, OF_CRITICS)
    checks.one_of("critic.labels", self.labels, LABELS)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"], labels: Float[Array, "batch classes"] | None = None,
               train: bool = False) -> Float[Array, " batch"]:
    h = x.reshape(x.shape[0], -1)
    if labels is not None and self.labels == "concatenate":
      h = jnp.concatenate([h, labels], axis=1)
    for i, size in enumerate(self.hidden):
      layer = Linear(size, (2.0 / h.shape[1]) ** 0.5, use_bias=True, name=f"linear_{i}")
      h = normalized(self.normalization, weighted(self.normalization, layer, h, train), train, f"normalization_{i}")
      h = activation(self.activation)(h)
    return score(h, labels, self.labels, self.normalization, train)
