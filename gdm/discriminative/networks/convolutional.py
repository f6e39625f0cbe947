"""Small convolutional networks as classifiers of images of any size."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.discriminative.networks.outputs import Outputs
from gdm.errors import SpecError
from gdm.networks.activations import activation
from gdm.networks.convolution import Convolution
from gdm.networks.dropout import dropout
from gdm.networks.from_data import from_data
from gdm.networks.linear import Linear
from gdm.networks.normalization import batch_norm
from gdm.stages import end_of_stage


class Convolutional(nn.Module):
  """Stages of convolutions that each halve the image, then a hidden layer -> logits.

  A stage is `convolutions` times a convolution, normalized and activated; before the last normalization of a stage the
  image is halved by the largest of each 2x2 pixels, a quarter of the work that it would be after it. LeNet has one
  convolution in a stage, VGG two or more.

  Attributes:
    widths: channels of each stage; as many stages make an image of 2**n times less height and width, rounded up.
    convolutions: in each stage.
    size: side of the kernels.
    hidden: units of the layer after them.
    activation: of all layers.
    dropout: rate on the flattened image and on hidden units, in training, where an rng named "dropout" is given.
    batch_norm: whether layers are normalized by the batch.
    momentum: share of the running statistics that is kept in each step.
    outputs: classes.
  """

  widths: tuple[int, ...] = (32, 64, 128)
  convolutions: int = 1
  size: int = 3
  hidden: int = 128
  activation: str = "relu"
  dropout: float = 0.3
  batch_norm: bool = True
  momentum: float = 0.99
  outputs: int = from_data(2)

  def __post_init__(self) -> None:
    checks.sizes("network.widths", self.widths)
    checks.at_least("network.convolutions", self.convolutions, 1)
    checks.at_least("network.size", self.size, 1)
    checks.at_least("network.hidden", self.hidden, 1)
    checks.rate("network.dropout", self.dropout)
    checks.rate("network.momentum", self.momentum)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"], train: bool = False) -> Outputs:
    if x.ndim != 4:
      raise SpecError(f"the convolutional classifier needs images of (height, width, channels), but events have shape "
                      f"{x.shape[1:]}; choose network.name=mlp.")
    act, h = activation(self.activation), x

    def normalized(h: Array, name: str) -> Array:
      return act(batch_norm(train, self.momentum, name=f"norm_{name}")(h) if self.batch_norm else h)

    def dropped(h: Array) -> Array:
      if train and self.dropout and self.has_rng("dropout"):
        return dropout(self.make_rng("dropout"), h, self.dropout)
      return h

    for i, width in enumerate(self.widths):
      for j in range(self.convolutions):
        name = f"{i}_{j}"
        h = Convolution(width, size=self.size, scale=2.0**0.5, name=f"convolution_{name}")(h)
        h = end_of_stage(normalized(halved(h) if j == self.convolutions - 1 else h, name))
    h = dropped(h.reshape(h.shape[0], -1))
    h = Linear(self.hidden, (2.0 / h.shape[1])**0.5, use_bias=not self.batch_norm, name="hidden")(h)
    h = dropped(end_of_stage(normalized(h, "hidden")))
    return Outputs(Linear(self.outputs, self.hidden**-0.5, use_bias=True, name="last")(h), h)


def halved(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
  """Return the largest of each 2x2 pixels; at an odd side the last row or column stands alone."""
  # A reshape and a maximum: the gradient of XLA's windowed maximum is slow on a CPU.
  rows, columns = x.shape[1] % 2, x.shape[2] % 2
  if rows or columns:
    x = jnp.pad(x, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")
  squares = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, x.shape[3])
  return jnp.maximum(jnp.maximum(squares[:, :, 0, :, 0], squares[:, :, 0, :, 1]),
                     jnp.maximum(squares[:, :, 1, :, 0], squares[:, :, 1, :, 1]))
