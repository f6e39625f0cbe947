"""The network of WaveNet: gated residual blocks, of which all outputs are summed (arXiv:1609.03499, figure 4)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.networks.blocks import end_of_block
from gdm.networks.causal_convolution import GatedBlock
from gdm.networks.dropout import dropout
from gdm.networks.embedding import Embedding
from gdm.networks.linear import Linear

Rings = tuple[Float[Array, "batch _ width"], ...]


class WaveNetNetwork(nn.Module):
  """Previous tokens to logits.

  Attributes:
    levels: size of the vocabulary; the token `levels` stands before the first.
    width: channels of the residual stream.
    skip_width: channels of the sum that all blocks add to.
    kernel_size: taps of each block's convolutions.
    dilations: one per block.
    tie: whether the logits are products with the embedding.
    dropout: rate on embeddings and on what blocks compute.
  """

  levels: int
  width: int
  skip_width: int
  kernel_size: int
  dilations: tuple[int, ...]
  tie: bool
  dropout: float

  def setup(self) -> None:
    self.embedding = Embedding(self.levels, self.width, 1.0 / math.sqrt(self.width) if self.tie else 1.0)
    last = len(self.dilations) - 1
    self.blocks = [GatedBlock(self.width, self.skip_width, self.kernel_size, dilation, len(self.dilations), i < last,
                              self.dropout) for i, dilation in enumerate(self.dilations)]
    self.hidden = Linear(self.width if self.tie else self.skip_width, math.sqrt(2.0 / self.skip_width), use_bias=True)
    if not self.tie:
      self.readout = Linear(self.levels, 1.0 / math.sqrt(self.skip_width))

  def embed(self, tokens: Int[Array, "*batch"]) -> Float[Array, "*batch width"]:
    return self.embedding(tokens)

  def logits(self, skip: Float[Array, "*batch skip"]) -> Float[Array, "*batch levels"]:
    """From the sum of what the blocks added: GELU, a layer, GELU, a layer.

    The paper has rectifiers. Their slope jumps, so that bfloat16 products move gradients of small networks by a tenth.
    """
    hidden = jax.nn.gelu(self.hidden(jax.nn.gelu(skip)))
    return self.embedding.logits(hidden) if self.tie else self.readout(hidden)

  def run(self, x: Float[Array, "batch steps width"],
          key: Key[Array, ""] | None = None) -> tuple[Float[Array, "batch steps skip"], list[Array]]:
    """What the blocks add up to, and each block's input, from embedded tokens."""
    first, *keys = [None] * (len(self.blocks) + 1) if key is None else jax.random.split(key, len(self.blocks) + 1)
    x, total, inputs = dropout(first, x, self.dropout), jnp.zeros((), x.dtype), []
    for block, block_key in zip(self.blocks, keys, strict=True):
      inputs.append(x)
      x, skip = block(x, block_key)
      total = total + skip
    return end_of_block(total), inputs

  def __call__(self, previous: Int[Array, "batch steps"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch steps levels"]:
    """Logits of each position's token; a key means training."""
    return self.logits(self.run(self.embed(previous), key)[0])

  def rings(self, previous: Int[Array, "batch steps"], num: Int[Array, ""]) -> Rings:
    """Those of each block, as steps at positions 0 to num - 1 would leave them."""
    _, inputs = self.run(self.embed(previous))
    return tuple(block.ring(x, num) for block, x in zip(self.blocks, inputs, strict=True))

  def step(self, previous: Int[Array, " batch"], rings: Rings,
           index: Int[Array, ""]) -> tuple[Float[Array, "batch levels"], Rings]:
    """Logits of the token at position `index`, in time linear in the blocks, whatever their dilations."""
    x, seen = self.embed(previous), []
    total = jnp.zeros((), x.dtype)
    for block, old in zip(self.blocks, rings, strict=True):
      (x, skip), new = block.step(x, old, index)
      total = total + skip
      seen.append(new)
    return self.logits(total), tuple(seen)
