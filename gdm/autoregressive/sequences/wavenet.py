"""WaveNet: causal dilated convolutions on sequences of tokens (van den Oord et al., arXiv:1609.03499).

All outputs of its gated residual blocks are summed (figure 4). Sound is a sequence of tokens: of 8-bit samples,
companded by mu-law (section 2.2).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm import checks
from gdm.autoregressive.sequences.causal_convolution import DilatedBlock
from gdm.autoregressive.sequences.embedding import Embedding, waves
from gdm.autoregressive.sequences.sequence_model import SequenceModel, SequenceNetwork
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.networks.dropout import dropout
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage

Rings = tuple[Float[Array, "batch _ width"], ...]


class WaveNet(SequenceNetwork):
  """Stacks of gated residual blocks with dilations 1, 2, 4, …, 2^(num_layers - 1), the same in each stack.

  No position is special, so that sequences of any length can be generated, in constant time per token.

  Attributes:
    num_layers: blocks of a stack.
    num_stacks: stacks.
    width: channels of the residual stream.
    skip_width: channels of the sum that all blocks add to and that the logits are made of.
    kernel_size: taps of each convolution, at least 2.
    dropout: rate on embeddings and on what blocks compute, in [0, 1).
    tie_embeddings: whether logits are products with the embeddings.
    smooth: cosines of the level that embeddings and logits have beside what is each level's own, so that neighbouring
      levels are alike at first, as they are of sound, and fewer examples teach them; 0 for none.
  """

  num_layers: int = 5
  num_stacks: int = 2
  width: int = 128
  skip_width: int = 128
  kernel_size: int = 2
  dropout: float = 0.0
  tie_embeddings: bool = False
  smooth: int = 0

  def __post_init__(self) -> None:
    for name, least in (("num_layers", 1), ("num_stacks", 1), ("width", 1), ("skip_width", 1), ("kernel_size", 2),
                        ("smooth", 0)):
      checks.at_least(f"network.{name}", getattr(self, name), least)
    checks.rate("network.dropout", self.dropout)
    # A tap that reaches beyond every example would see zeros alone in training, and tokens when generation goes on.
    if self.num_steps and max(self.reaches) >= self.num_steps:
      fitting = sum((self.kernel_size - 1) * 2**i < self.num_steps for i in range(self.num_layers))
      right = f"num_layers of at most {fitting}" if fitting else "a smaller kernel_size"
      raise ConfigError(f"network.num_layers is {self.num_layers}, whose last reaches {max(self.reaches)} tokens back, "
                        f"but examples have {self.num_steps}; take {right}, or longer examples.")
    super().__post_init__()

  @property
  def dilations(self) -> tuple[int, ...]:
    """Dilation of each block."""
    return tuple(2**i for i in range(self.num_layers)) * self.num_stacks

  @property
  def reaches(self) -> tuple[int, ...]:
    """Distance in tokens to the earliest tap of each block."""
    return tuple((self.kernel_size - 1) * dilation for dilation in self.dilations)

  @property
  def receptive_field(self) -> int:
    """Number of preceding tokens that a token's logits depend on."""
    return 1 + sum(self.reaches)

  def setup(self) -> None:
    stddev = 1.0 / math.sqrt(self.width) if self.tie_embeddings else 1.0
    self.embedding = Embedding(self.levels, self.width, stddev, self.num_classes, self.smooth)
    last = len(self.dilations) - 1
    self.blocks = [DilatedBlock(self.width, self.skip_width, self.kernel_size, dilation, len(self.dilations), i < last,
                              self.dropout) for i, dilation in enumerate(self.dilations)]
    self.hidden = Linear(self.width if self.tie_embeddings else self.skip_width, math.sqrt(2.0 / self.skip_width),
                         use_bias=True)
    if not self.tie_embeddings:
      self.readout = Linear(self.levels, 1.0 / math.sqrt(self.skip_width))
      if self.smooth:
        self.to_waves = Linear(self.smooth, 1.0 / math.sqrt(self.skip_width * self.smooth))

  def embed(self, tokens: Int[Array, "*batch"]) -> Float[Array, "*batch width"]:
    return self.embedding(tokens)

  def logits(self, skip: Float[Array, "*batch skip"]) -> Float[Array, "*batch levels"]:
    """Return logits from the sum of what the blocks added: GELU, a layer, GELU, a layer.

    The paper has rectifiers. Their slope jumps, so that bfloat16 products move gradients of small networks by a tenth.
    """
    hidden = jax.nn.gelu(self.hidden(jax.nn.gelu(skip)))
    if self.tie_embeddings:
      return self.embedding.logits(hidden)
    return self.readout(hidden) + self.of_waves(self.to_waves(hidden)) if self.smooth else self.readout(hidden)

  def of_waves(self, x: Float[Array, "*batch smooth"]) -> Float[Array, "*batch levels"]:
    """Return the sum of cosines of the level, weighted by x."""
    return (x.reshape(-1, self.smooth) @ waves(self.levels, self.smooth).T).reshape(*x.shape[:-1], self.levels)

  def run(self, x: Float[Array, "batch steps width"],
          key: Key[Array, ""] | None = None) -> tuple[Float[Array, "batch steps skip"], list[Array]]:
    """Return the sum of what the blocks add, and each block's input, from embedded tokens."""
    first, *keys = [None] * (len(self.blocks) + 1) if key is None else jax.random.split(key, len(self.blocks) + 1)
    x, total, inputs = dropout(first, x, self.dropout), jnp.zeros((), x.dtype), []
    for block, block_key in zip(self.blocks, keys, strict=True):
      inputs.append(x)
      x, skip = block(x, block_key)
      total = total + skip
    return end_of_stage(total), inputs

  def __call__(self, previous, key=None):
    return self.logits(self.run(self.embed(previous), key)[0])

  def init_cache(self, num, dtype) -> Rings:
    """Return a ring of each block's last inputs; zeros, as the convolutions see before the first position."""
    return tuple(jnp.zeros((num, reach, self.width), dtype) for reach in self.reaches)

  @nn.nowrap
  def prefill(self, variables, cache, previous, num):
    rings = self.apply(variables, previous, num, method="rings")
    return jax.tree.map(lambda old, new: new.astype(old.dtype), cache, rings)

  def rings(self, previous: Int[Array, "batch steps"], num: Int[Array, ""]) -> Rings:
    """Return each block's ring, as steps at positions 0 to num - 1 leave it."""
    _, inputs = self.run(self.embed(previous))
    return tuple(block.ring(x, num) for block, x in zip(self.blocks, inputs, strict=True))

  def step(self, cache, previous, index):
    """As in the base, in time linear in the blocks, whatever their dilations."""
    x, rings = self.embed(previous), []
    total = jnp.zeros((), x.dtype)
    for block, old in zip(self.blocks, cache, strict=True):
      (x, skip), new = block.step(x, old, index)
      total = total + skip
      rings.append(new)
    return self.logits(total), tuple(rings)


def wavenet(spec: DataSpec, network: WaveNet = WaveNet(), prefix_dropout: float = 0.0,
            class_conditional: bool = False, prefix_token_dropout: float = 0.0) -> SequenceModel:
  """Return a WaveNet over tokens, of sound say.

  Args:
    spec: the data.
    network: its layers and their sizes.
    prefix_dropout: share of training examples whose prefix is withheld; see `SequenceModel`.
    class_conditional: whether it is a model of sequences given their labels.
    prefix_token_dropout: share of the tokens of prefixes that is withheld.
  """
  return SequenceModel(spec, network, prefix_dropout, class_conditional, prefix_token_dropout)
