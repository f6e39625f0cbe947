"""Diagonal BiLSTM: a PixelRNN along diagonals, both ways (van den Oord et al., arXiv:1601.06759, section 3.2)."""

import dataclasses
from typing import Any, ClassVar

import jax

from gdm.autoregressive.images import ImageModel
from gdm.networks.diagonal_bilstm import DiagonalBiLSTMNetwork


@dataclasses.dataclass(frozen=True)
class DiagonalBiLSTM(ImageModel):
  """Diagonal BiLSTM with a categorical distribution of each value; it sees all that comes before.

  In one thing it differs from the paper's: the first layer's direction to the left reads the image itself as well.
  Without it the last pixel of a row is seen in the next row only where the first convolution reaches it.

  Attributes:
    width: hidden units of each direction of a layer (h in the paper); between layers there are twice as many.
    num_layers: layers.
    first_size: kernel size of the first convolution, which has mask A.
    head_width: units of the hidden layer before the logits.
    located: whether the first layer has a bias of its own for each pixel, for images that are aligned.
    input_dropout: rate on pixels as inputs: all of a pixel is dropped together.
    dropout: rate on what each layer adds.
  """

  width: int = 64
  num_layers: int = 7
  first_size: int = 7
  head_width: int = 128
  located: bool = False
  input_dropout: float = 0.0
  dropout: float = 0.0

  positive: ClassVar[tuple[str, ...]] = ("num_layers",)
  widths: ClassVar[tuple[str, ...]] = ("width", "head_width")
  rates: ClassVar[tuple[str, ...]] = ("input_dropout", "dropout")
  kernels: ClassVar[tuple[str, ...]] = ("first_size",)

  @property
  def network(self) -> DiagonalBiLSTMNetwork:
    height, columns, channels = self.spec.event
    return DiagonalBiLSTMNetwork((height, columns, channels), self.levels, self.width, self.num_layers,
                                 self.first_size, self.head_width, self.located, self.input_dropout, self.dropout)

  def conditional_step(self, params, cache, x_previous, index):
    """As in the base; the direction to the left takes the whole row above at a row's first value, and rests then."""
    _, columns, channels = self.spec.event
    variables, network = {"params": params["model"]}, self.network
    known: Any = network.apply(variables, x_previous, cache, index, method="put")
    begun: Any = jax.lax.cond(
        index % (columns * channels) == 0,
        lambda known: network.apply(variables, known, index, method="begin_row"),
        lambda known: tuple(layer.above for layer in known.layers), known)
    layers = tuple(layer._replace(above=above) for layer, above in zip(known.layers, begun, strict=True))
    logits, cache = network.apply(variables, known._replace(layers=layers), index, method="step")
    return cache, logits
