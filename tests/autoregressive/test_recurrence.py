"""Recurrences: the hand-written gradients are autodiff's, cells are their formulas, both ends are seen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.autoregressive import recurrence
from gdm.autoregressive.cells import CELLS
from gdm.autoregressive.recurrence import recur
from gdm.autoregressive.sequences.recurrent import RecurrentLayer

KEY = jax.random.key(0)
each = pytest.mark.parametrize("name", CELLS)


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield


def plain(cell, x, kernel, bias, state):
  """The same recurrence for autodiff to differentiate."""
  def body(state, x):
    state = cell.forward(x, state[0] @ kernel, bias, state)[0]
    return state, state[0]

  last, hidden = jax.lax.scan(body, state, x)
  return hidden, last


def arguments(cell, steps=7, batch=3, width=4, dtype=jnp.float64):
  keys = iter(jax.random.split(KEY, 6))
  shapes = ((steps, batch, cell.gates * width), (width, cell.gates * width), (cell.biases * width,))
  arrays = tuple(jax.random.normal(next(keys), shape, dtype) for shape in shapes)
  return *arrays, tuple(jax.random.normal(next(keys), (batch, width), dtype) for _ in range(cell.states))


def scalar(function, cell, args):
  """A loss on which all hidden units and all of the last state have their own weight."""
  hidden, last = function(cell, *args)
  weights = jax.random.normal(jax.random.key(1), hidden.shape, hidden.dtype)
  return jnp.sum(weights * hidden) + sum(jnp.sum((2 + i) * jnp.sin(s)) for i, s in enumerate(last))


def assert_trees_close(one, other, **tolerance):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.fast_cases("checkpoint-rnn")
@each
@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "checkpoint"])
def test_gradients_are_those_of_autodiff(name, wrap, float64):
  cell = CELLS[name]
  args = arguments(cell)
  ours = jax.jit(jax.value_and_grad(wrap(functools.partial(scalar, recur, cell))))(args)
  theirs = jax.jit(jax.value_and_grad(functools.partial(scalar, plain, cell)))(args)
  assert_trees_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@each
def test_gradients_are_those_of_autodiff_under_vmap(name, float64):
  cell = CELLS[name]
  x, kernel, bias, state = arguments(cell)
  many = jnp.stack([x, 2 * x, -x])
  kernels = jnp.stack([kernel, -kernel, 0.5 * kernel])

  def gradients(function):
    return jax.jit(jax.vmap(jax.grad(lambda x, kernel: scalar(function, cell, (x, kernel, bias, state)), (0, 1))))(
        many, kernels)

  assert_trees_close(gradients(recur), gradients(plain), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@each
def test_gradients_are_those_of_autodiff_in_float32_too(name):
  cell = CELLS[name]
  args = arguments(cell, dtype=jnp.float32)
  ours, theirs = (jax.jit(jax.grad(functools.partial(scalar, function, cell)))(args) for function in (recur, plain))
  assert_trees_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.fast_cases("rnn", "lstm")
@each
def test_gradients_stay_finite_where_units_saturate(name):
  cell = CELLS[name]
  x, *rest = arguments(cell, dtype=jnp.float32)
  gradients = jax.jit(jax.grad(functools.partial(scalar, recur, cell)))((1e4 * x, *rest))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.fast_cases("rnn")
@each
def test_steps_are_those_of_the_scan(name, float64):
  cell = CELLS[name]
  x, kernel, bias, state = arguments(cell)
  hidden, last = jax.jit(lambda: recur(cell, x, kernel, bias, state))()
  step = jax.jit(lambda x, state: recurrence.step(cell, x, kernel, bias, state))
  for i in range(len(x)):
    state = step(x[i], state)
    np.testing.assert_allclose(state[0], hidden[i], rtol=1e-12)
  assert_trees_close(state, last, rtol=1e-12)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def by_formula(name, x, a, bias, state):
  """One step as the papers write it."""
  if name == "rnn":
    return (np.tanh(x + a),)
  if name == "lstm":
    i, f, g, o = np.split(x + a, 4, -1)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c
  (x_r, x_z, x_n), (a_r, a_z, a_n) = np.split(x, 3, -1), np.split(a, 3, -1)
  z, n = sigmoid(x_z + a_z), np.tanh(x_n + sigmoid(x_r + a_r) * (a_n + bias))
  return ((1 - z) * n + z * state[0],)


@pytest.mark.fast_cases("rnn", "gru")
@each
def test_cells_are_their_formulas(name, float64):
  cell = CELLS[name]
  x, kernel, bias, state = arguments(cell)
  expected = by_formula(name, *jax.tree.map(np.asarray, (x[0], state[0] @ kernel, bias, state)))
  assert_trees_close(recurrence.step(cell, x[0], kernel, bias, state), expected, rtol=1e-12)


@pytest.mark.fast_cases("gru")
@each
def test_a_layer_starts_from_orthogonal_recurrences_and_open_forget_gates(name):
  cell, width = CELLS[name], 6
  layer = RecurrentLayer(name, 5, width)
  params = layer.init(KEY, jnp.zeros((2, 3, cell.gates * width)), (jnp.zeros((3, width)),) * cell.states)["params"]
  for gate in np.split(np.asarray(params["kernel"]), cell.gates, axis=1):
    np.testing.assert_allclose(gate @ gate.T, np.eye(width), atol=1e-5)
  bias = np.asarray(params["input_bias"]).reshape(cell.gates, width)
  np.testing.assert_array_equal(bias, np.eye(4)[[1]].T * np.ones(width) if name == "lstm" else 0 * bias)
