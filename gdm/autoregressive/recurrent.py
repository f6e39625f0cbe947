"""Recurrent networks on sequences of tokens: tanh units, LSTM, GRU (Graves, arXiv:1308.0850).

All that came before a token is in a state of fixed size, so a text of any length can be scored and generated, and a
long one in chunks that hand the state on.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdm.autoregressive.sequence import SequenceModel
from gdm.errors import ConfigError, nearest
from gdm.model import Params
from gdm.networks.cells import CELLS
from gdm.networks.recurrence import State
from gdm.networks.recurrent import RecurrentDecoder

States = tuple[State, ...]  # one per layer


@dataclasses.dataclass(frozen=True)
class Recurrent(SequenceModel):
  """Stacked recurrent layers; the state before the first token is learned.

  Attributes:
    cell: "rnn" (tanh units), "lstm" or "gru".
    num_layers: layers.
    width: hidden units of each.
    embedding_width: size of a token's vector; 0 for the width.
    dropout: rate on the output of each layer, not on the recurrence.
    tie_embeddings: whether logits are products with the embeddings, which are as wide as the layers then.
  """

  cell: str = "gru"
  num_layers: int = 2
  width: int = 256
  embedding_width: int = 0
  dropout: float = 0.0
  tie_embeddings: bool = False

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.cell not in CELLS:
      raise ConfigError(f"cell is {self.cell!r}; {nearest(self.cell, CELLS)}")
    for name in ("num_layers", "width"):
      if getattr(self, name) < 1:
        raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
    if self.embedding_width < 0:
      raise ConfigError(f"embedding_width is {self.embedding_width}; it must be at least 1, or 0 for the width.")
    if self.tie_embeddings and self.embedding_width not in (0, self.width):
      raise ConfigError(f"embedding_width is {self.embedding_width}; with tie_embeddings it must be the width, "
                        f"{self.width}, or 0, which means that.")
    if not 0.0 <= self.dropout < 1.0:
      raise ConfigError(f"dropout is {self.dropout}; a dropout rate lies in [0, 1).")

  @property
  def context(self) -> None:
    """There is no limit: a state goes on and on."""

  @property
  def network(self) -> RecurrentDecoder:
    return RecurrentDecoder(self.levels, self.cell, self.num_layers, self.width, self.embedding_width or self.width,
                            self.tie_embeddings, self.dropout)

  def init_cache(self, params: Params, num: int) -> States:
    """The learned initial state, for `num` sequences."""
    state: Any = self.network.apply({"params": params["model"]}, num, method="initial_state")
    return state

  def conditional_step(self, params, cache, x_previous, index):
    logits, cache = self.network.apply({"params": params["model"]}, self.fed(x_previous, index), cache, method="step")
    return cache, logits

  def advance(self, params: Params, state: States,
              previous: Int[Array, "batch steps"]) -> tuple[States, Float[Array, "batch steps levels"]]:
    """Logits of the tokens after each of `previous`, and the state to hand on to the next chunk.

    Args:
      params: the parameters.
      state: from `init_cache`, or from the chunk before.
      previous: the tokens before those that are scored: in the first chunk `start` and all but the last of its tokens,
        in a later one the last token of the chunk before it and all but the last of its own.
    """
    out: Any = self.network.apply({"params": params["model"]}, previous.astype(jnp.int32), state, method="advance")
    logits, state = out
    return state, logits
