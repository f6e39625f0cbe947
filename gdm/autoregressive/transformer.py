"""A transformer decoder (Vaswani et al., arXiv:1706.03762; the arrangement of GPT-2) on sequences of tokens.

Images are sequences of pixels in raster order.
"""

import dataclasses

import jax
import jax.numpy as jnp

from gdm.autoregressive.sequence import SequenceModel
from gdm.errors import ConfigError, nearest
from gdm.networks.attention import KeyValue
from gdm.networks.transformer import Decoder

POSITIONS = ("learned", "rotary")


@dataclasses.dataclass(frozen=True)
class Transformer(SequenceModel):
  """A transformer decoder; its context is the length of an example.

  Attributes:
    num_layers: blocks.
    num_heads: heads of each block; they divide the width.
    width: size of the activations.
    mlp_ratio: units of each block's two-layer network, in widths.
    positions: "learned" vectors, added to the embeddings, or "rotary", in each product of a query and a key.
    dropout: rate on embeddings and on what blocks add.
    tie_embeddings: whether logits are products with the embeddings.
    fused_attention: attend in bfloat16 by the device's fused kernel, where it has one (cuDNN's on a GPU).
  """

  num_layers: int = 4
  num_heads: int = 4
  width: int = 128
  mlp_ratio: int = 4
  positions: str = "learned"
  dropout: float = 0.0
  tie_embeddings: bool = True
  fused_attention: bool = False

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in ("num_layers", "num_heads", "width", "mlp_ratio"):
      if getattr(self, name) < 1:
        raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
    if self.width % self.num_heads:
      raise ConfigError(f"width is {self.width}; it must be a multiple of num_heads, {self.num_heads}.")
    if self.positions not in POSITIONS:
      raise ConfigError(f"positions is {self.positions!r}; {nearest(self.positions, POSITIONS)}")
    if self.positions == "rotary" and self._head_size % 2:
      raise ConfigError(f"width / num_heads is {self._head_size}; rotary positions turn pairs, so it must be even.")
    if not 0.0 <= self.dropout < 1.0:
      raise ConfigError(f"dropout is {self.dropout}; a dropout rate lies in [0, 1).")

  @property
  def _head_size(self) -> int:
    return self.width // self.num_heads

  @property
  def network(self) -> Decoder:
    return Decoder(self.levels, self.num_steps, self.num_layers, self.num_heads, self.width,
                   self.mlp_ratio * self.width, self.positions == "rotary", self.tie_embeddings, self.dropout,
                   self.fused_attention)

  def init_cache(self, params, num):
    """Keys and values of each layer; those of positions that are still to come are never looked at."""
    dtype = jax.tree.leaves(params["model"])[0].dtype
    empty = jnp.zeros((num, self.num_steps, self.num_heads, self._head_size), dtype)
    return (KeyValue(empty, empty),) * self.num_layers

  def conditional_step(self, params, cache, x_previous, index):
    variables = {"params": params["model"]}
    logits, cache = self.network.apply(variables, self.fed(x_previous, index), cache, index, method="step")
    return cache, logits

  def prefill(self, params, cache, x, num):
    """Fills in all positions of x: those from `num` on are overwritten by their own steps before they are seen."""
    del num
    seen = self.network.apply({"params": params["model"]}, self.previous(x), method="keys_and_values")
    return jax.tree.map(lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, 0, axis=1), cache, seen)
