"""A transformer decoder: pre-norm blocks of causal self-attention and a two-layer network.

Vaswani et al. (arXiv:1706.03762), with normalization before each part (Xiong et al., arXiv:2002.04745) and the initial
weights of GPT-2: normal with standard deviation 0.02, those that add to the residual stream divided by sqrt(2 layers).
Nothing has a bias.
"""

import functools
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm import checks
from gdm.autoregressive.sequences.attention import KeyValue, SelfAttention
from gdm.autoregressive.sequences.embedding import Embedding
from gdm.autoregressive.sequences.sequence_model import SequenceModel, SequenceNetwork
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.networks.dropout import dropout
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage

STDDEV = 0.02
POSITIONS = ("learned", "rotary")


class TransformerBlock(nn.Module):
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
    attended, key_value = self.attention(self.attention_norm(x), attention_key)
    x = x + attended
    return end_of_stage(x + dropout(mlp_key, self.mlp(x), self.dropout)), key_value

  def step(self, x: Float[Array, "batch width"], cache: KeyValue,
           index: Int[Array, ""]) -> tuple[Float[Array, "batch width"], KeyValue]:
    attended, cache = self.attention.step(self.attention_norm(x), cache, index)
    x = x + attended
    return x + self.mlp(x), cache


class Transformer(SequenceNetwork):
  """A decoder whose context is the length of an example.

  Attributes:
    num_layers: blocks.
    num_heads: heads of each block; they divide the width.
    width: size of the activations.
    mlp_ratio: units of each block's two-layer network, in widths.
    positions: "learned" vectors, added to the embeddings, or "rotary", in each product of a query and a key.
    dropout: rate on embeddings and on what blocks add, in [0, 1).
    tie_embeddings: whether logits are products with the embeddings.
    fused_attention: attend in bfloat16 by the device's fused kernel, where it has one (cuDNN's on a GPU).
    scan_layers: compile one block and loop over all, which compiles deep networks sooner; their parameters are stacked
      in every step, which costs a copy of them.
  """

  num_layers: int = 4
  num_heads: int = 4
  width: int = 128
  mlp_ratio: int = 4
  positions: str = "learned"
  dropout: float = 0.0
  tie_embeddings: bool = True
  fused_attention: bool = False
  scan_layers: bool = False

  has_limit: ClassVar[bool] = True

  def __post_init__(self) -> None:
    for name in ("num_layers", "num_heads", "width", "mlp_ratio"):
      checks.at_least(f"network.{name}", getattr(self, name), 1)
    checks.multiple_of("network.width", self.width, self.num_heads, "num_heads")
    checks.one_of("network.positions", self.positions, POSITIONS)
    if self.positions == "rotary" and self.head_size % 2:
      raise ConfigError(f"network.width / num_heads is {self.head_size}; rotary positions turn pairs, so it must be "
                        "even.")
    checks.rate("network.dropout", self.dropout)
    super().__post_init__()

  @property
  def head_size(self) -> int:
    return self.width // self.num_heads

  def setup(self) -> None:
    self.embedding = Embedding(self.levels, self.width, STDDEV, self.num_classes)
    if self.positions == "learned":
      shape = (self.num_steps, self.width)
      self.position_vectors = self.param("positions", jax.nn.initializers.normal(STDDEV), shape)
    out_stddev = STDDEV / math.sqrt(2 * self.num_layers)
    block = functools.partial(TransformerBlock, self.num_heads, self.width, self.mlp_ratio * self.width, out_stddev,
                              self.positions == "rotary", self.dropout, self.fused_attention)
    self.blocks = [block() for _ in range(self.num_layers)]
    self.any_block = block(parent=None)
    self.final_norm = norm()
    if not self.tie_embeddings:
      self.readout = Linear(self.levels, STDDEV)

  def embed(self, tokens: Int[Array, "*batch"], positions: Int[Array, "*steps"]) -> Float[Array, "*batch width"]:
    x = self.embedding(tokens)
    return x + self.position_vectors[positions] if self.positions == "learned" else x

  def logits(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch levels"]:
    x = self.final_norm(x)
    return self.embedding.logits(x) if self.tie_embeddings else self.readout(x)

  def run(self, x: Float[Array, "batch steps width"],
          key: Key[Array, ""] | None = None) -> tuple[Float[Array, "batch steps width"], tuple[KeyValue, ...]]:
    """Return the last block's output, and each block's keys and values, from embedded tokens."""
    first, *keys = [None] * (self.num_layers + 1) if key is None else jax.random.split(key, self.num_layers + 1)
    x, key_values = dropout(first, x, self.dropout), []
    if self.scan_layers and not self.is_initializing():
      return self.scan(x, None if key is None else jax.random.split(key, self.num_layers + 1)[1:])
    for block, block_key in zip(self.blocks, keys, strict=True):
      x, new = block(x, block_key)
      key_values.append(new)
    return x, tuple(key_values)

  def scan(self, x: Float[Array, "batch steps width"], keys: Key[Array, " layers"] | None
           ) -> tuple[Float[Array, "batch steps width"], tuple[KeyValue, ...]]:
    """Return what `run` returns, by a loop over blocks."""
    params = jax.tree.map(lambda *each: jnp.stack(each), *[block.variables["params"] for block in self.blocks])
    x, found = jax.lax.scan(lambda x, layer: self.any_block.apply({"params": layer[0]}, x, layer[1]), x, (params, keys))
    return x, tuple(jax.tree.map(lambda a, i=i: a[i], found) for i in range(self.num_layers))

  def __call__(self, previous, key=None):
    return self.logits(self.run(self.embed(previous, jnp.arange(previous.shape[1])), key)[0])

  def init_cache(self, num, dtype) -> tuple[KeyValue, ...]:
    """Return keys and values of each block; those of positions that are still to come are never used."""
    empty = jnp.zeros((num, self.num_steps, self.num_heads, self.head_size), dtype)
    return (KeyValue(empty, empty),) * self.num_layers

  @nn.nowrap
  def prefill(self, variables, cache, previous, num):
    """As in the base; positions from `num` on are filled in too, and overwritten by their steps before use."""
    del num
    filled = self.apply(variables, previous, method="keys_and_values")
    return jax.tree.map(lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, 0, axis=1), cache, filled)

  def keys_and_values(self, previous: Int[Array, "batch steps"]) -> tuple[KeyValue, ...]:
    """Return the keys and values of each block, as `step` caches them."""
    return self.run(self.embed(previous, jnp.arange(previous.shape[1])))[1]

  def step(self, cache, previous, index):
    """As in the base, in time linear in the context."""
    x, key_values = self.embed(previous, index), []
    for block, old in zip(self.blocks, cache, strict=True):
      x, new = block.step(x, old, index)
      key_values.append(new)
    return self.logits(x), tuple(key_values)


def norm() -> nn.LayerNorm:
  return nn.LayerNorm(epsilon=1e-5, use_bias=False)


def transformer(spec: DataSpec, network: Transformer = Transformer(), prefix_dropout: float = 0.0,
                class_conditional: bool = False, prefix_token_dropout: float = 0.0) -> SequenceModel:
  """Return a transformer decoder over tokens, or over an image's pixels in raster order.

  Args:
    spec: the data.
    network: its layers and their sizes.
    prefix_dropout: share of training examples whose prefix is withheld; see `SequenceModel`.
    class_conditional: whether it is a model of sequences given their labels.
    prefix_token_dropout: share of the tokens of prefixes that is withheld.
  """
  return SequenceModel(spec, network, prefix_dropout, class_conditional, prefix_token_dropout)
