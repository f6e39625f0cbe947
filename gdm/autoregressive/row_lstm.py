"""Row LSTM: a PixelRNN from row to row (van den Oord et al., arXiv:1601.06759, section 3.1)."""

import dataclasses
from typing import ClassVar

from gdm.autoregressive.images import ImageModel
from gdm.networks.row_lstm import RowLSTMNetwork


@dataclasses.dataclass(frozen=True)
class RowLSTM(ImageModel):
  """Row LSTM with a categorical distribution of each value.

  It sees a triangle: each row further up reaches only half a kernel further right, however many layers there are,
  though up to the image's top. `DiagonalBiLSTM` sees all that comes before.

  Attributes:
    width: hidden units of a layer (h in the paper); between layers there are twice as many.
    num_layers: layers.
    first_size: kernel size of the first convolution, which has mask A.
    kernel_size: of the layers' convolutions along a row, of the inputs (mask B) and of the states above.
    head_width: units of the hidden layer before the logits.
    located: whether the first layer has a bias of its own for each pixel, for images that are aligned.
    input_dropout: rate on pixels as inputs: all of a pixel is dropped together.
    dropout: rate on what each layer adds.
  """

  width: int = 64
  num_layers: int = 7
  first_size: int = 7
  kernel_size: int = 3
  head_width: int = 128
  located: bool = False
  input_dropout: float = 0.0
  dropout: float = 0.0

  positive: ClassVar[tuple[str, ...]] = ("num_layers",)
  widths: ClassVar[tuple[str, ...]] = ("width", "head_width")
  rates: ClassVar[tuple[str, ...]] = ("input_dropout", "dropout")
  kernels: ClassVar[tuple[str, ...]] = ("first_size", "kernel_size")

  @property
  def network(self) -> RowLSTMNetwork:
    height, columns, channels = self.spec.event
    return RowLSTMNetwork((height, columns, channels), self.levels, self.width, self.num_layers, self.first_size,
                          self.head_width, self.located, self.input_dropout, self.dropout, self.kernel_size)
