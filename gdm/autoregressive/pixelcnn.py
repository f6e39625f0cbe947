"""PixelCNN: masked convolutions over images (van den Oord et al., arXiv:1601.06759, section 3)."""

import dataclasses
from typing import ClassVar

from gdm.autoregressive.images import ImageModel
from gdm.networks.pixelcnn import PixelCNNNetwork


@dataclasses.dataclass(frozen=True)
class PixelCNN(ImageModel):
  """PixelCNN with a categorical distribution of each value.

  It has a blind spot (van den Oord et al., arXiv:1606.05328, section 2.2): each row further up reaches only so much
  further right as half a kernel, however many blocks there are. `GatedPixelCNN` has none.

  Attributes:
    width: units within the residual blocks (h in the paper); between blocks there are twice as many.
    num_blocks: residual blocks.
    first_size: kernel size of the first convolution, which has mask A.
    kernel_size: of the blocks' convolutions, which have mask B.
    head_width: units of the hidden layer before the logits.
    located: whether the first layer has a bias of its own for each pixel, for images that are aligned.
    input_dropout: rate on pixels as inputs: all of a pixel is dropped together.
    dropout: rate within the blocks.
  """

  width: int = 64
  num_blocks: int = 8
  first_size: int = 7
  kernel_size: int = 3
  head_width: int = 128
  located: bool = False
  input_dropout: float = 0.0
  dropout: float = 0.0

  positive: ClassVar[tuple[str, ...]] = ("num_blocks",)
  widths: ClassVar[tuple[str, ...]] = ("width", "head_width")
  rates: ClassVar[tuple[str, ...]] = ("input_dropout", "dropout")
  kernels: ClassVar[tuple[str, ...]] = ("first_size", "kernel_size")

  @property
  def network(self) -> PixelCNNNetwork:
    height, columns, channels = self.spec.event
    return PixelCNNNetwork((height, columns, channels), self.levels, self.width, self.num_blocks, self.first_size,
                           self.kernel_size, self.head_width, self.located, self.input_dropout, self.dropout)
