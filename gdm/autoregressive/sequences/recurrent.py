"""Recurrent networks on sequences of tokens: tanh units, LSTM, GRU (Graves, arXiv:1308.0850).

All that came before a token is in a state of fixed size, so a text of any length can be scored and generated, and a
long one in chunks that hand the state on.

Activations are time-major within, [steps, batch, width]: a loop over time reads each step from one place.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm import checks
from gdm.autoregressive import recurrence
from gdm.autoregressive.cells import CELLS
from gdm.autoregressive.recurrence import Cell, State, recur
from gdm.autoregressive.sequences.embedding import Embedding
from gdm.autoregressive.sequences.sequence_model import SequenceModel, SequenceNetwork
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.networks.dropout import dropout
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage


class RecurrentLayer(nn.Module):
  """One layer of a recurrent network, with a learned initial state.

  Input weights start normal with variance 1 / inputs, recurrent ones orthogonal in each gate (Saxe et al.,
  arXiv:1312.6120), and forget gates with bias 1 (Jozefowicz et al., ICML 2015, section 2.2).

  Attributes:
    cell: one of `gdm.autoregressive.cells.CELLS`.
    inputs: size of an input.
    width: hidden units.
  """

  cell: str
  inputs: int
  width: int

  def setup(self) -> None:
    cell = self._cell
    outputs = cell.gates * self.width
    self.input_kernel = self.param("input_kernel", jax.nn.initializers.lecun_normal(), (self.inputs, outputs))
    self.input_bias = self.param("input_bias", _input_bias(self.cell), (outputs,))
    self.kernel = self.param("kernel", _orthogonal_gates(cell.gates), (self.width, outputs))
    self.initial = self.param("initial", jax.nn.initializers.zeros, (cell.states, self.width))
    if cell.biases:
      self.bias = self.param("bias", jax.nn.initializers.zeros, (cell.biases * self.width,))

  @property
  def _cell(self) -> Cell:
    return CELLS[self.cell]

  def _bias(self) -> Float[Array, " biased"]:
    return self.bias if self._cell.biases else jnp.zeros(0, self.kernel.dtype)

  def initial_state(self, num: int) -> State:
    """Return the learned state before the first step, for `num` sequences."""
    return tuple(jnp.broadcast_to(row, (num, self.width)) for row in self.initial)

  def project(self, x: Float[Array, "*shape inputs"]) -> Float[Array, "*shape outputs"]:
    """Return the inputs' part of the pre-activations, as one product."""
    y = x.reshape(-1, self.inputs) @ self.input_kernel + self.input_bias
    return y.reshape(*x.shape[:-1], y.shape[-1])

  def __call__(self, projected: Float[Array, "steps batch outputs"],
               state: State) -> tuple[Float[Array, "steps batch width"], State]:
    """Return hidden units of all steps, and the last state."""
    return recur(self._cell, projected, self.kernel, self._bias(), state)

  def step(self, projected: Float[Array, "batch outputs"], state: State) -> State:
    return recurrence.step(self._cell, projected, self.kernel, self._bias(), state)


class Recurrent(SequenceNetwork):
  """Stacked recurrent layers over previous tokens; the state before the first token is learned.

  Attributes:
    cell: "rnn" (tanh units), "lstm" or "gru".
    num_layers: layers; each reads the hidden units of the one below.
    width: hidden units of each.
    embedding_width: size of a token's vector; 0 for the width.
    dropout: rate on the output of each layer, not on the recurrence (Zaremba et al., arXiv:1409.2329), in [0, 1).
    tie_embeddings: whether logits are products with the embeddings, which are as wide as the layers then.
  """

  cell: str = "gru"
  num_layers: int = 2
  width: int = 256
  embedding_width: int = 0
  dropout: float = 0.0
  tie_embeddings: bool = False

  def __post_init__(self) -> None:
    checks.one_of("network.cell", self.cell, CELLS)
    checks.at_least("network.num_layers", self.num_layers, 1)
    checks.at_least("network.width", self.width, 1)
    if self.embedding_width < 0:
      raise ConfigError(f"network.embedding_width is {self.embedding_width}; it must be at least 1, or 0 for the "
                        "width.")
    if self.tie_embeddings and self.vector_width != self.width:
      raise ConfigError(f"network.embedding_width is {self.embedding_width}; with tie_embeddings it must be the width, "
                        f"{self.width}, or 0, which means that.")
    checks.rate("network.dropout", self.dropout)
    super().__post_init__()

  @property
  def vector_width(self) -> int:
    """Size of a token's vector."""
    return self.embedding_width or self.width

  def setup(self) -> None:
    # The first layer reads vectors of unit variance; tied to logits they must be small.
    stddev = self.width ** -0.5 if self.tie_embeddings else 1.0
    self.embedding = Embedding(self.levels, self.vector_width, stddev, self.num_classes)
    inputs = [self.vector_width] + [self.width] * (self.num_layers - 1)
    self.layers = [RecurrentLayer(self.cell, size, self.width) for size in inputs]
    if not self.tie_embeddings:
      self.readout = Linear(self.levels, self.width ** -0.5, use_bias=True)

  def logits(self, x: Float[Array, "*shape width"]) -> Float[Array, "*shape levels"]:
    return self.embedding.logits(x) if self.tie_embeddings else self.readout(x)

  def initial_state(self, num: int) -> tuple[State, ...]:
    """Return each layer's learned state before the first token."""
    return tuple(layer.initial_state(num) for layer in self.layers)

  def first(self, previous: Int[Array, "*shape"]) -> Float[Array, "*shape outputs"]:
    """Return the inputs' part of the first layer's pre-activations.

    A small vocabulary is projected whole and its rows are chosen by a product, which is less work than to project each
    token's vector, and has a gradient without a scatter.
    """
    if self.num_classes or self.levels + 1 > min(self.vector_width, previous.size):
      return self.layers[0].project(self.embedding(previous))
    every = self.layers[0].project(self.embedding(jnp.arange(self.levels + 1)))
    chosen = jax.nn.one_hot(previous.reshape(-1), self.levels + 1, dtype=every.dtype) @ every
    return chosen.reshape(*previous.shape, every.shape[-1])

  def chunk(self, previous: Int[Array, "batch steps"], state: tuple[State, ...],
            key: Key[Array, ""] | None = None) -> tuple[Float[Array, "batch steps levels"], tuple[State, ...]]:
    """Return logits of the tokens of one chunk of a long text, and each layer's state for the next chunk.

    Args:
      previous: the token before each: in the first chunk `levels` and all but the last of its tokens, in a later one
        the last token of the chunk before it and all but the last of this one.
      state: `initial_state`, or from the chunk before.
      key: means training.
    """
    keys = [None] * self.num_layers if key is None else list(jax.random.split(key, self.num_layers))
    projected, last = self.first(previous.T), []
    for i, (layer, before, layer_key) in enumerate(zip(self.layers, state, keys, strict=True)):
      x, after = layer(projected if i == 0 else layer.project(projected), before)
      last.append(after)
      projected = dropout(layer_key, _end_of_layer(x), self.dropout)
    return jnp.swapaxes(self.logits(projected), 0, 1), tuple(last)

  def __call__(self, previous, key=None):
    return self.chunk(previous, self.initial_state(len(previous)), key)[0]

  def init_cache(self, num, dtype) -> tuple[State, ...]:
    return self.initial_state(num)

  @nn.nowrap
  def prefill(self, variables, cache, previous, num):
    """As in the base, step by step: a state follows from the state before alone."""
    def body(index, cache):
      return self.apply(variables, cache, previous[:, index], index, method="step")[1]

    return jax.lax.fori_loop(0, num, body, cache)

  def step(self, cache, previous, index):
    x, states = self.embedding(previous), []
    for layer, before in zip(self.layers, cache, strict=True):
      after = layer.step(layer.project(x), before)
      states.append(after)
      x = after[0]
    return self.logits(x), tuple(states)


def recurrent(spec: DataSpec, network: Recurrent = Recurrent(), prefix_dropout: float = 0.0,
              class_conditional: bool = False, prefix_token_dropout: float = 0.0) -> SequenceModel:
  """Return a recurrent network over tokens.

  Args:
    spec: the data.
    network: its layers and their sizes.
    prefix_dropout: share of training examples whose prefix is withheld; see `SequenceModel`.
    class_conditional: whether it is a model of sequences given their labels.
    prefix_token_dropout: share of the tokens of prefixes that is withheld.
  """
  return SequenceModel(spec, network, prefix_dropout, class_conditional, prefix_token_dropout)


def _end_of_layer(x: Float[Array, "steps batch width"]) -> Float[Array, "steps batch width"]:
  return jnp.swapaxes(end_of_stage(jnp.swapaxes(x, 0, 1)), 0, 1)


def _orthogonal_gates(gates: int) -> jax.nn.initializers.Initializer:
  """Return orthogonal matrices side by side, one per gate."""
  orthogonal = jax.nn.initializers.orthogonal()

  def init(key, shape: Sequence[int], dtype=jnp.float32, out_sharding=None):
    del out_sharding
    width = shape[0]
    return jnp.concatenate([orthogonal(k, (width, width), dtype) for k in jax.random.split(key, gates)], axis=1)

  return init


def _input_bias(cell: str) -> jax.nn.initializers.Initializer:
  forget = {"lstm": 1}  # which gate remembers where its pre-activation is large

  def init(key, shape: Sequence[int], dtype=jnp.float32, out_sharding=None):
    del key, out_sharding
    gates = jnp.zeros((CELLS[cell].gates, shape[0] // CELLS[cell].gates), dtype)
    return (gates.at[forget[cell]].set(1.0) if cell in forget else gates).reshape(shape)

  return init
