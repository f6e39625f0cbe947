"""LSTMs over images, and the frame of networks made of them (van den Oord et al., arXiv:1601.06759, section 3).

A layer's states move over an image by whole lines, rows or diagonals, all pixels of a line at once. Each pixel's gates
depend on some neighbours' hidden units in the line before, by one product; the inputs' part is there before the loop,
and the weights' gradient is one product after it, as in `gdm.autoregressive.recurrence`.

Activations are [height, columns, batch, units] within, so that lines and their neighbours are copies of whole blocks.
"""

import abc
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.autoregressive.cells import LSTM
from gdm.autoregressive.images.image_network import FramedNetwork
from gdm.autoregressive.recurrence import State
from gdm.stages import end_of_stage

CELL = LSTM()
GATES = CELL.gates

Shifts = tuple[int, ...]  # places from a place to its neighbours in the line before


def shifted(x: Float[Array, "*lines places batch units"],
            shifts: Shifts) -> Float[Array, "*lines places batch taps_units"]:
  """Return each place's neighbours along a line, side by side; zeros outside."""
  side, places = max(map(abs, shifts)), x.shape[-3]
  padded = jnp.pad(x, (*[(0, 0)] * (x.ndim - 3), (side, side), (0, 0), (0, 0)))
  return jnp.concatenate([padded[..., side + shift:side + shift + places, :, :] for shift in shifts], axis=-1)


def recur(shifts: Shifts, x: Float[Array, "lines places batch gates"],
          kernel: Float[Array, "taps_units gates"]) -> Float[Array, "lines places batch units"]:
  """Return hidden units of all places: an LSTM from line to line, its gates x + neighbours' hidden units @ kernel.

  Before the first line and outside of lines all states are zero. Where x is zero, a zero state stays zero.
  """
  hidden: Any = _recur(shifts, x, kernel)
  return hidden


def step(x: Float[Array, "batch gates"], above: Float[Array, "batch taps_units"],
         kernel: Float[Array, "taps_units gates"], c: Float[Array, "batch units"]) -> State:
  """Return hidden units and memory cells of a place, from its neighbours' hidden units and its cells a line before."""
  return CELL.forward(x, above @ kernel, jnp.zeros(0, x.dtype), (c, c))[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recur(shifts, x, kernel):
  return _forward(shifts, x, kernel)[0]


def _forward(shifts, x, kernel):
  def body(before, x):
    state, saved = CELL.forward(x, shifted(before[0], shifts) @ kernel, no_bias, before)
    return state, (state[0], before, saved)

  no_bias = jnp.zeros(0, x.dtype)  # x has it
  zeros = jnp.zeros((*x.shape[1:-1], kernel.shape[0] // len(shifts)), x.dtype)
  _, (hidden, before, saved) = jax.lax.scan(body, (zeros, zeros), x)
  return hidden, (kernel, hidden, before, saved)


def _backward(shifts, residuals, grad_hidden):
  kernel, hidden, before, saved = residuals
  transposed = kernel.T  # once: within the loop each product would do it again

  def body(grad, inputs):
    grad_h, before, h, saved = inputs
    deltas, direct = CELL.backward(before, h, saved, (grad[0] + grad_h, grad[1]))
    taps = jnp.split(deltas @ transposed, len(shifts), axis=-1)
    through = sum(shifted(tap, (-shift,)) for tap, shift in zip(taps, shifts, strict=True))
    return (direct[0] + through, direct[1]), deltas

  zeros = jnp.zeros_like(hidden[0])
  _, deltas = jax.lax.scan(body, (zeros, zeros), (grad_hidden, before, hidden, saved), reverse=True)
  above = shifted(before[0], shifts)
  return deltas, above.reshape(-1, above.shape[-1]).T @ deltas.reshape(-1, deltas.shape[-1])


_recur.defvjp(_forward, _backward)


def by_gate(x: Float[Array, "*shape gates"], channels: int) -> Float[Array, "*shape gates"]:
  """Return gates one after another, from a masked layer's groups: one for each channel, with its part of all gates."""
  parts = x.reshape(*x.shape[:-1], channels, GATES, -1)
  return jnp.swapaxes(parts, -3, -2).reshape(x.shape)


def forget_bias(key, shape, dtype=jnp.float32, out_sharding=None):
  """Return 1 for forget gates, so that states last at first (Jozefowicz et al., ICML 2015, section 2.2), else 0."""
  del key, out_sharding
  return jnp.zeros((GATES, shape[0] // GATES), dtype).at[1].set(1.0).reshape(shape)


def state_kernel(key, shape, dtype=jnp.float32, out_sharding=None):
  """Return normal weights of variance 1 / inputs."""
  return jax.nn.initializers.normal(shape[0] ** -0.5)(key, shape, dtype, out_sharding)


class PixelLSTM(FramedNetwork):
  """A convolution of mask A, layers that a subclass supplies, and a readout.

  Attributes:
    width: hidden units of a layer, in each of its directions (h in the paper); between layers there are twice as many.
    num_layers: layers.
    head_width: units of the hidden layer before the outputs.
  """

  width: int = 72  # a multiple of one channel and of three
  num_layers: int = 7
  head_width: int = 144

  def setup(self) -> None:
    self.set_up_frame(2 * self.width, self.head_width)
    self.layers = [self.layer(i) for i in range(self.num_layers)]

  @abc.abstractmethod
  def layer(self, index: int) -> nn.Module:
    """Return a layer `(x, codes, key) -> x`, all but the key [height, columns, batch, units]."""

  def outputs_from_codes(self, codes, key=None, y=None):
    codes, x, keys = self.begin(codes, key, self.num_layers)
    codes, x = jnp.moveaxis(codes, 0, 2), jnp.moveaxis(x, 0, 2)
    for layer, layer_key in zip(self.layers, keys, strict=True):
      x = jnp.moveaxis(end_of_stage(jnp.moveaxis(layer(x, codes, layer_key), 2, 0)), 0, 2)
    return self.read_out(jnp.moveaxis(x, 2, 0))
