"""PixelSNAIL: causal convolutions and self-attention (Chen et al., arXiv:1712.09763)."""

import dataclasses
from typing import ClassVar

from gdm.autoregressive.images import ImageModel
from gdm.networks.pixelsnail import PixelSNAILNetwork


@dataclasses.dataclass(frozen=True)
class PixelSNAIL(ImageModel):
  """PixelSNAIL with a categorical distribution of each value: each pixel attends to all before it.

  Attributes:
    width: units.
    num_blocks: blocks, each of which ends with an attention.
    num_layers: gated convolutions of a block.
    first_size: kernel size of the first convolution, which has mask A.
    kernel_size: of the others, which have mask B.
    heads: of each attention.
    head_size: units of a head.
    head_width: units of the hidden layer before the logits.
    located: whether the first layer has a bias of its own for each pixel, for images that are aligned.
    input_dropout: rate on pixels as inputs: all of a pixel is dropped together.
    dropout: rate within the layers, and on what attention finds.
  """

  width: int = 64
  num_blocks: int = 3
  num_layers: int = 3
  first_size: int = 7
  kernel_size: int = 3
  heads: int = 3
  head_size: int = 16
  head_width: int = 128
  located: bool = False
  input_dropout: float = 0.0
  dropout: float = 0.0

  positive: ClassVar[tuple[str, ...]] = ("num_blocks", "num_layers", "head_size")
  widths: ClassVar[tuple[str, ...]] = ("width", "heads", "head_width")
  rates: ClassVar[tuple[str, ...]] = ("input_dropout", "dropout")
  kernels: ClassVar[tuple[str, ...]] = ("first_size", "kernel_size")

  @property
  def network(self) -> PixelSNAILNetwork:
    height, columns, channels = self.spec.event
    return PixelSNAILNetwork((height, columns, channels), self.levels, self.width, self.num_blocks, self.num_layers,
                             self.first_size, self.kernel_size, self.heads, self.head_size, self.head_width,
                             self.located, self.input_dropout, self.dropout)
