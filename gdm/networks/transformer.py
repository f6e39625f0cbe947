"""A transformer decoder: pre-norm blocks of causal self-attention and a two-layer network.

Vaswani et al. (arXiv:1706.03762), with normalization before each part (Xiong et al., arXiv:2002.04745) and the initial
weights of GPT-2: normal with standard deviation 0.02, those that add to the residual stream divided by sqrt(2 layers).
Nothing has a bias.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.networks.attention import KeyValue, SelfAttention
from gdm.networks.blocks import end_of_block
from gdm.networks.dropout import dropout
from gdm.networks.embedding import Embedding
from gdm.networks.linear import Linear

STDDEV = 0.02


class Block(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)).

  Attributes:
    heads, width, rotate, fused: of the self-attention.
    hidden: units of the two-layer network.
    out_stddev: initial standard deviation of weights that add to the residual stream.
    dropout: rate on what is added to the residual stream.
  """

  heads: int
  width: int
  hidden: int
  out_stddev: float
  rotate: bool
  dropout: float
  fused: bool

  def setup(self) -> None:
    self.attention = SelfAttention(self.heads, self.width, self.out_stddev, self.rotate, self.dropout, self.fused)
    self.expand, self.contract = Linear(self.hidden), Linear(self.width, self.out_stddev)
    self.attention_norm, self.mlp_norm = norm(), norm()

  def mlp(self, x: Float[Array, "*shape width"]) -> Float[Array, "*shape width"]:
    return self.contract(jax.nn.gelu(self.expand(self.mlp_norm(x))))

  def __call__(self, x: Float[Array, "batch steps width"],
               key: Key[Array, ""] | None) -> tuple[Float[Array, "batch steps width"], KeyValue]:
    attention_key, mlp_key = (None, None) if key is None else jax.random.split(key)
    attended, seen = self.attention(self.attention_norm(x), attention_key)
    x = x + attended
    return end_of_block(x + dropout(mlp_key, self.mlp(x), self.dropout)), seen

  def step(self, x: Float[Array, "batch width"], cache: KeyValue,
           index: Int[Array, ""]) -> tuple[Float[Array, "batch width"], KeyValue]:
    attended, cache = self.attention.step(self.attention_norm(x), cache, index)
    x = x + attended
    return x + self.mlp(x), cache


class Decoder(nn.Module):
  """Previous tokens to logits.

  Attributes:
    levels: size of the vocabulary; the token `levels` stands before the first.
    context: the most positions.
    num_layers: blocks.
    heads: heads of each; they divide the width.
    width: size of the activations.
    hidden: units of each block's two-layer network.
    rotate: rotary positions instead of learned ones.
    tie: whether the logits are products with the embedding.
    dropout: rate on embeddings and on what is added to the residual stream.
    fused: attend in bfloat16 by the device's fused kernel, where it has one.
  """

  levels: int
  context: int
  num_layers: int
  heads: int
  width: int
  hidden: int
  rotate: bool = False
  tie: bool = True
  dropout: float = 0.0
  fused: bool = False

  def setup(self) -> None:
    self.embedding = Embedding(self.levels, self.width, STDDEV)
    if not self.rotate:
      self.positions = self.param("positions", jax.nn.initializers.normal(STDDEV), (self.context, self.width))
    out_stddev = STDDEV / math.sqrt(2 * self.num_layers)
    self.blocks = [Block(self.heads, self.width, self.hidden, out_stddev, self.rotate, self.dropout, self.fused)
                   for _ in range(self.num_layers)]
    self.final_norm = norm()
    if not self.tie:
      self.readout = Linear(self.levels, STDDEV)

  def embed(self, tokens: Int[Array, "*batch"], positions: Int[Array, "*steps"]) -> Float[Array, "*batch width"]:
    x = self.embedding(tokens)
    return x if self.rotate else x + self.positions[positions]

  def logits(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch levels"]:
    x = self.final_norm(x)
    return self.embedding.logits(x) if self.tie else self.readout(x)

  def run(self, x: Float[Array, "batch steps width"],
          key: Key[Array, ""] | None = None) -> tuple[Float[Array, "batch steps width"], tuple[KeyValue, ...]]:
    """The last block's output, and each block's keys and values, from embedded tokens."""
    first, *keys = [None] * (self.num_layers + 1) if key is None else jax.random.split(key, self.num_layers + 1)
    x, seen = dropout(first, x, self.dropout), []
    for block, block_key in zip(self.blocks, keys, strict=True):
      x, new = block(x, block_key)
      seen.append(new)
    return x, tuple(seen)

  def __call__(self, previous: Int[Array, "batch steps"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch steps levels"]:
    """Logits of each position's token; a key means training."""
    return self.logits(self.run(self.embed(previous, jnp.arange(previous.shape[1])), key)[0])

  def keys_and_values(self, previous: Int[Array, "batch steps"]) -> tuple[KeyValue, ...]:
    """Those of each block, as `step` would cache them."""
    return self.run(self.embed(previous, jnp.arange(previous.shape[1])))[1]

  def step(self, previous: Int[Array, " batch"], cache: tuple[KeyValue, ...],
           index: Int[Array, ""]) -> tuple[Float[Array, "batch levels"], tuple[KeyValue, ...]]:
    """Logits of the token at position `index`, in time linear in the context."""
    x, seen = self.embed(previous, index), []
    for block, old in zip(self.blocks, cache, strict=True):
      x, new = block.step(x, old, index)
      seen.append(new)
    return self.logits(x), tuple(seen)


def norm() -> nn.LayerNorm:
  return nn.LayerNorm(epsilon=1e-5, use_bias=False)
