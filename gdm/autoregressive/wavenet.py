"""WaveNet: causal dilated convolutions on sequences of tokens (van den Oord et al., arXiv:1609.03499).

Sound is one of them: a sequence of 8-bit samples, companded by mu-law (section 2.2).
"""

import dataclasses

import jax
import jax.numpy as jnp

from gdm.autoregressive.sequence import SequenceModel
from gdm.errors import ConfigError
from gdm.networks.wavenet import WaveNetNetwork


@dataclasses.dataclass(frozen=True)
class WaveNet(SequenceModel):
  """Stacks of gated residual blocks with dilations 1, 2, 4, …, 2^(num_layers - 1), the same in each stack.

  No position is special, so that sequences of any length can be generated, in constant time per token.

  Attributes:
    num_layers: blocks of a stack.
    num_stacks: stacks.
    width: channels of the residual stream.
    skip_width: channels of the sum that all blocks add to and that the logits are made of.
    kernel_size: taps of each convolution.
    dropout: rate on embeddings and on what blocks compute.
    tie_embeddings: whether logits are products with the embeddings.
  """

  num_layers: int = 5
  num_stacks: int = 2
  width: int = 128
  skip_width: int = 128
  kernel_size: int = 2
  dropout: float = 0.0
  tie_embeddings: bool = False

  def __post_init__(self) -> None:
    super().__post_init__()
    for name, least in (("num_layers", 1), ("num_stacks", 1), ("width", 1), ("skip_width", 1), ("kernel_size", 2)):
      if getattr(self, name) < least:
        raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
    if not 0.0 <= self.dropout < 1.0:
      raise ConfigError(f"dropout is {self.dropout}; a dropout rate lies in [0, 1).")
    # A tap that reaches beyond every example would see zeros alone in training, and tokens when generation goes on.
    if max(self._reaches) >= self.num_steps:
      fitting = sum((self.kernel_size - 1) * 2**i < self.num_steps for i in range(self.num_layers))
      right = f"num_layers of at most {fitting}" if fitting else "a smaller kernel_size"
      raise ConfigError(f"num_layers is {self.num_layers}, whose last reaches {max(self._reaches)} tokens back, but "
                        f"examples have {self.num_steps}; take {right}, or longer examples.")

  @property
  def dilations(self) -> tuple[int, ...]:
    """That of each block."""
    return tuple(2**i for i in range(self.num_layers)) * self.num_stacks

  @property
  def receptive_field(self) -> int:
    """How many tokens before it a token's logits depend on."""
    return 1 + sum(self._reaches)

  @property
  def _reaches(self) -> tuple[int, ...]:
    return tuple((self.kernel_size - 1) * dilation for dilation in self.dilations)

  @property
  def context(self) -> None:
    return None

  @property
  def network(self) -> WaveNetNetwork:
    return WaveNetNetwork(self.levels, self.width, self.skip_width, self.kernel_size, self.dilations,
                          self.tie_embeddings, self.dropout)

  def init_cache(self, params, num):
    """A ring of each block's last inputs; zeros, as the convolutions see before the first position."""
    dtype = jax.tree.leaves(params["model"])[0].dtype
    return tuple(jnp.zeros((num, reach, self.width), dtype) for reach in self._reaches)

  def conditional_step(self, params, cache, x_previous, index):
    variables = {"params": params["model"]}
    logits, cache = self.network.apply(variables, self.fed(x_previous, index), cache, index, method="step")
    return cache, logits

  def prefill(self, params, cache, x, num):
    rings = self.network.apply({"params": params["model"]}, self.previous(x), num, method="rings")
    return jax.tree.map(lambda old, new: new.astype(old.dtype), cache, rings)
