"""Cells of recurrent networks: tanh units, long short-term memory, gated recurrent units."""

import dataclasses

import jax
import jax.numpy as jnp

from gdm.autoregressive.recurrence import Cell


@dataclasses.dataclass(frozen=True)
class Tanh(Cell):
  """h_t = tanh(x_t + a_t) (Elman, 1990)."""

  gates: int = 1
  states: int = 1
  biases: int = 0

  def forward(self, x, a, bias, state):
    return (jnp.tanh(x + a),), ()

  def backward(self, before, hidden, saved, grad):
    return grad[0] * (1 - hidden * hidden), (jnp.zeros_like(hidden),)

  def pull(self, deltas):
    return deltas, deltas


@dataclasses.dataclass(frozen=True)
class LSTM(Cell):
  """c_t = f c_{t-1} + i g, h_t = o tanh(c_t) (Hochreiter and Schmidhuber, 1997; forget gates by Gers et al., 2000).

  The pre-activations belong to i, f, g and o, in this order.
  """

  gates: int = 4
  states: int = 2
  biases: int = 0

  def forward(self, x, a, bias, state):
    i, f, g, o = jnp.split(x + a, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * state[1] + i * g
    return (o * jnp.tanh(c), c), (i, f, g, o)

  def backward(self, before, hidden, saved, grad):
    i, f, g, o = saved
    c, (grad_h, grad_c) = before[1], grad
    tanh_c = jnp.tanh(f * c + i * g)
    grad_c = grad_c + grad_h * o * (1 - tanh_c * tanh_c)
    deltas = jnp.concatenate([grad_c * g * i * (1 - i), grad_c * c * f * (1 - f), grad_c * i * (1 - g * g),
                              grad_h * tanh_c * o * (1 - o)], axis=-1)
    return deltas, (jnp.zeros_like(grad_h), grad_c * f)

  def pull(self, deltas):
    return deltas, deltas


@dataclasses.dataclass(frozen=True)
class GRU(Cell):
  """h_t = (1 - z) n + z h_{t-1}, n = tanh(x_n + r (a_n + b)) (Cho et al., arXiv:1406.1078).

  The reset gate r acts after the product, as in cuDNN, so one product serves all gates and the candidate n has two
  biases. The pre-activations belong to r, z and n, in this order.
  """

  gates: int = 3
  states: int = 1
  biases: int = 1

  def forward(self, x, a, bias, state):
    (x_r, x_z, x_n), (a_r, a_z, a_n) = jnp.split(x, 3, axis=-1), jnp.split(a, 3, axis=-1)
    r, z, q = jax.nn.sigmoid(x_r + a_r), jax.nn.sigmoid(x_z + a_z), a_n + bias
    n = jnp.tanh(x_n + r * q)
    return (n + z * (state[0] - n),), (r, z, n, q)

  def backward(self, before, hidden, saved, grad):
    r, z, n, q = saved
    grad_n = grad[0] * (1 - z) * (1 - n * n)
    grad_q = grad_n * r
    through_a = jnp.concatenate([grad_q * q * (1 - r), grad[0] * (before[0] - n) * z * (1 - z), grad_q], axis=-1)
    return (through_a, grad_n), (grad[0] * z,)

  def pull(self, deltas):
    through_a, grad_n = deltas
    return jnp.concatenate([through_a[..., :-grad_n.shape[-1]], grad_n], axis=-1), through_a


CELLS: dict[str, Cell] = {"rnn": Tanh(), "lstm": LSTM(), "gru": GRU()}
