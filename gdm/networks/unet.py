"""The U-Net: a denoising network for images (Ho et al., arXiv:2006.11239, appendix B).

Residual blocks at falling resolutions and back again, where each block also sees what its counterpart on the way down
made. Sides are halved and rounded up, so images of any size will do.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.errors import ConfigError, SpecError
from gdm.networks.convolution import Convolution
from gdm.networks.time_embedding import TimeEmbedding, require_embedding
from gdm.networks.unet_blocks import GroupNorm, PixelAttention, ResidualBlock, enlarged

EXPANSION = 4  # width of the time's embedding over the network's


class UNet(nn.Module):
  """Images [batch, height, width, inputs] and times [batch] -> [batch, height, width, outputs], at first zero.

  Attributes:
    outputs: channels it makes.
    width: channels at the full resolution, even.
    multipliers: of the width, one for each resolution.
    num_blocks: residual blocks per resolution on the way down; one more on the way up.
    attention: sides of the image, the longer one, at which each block is followed by self-attention. The lowest
      resolution has one between its middle blocks in any case.
    num_heads: of each attention; they divide the channels there.
    context: width of the one-hot context; 0 for none.
    embedding: of the time: "sinusoidal" or "fourier".
    dropout: rate in each residual block, where an rng named "dropout" is given.
  """

  outputs: int
  width: int = 32
  multipliers: tuple[int, ...] = (1, 2)
  num_blocks: int = 2
  attention: tuple[int, ...] = ()
  num_heads: int = 1
  context: int = 0
  embedding: str = "sinusoidal"
  dropout: float = 0.0

  def __post_init__(self) -> None:
    if min(self.outputs, self.num_blocks) < 1:
      raise ConfigError(f"outputs is {self.outputs} and num_blocks {self.num_blocks}; each must be at least 1.")
    if self.width < 2 or self.width % 2:
      raise ConfigError(f"width is {self.width}; it must be even and at least 2.")
    if not self.multipliers or min(self.multipliers) < 1:
      raise ConfigError(f"multipliers is {tuple(self.multipliers)}; it must have one >= 1 for each resolution.")
    wrong = [m * self.width for m in self.multipliers if self.num_heads < 1 or m * self.width % self.num_heads]
    if wrong:
      raise ConfigError(f"num_heads is {self.num_heads}; it must divide the channels, and there are {wrong[0]}.")
    if not 0.0 <= self.dropout < 1.0:
      raise ConfigError(f"dropout is {self.dropout}; it must be at least 0 and below 1.")
    require_embedding(self.embedding)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width inputs"], time: Float[Array, " batch"],
               context: Float[Array, "batch classes"] | None = None) -> Float[Array, "batch height width outputs"]:
    self._require_sides(*x.shape[1:3])
    embedding = TimeEmbedding(EXPANSION * self.width, self.width, self.context, self.embedding, name="embedding")
    told = jax.nn.silu(embedding(time, context))

    def block(h, name, multiplier):
      h = ResidualBlock(multiplier * self.width, self.dropout, name=name)(h, told)
      return PixelAttention(self.num_heads, name=f"{name}_attention")(h) if max(h.shape[1:3]) in self.attention else h

    h = Convolution(self.width, name="first")(x)
    seen, last = [h], len(self.multipliers) - 1
    for level, multiplier in enumerate(self.multipliers):
      for i in range(self.num_blocks):
        h = block(h, f"down_{level}_{i}", multiplier)
        seen.append(h)
      if level < last:
        h = Convolution(multiplier * self.width, stride=2, name=f"smaller_{level}")(h)
        seen.append(h)
    h = ResidualBlock(h.shape[-1], self.dropout, name="middle_0")(h, told)
    h = PixelAttention(self.num_heads, name="middle_attention")(h)
    h = ResidualBlock(h.shape[-1], self.dropout, name="middle_1")(h, told)
    for level in range(last, -1, -1):
      for i in range(self.num_blocks + 1):
        h = block(jnp.concatenate([h, seen.pop()], axis=-1), f"up_{level}_{i}", self.multipliers[level])
      if level:
        larger = enlarged(h, *seen[-1].shape[1:3])
        h = Convolution(h.shape[-1], name=f"larger_{level}")(larger)
    return Convolution(self.outputs, scale=0.0, name="last")(jax.nn.silu(GroupNorm(name="last_norm")(h)))

  def _require_sides(self, height: int, width: int) -> None:
    """Raises a ConfigError unless each side in `attention` is one that the image has at some resolution."""
    sides = [-(-max(height, width) // 2**level) for level in range(len(self.multipliers))]
    for side in self.attention:
      if side not in sides:
        raise ConfigError(f"attention has a side of {side}, but images of {height} x {width} have the longer sides "
                          f"{', '.join(map(str, sides))}.")
    if min(height, width) <= 2 ** (len(self.multipliers) - 2):
      raise SpecError(f"images are {height} x {width}, too small to be halved {len(self.multipliers) - 1} times; give "
                      "fewer multipliers.")
