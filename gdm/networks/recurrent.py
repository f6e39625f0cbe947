"""Recurrent networks: stacked layers over previous tokens, and both directions over a whole sequence.

Activations are time-major within, [steps, batch, width]: a loop over time reads each step from one place.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.networks import recurrence
from gdm.networks.blocks import end_of_block
from gdm.networks.cells import CELLS
from gdm.networks.dropout import dropout
from gdm.networks.embedding import Embedding
from gdm.networks.linear import Linear
from gdm.networks.recurrence import Cell, State, recur


class RecurrentLayer(nn.Module):
  """One layer of a recurrent network, with a learned initial state.

  Input weights start normal with variance 1 / inputs, recurrent ones orthogonal in each gate (Saxe et al.,
  arXiv:1312.6120), and forget gates with bias 1 (Jozefowicz et al., ICML 2015, section 2.2).

  Attributes:
    cell: one of `gdm.networks.cells.CELLS`.
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
    """The learned state before the first step, for `num` sequences."""
    return tuple(jnp.broadcast_to(row, (num, self.width)) for row in self.initial)

  def project(self, x: Float[Array, "*shape inputs"]) -> Float[Array, "*shape outputs"]:
    """The inputs' part of the pre-activations, as one product."""
    y = x.reshape(-1, self.inputs) @ self.input_kernel + self.input_bias
    return y.reshape(*x.shape[:-1], y.shape[-1])

  def __call__(self, projected: Float[Array, "steps batch outputs"],
               state: State) -> tuple[Float[Array, "steps batch width"], State]:
    """Hidden units of all steps, and the last state."""
    return recur(self._cell, projected, self.kernel, self._bias(), state)

  def step(self, projected: Float[Array, "batch outputs"], state: State) -> State:
    return recurrence.step(self._cell, projected, self.kernel, self._bias(), state)


class RecurrentDecoder(nn.Module):
  """Previous tokens to logits, by stacked recurrent layers.

  Attributes:
    levels: size of the vocabulary; the token `levels` stands before the first.
    cell: one of `gdm.networks.cells.CELLS`.
    num_layers: layers; each reads the hidden units of the one below.
    width: hidden units of each.
    embedding_width: size of a token's vector.
    tie: whether the logits are products with the embedding, whose size is the width then.
    dropout: rate on the output of each layer, not on the recurrence (Zaremba et al., arXiv:1409.2329).
  """

  levels: int
  cell: str
  num_layers: int
  width: int
  embedding_width: int
  tie: bool = False
  dropout: float = 0.0

  def setup(self) -> None:
    # The first layer reads vectors of unit variance; tied to logits they must be small.
    stddev = self.width ** -0.5 if self.tie else 1.0
    self.embedding = Embedding(self.levels, self.embedding_width, stddev)
    inputs = [self.embedding_width] + [self.width] * (self.num_layers - 1)
    self.layers = [RecurrentLayer(self.cell, size, self.width) for size in inputs]
    if not self.tie:
      self.readout = Linear(self.levels, self.width ** -0.5, use_bias=True)

  def logits(self, x: Float[Array, "*shape width"]) -> Float[Array, "*shape levels"]:
    return self.embedding.logits(x) if self.tie else self.readout(x)

  def initial_state(self, num: int) -> tuple[State, ...]:
    """Each layer's learned state before the first token."""
    return tuple(layer.initial_state(num) for layer in self.layers)

  def first(self, previous: Int[Array, "*shape"]) -> Float[Array, "*shape outputs"]:
    """The first layer's inputs' part of the pre-activations.

    A small vocabulary is projected whole and its rows are chosen by a product, which is less work than to project each
    token's vector, and has a gradient without a scatter.
    """
    if self.levels + 1 > min(self.embedding_width, previous.size):
      return self.layers[0].project(self.embedding(previous))
    every = self.layers[0].project(self.embedding(jnp.arange(self.levels + 1)))
    chosen = jax.nn.one_hot(previous.reshape(-1), self.levels + 1, dtype=every.dtype) @ every
    return chosen.reshape(*previous.shape, every.shape[-1])

  def advance(self, previous: Int[Array, "batch steps"], state: tuple[State, ...],
              key: Key[Array, ""] | None = None) -> tuple[Float[Array, "batch steps levels"], tuple[State, ...]]:
    """Logits of each position's token, and each layer's last state; a key means training."""
    keys = [None] * self.num_layers if key is None else list(jax.random.split(key, self.num_layers))
    projected, last = self.first(previous.T), []
    for i, (layer, before, layer_key) in enumerate(zip(self.layers, state, keys, strict=True)):
      x, after = layer(projected if i == 0 else layer.project(projected), before)
      last.append(after)
      projected = dropout(layer_key, _end_of_layer(x), self.dropout)
    return jnp.swapaxes(self.logits(projected), 0, 1), tuple(last)

  def __call__(self, previous: Int[Array, "batch steps"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch steps levels"]:
    """Logits of each position's token; a key means training."""
    return self.advance(previous, self.initial_state(len(previous)), key)[0]

  def step(self, previous: Int[Array, " batch"],
           state: tuple[State, ...]) -> tuple[Float[Array, "batch levels"], tuple[State, ...]]:
    """Logits of the next token, and each layer's state after `previous`."""
    x, states = self.embedding(previous), []
    for layer, before in zip(self.layers, state, strict=True):
      after = layer.step(layer.project(x), before)
      states.append(after)
      x = after[0]
    return self.logits(x), tuple(states)


class Bidirectional(nn.Module):
  """A representation of each position that depends on the whole sequence (Schuster and Paliwal, 1997).

  One layer runs forwards and one backwards, from the end of each sequence; it sees the future, so it is a part of no
  generative factorization.

  Attributes:
    cell: one of `gdm.networks.cells.CELLS`.
    width: hidden units of each direction.
  """

  cell: str
  width: int

  @nn.compact
  def __call__(self, x: Float[Array, "batch steps inputs"],
               length: Int[Array, " batch"] | None = None) -> Float[Array, "batch steps both"]:
    """Hidden units of both directions, forwards first; with `length`, padding changes nothing and gives zeros."""
    num, steps = x.shape[:2]
    length = jnp.full(num, steps) if length is None else length
    at = jnp.arange(steps)
    real = at < length[:, None]
    mirrored = jnp.where(real, length[:, None] - 1 - at, at)[..., None]  # its own inverse
    x = jnp.where(real[..., None], x, 0.0)
    both = []
    for name, inputs in (("forwards", x), ("backwards", jnp.take_along_axis(x, mirrored, axis=1))):
      layer = RecurrentLayer(self.cell, x.shape[-1], self.width, name=name)
      out, _ = layer(layer.project(jnp.swapaxes(inputs, 0, 1)), layer.initial_state(num))
      both.append(jnp.swapaxes(out, 0, 1))
    both[1] = jnp.take_along_axis(both[1], mirrored, axis=1)
    return jnp.where(real[..., None], jnp.concatenate(both, axis=-1), 0.0)


def _end_of_layer(x: Float[Array, "steps batch width"]) -> Float[Array, "steps batch width"]:
  return jnp.swapaxes(end_of_block(jnp.swapaxes(x, 0, 1)), 0, 1)


def _orthogonal_gates(gates: int) -> jax.nn.initializers.Initializer:
  """Orthogonal matrices side by side, one per gate."""
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
