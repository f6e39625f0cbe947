"""Both LSTMs over images: their recurrence and its gradient, and steps in images of other shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.image_models import TALL, build
from helpers.token_models import by_steps, in_one_pass, some

from gdm.autoregressive.images.diagonal_bilstm import along_diagonals
from gdm.autoregressive.images.pixel_lstm import recur

KEY = jax.random.key(0)
# Function, the pixels [up, right] whose hidden states the gates see, and the one whose cell goes on.
RECURRENCES = {
    "row_lstm": (functools.partial(recur, (-1, 0, 1)), ((1, -1), (1, 0), (1, 1)), (1, 0)),  # equation 3
    "diagonal_bilstm": (along_diagonals, ((1, 0), (0, -1)), (0, -1)),
}


def pixel_by_pixel(neighbours, previous, x, kernel):
  """The recurrence written out: x [rows, columns, batch, gates], kernel [neighbours * units, gates]."""
  (height, columns, batch, _), units = x.shape, x.shape[-1] // 4
  nothing = jnp.zeros((batch, units))
  hidden, cells = {}, {}
  for i, j in np.ndindex(height, columns):
    seen = jnp.concatenate([hidden.get((i - up, j + right), nothing) for up, right in neighbours], axis=-1)
    gates = x[i, j] + seen @ kernel
    ingoing, forget, new, outgoing = (gates[:, k * units:(k + 1) * units] for k in range(4))
    cells[i, j] = (jax.nn.sigmoid(forget) * cells.get((i - previous[0], j + previous[1]), nothing)
                   + jax.nn.sigmoid(ingoing) * jnp.tanh(new))
    hidden[i, j] = jax.nn.sigmoid(outgoing) * jnp.tanh(cells[i, j])
  return jnp.stack([hidden[place] for place in np.ndindex(height, columns)]).reshape(height, columns, batch, units)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECURRENCES)
def test_states_follow_from_their_neighbours_and_so_do_gradients(name):
  function, neighbours, previous = RECURRENCES[name]
  x = 2 * jax.random.normal(KEY, (3, 4, 2, 8))
  kernel = jax.random.normal(jax.random.key(1), (2 * len(neighbours), 8))
  weights = jax.random.normal(jax.random.key(2), (3, 4, 2, 2))

  @functools.partial(jax.jit, static_argnums=0)
  def run(function, *inputs):
    out, pull = jax.vjp(function, *inputs)
    return out, pull(weights)

  ours = run(function, x, kernel)
  expected = run(functools.partial(pixel_by_pixel, neighbours, previous), x, kernel)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fields"), [
    ("row_lstm", {"first_size": 5, "kernel_size": 5, "num_layers": 1}),
    ("diagonal_bilstm", {"width": 24, "head_width": 24, "num_layers": 1})])
def test_steps_give_the_logits_of_one_pass_in_tall_images(name, fields):
  model, params, _ = build(name, TALL, **fields)
  x = some(TALL)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)
