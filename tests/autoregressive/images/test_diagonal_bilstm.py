"""Diagonal BiLSTM: exact, causal without a blind spot, and the same whether in one pass or pixel by pixel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.token_models import (
  assert_every_parameter_moves,
  by_steps,
  dependence,
  in_one_pass,
  moved_from_start,
  some,
  token_model,
  train,
)

from gdm.autoregressive.images.diagonal_bilstm import along_diagonals, skew, unskew
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError

KEY = jax.random.key(0)
GREY = DataSpec((2, 2, 1), 4)
COLOUR = DataSpec((2, 2, 3), 2)
LARGER = DataSpec((4, 5, 1), 5)
LARGER_COLOUR = DataSpec((3, 4, 3), 3)
WIDE = DataSpec((3, 6, 1), 3)
TALL = DataSpec((6, 3, 1), 3)
FIELDS = {"width": 6, "num_layers": 2, "first_size": 3, "head_width": 6, "located": True}
each_space = pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
each_image = pytest.mark.parametrize("spec", [pytest.param(LARGER, marks=pytest.mark.slow), LARGER_COLOUR],
                                     ids=["grey", "colour"])


@functools.lru_cache
def build(spec, **fields):
  model = token_model("diagonal_bilstm", spec, **{**FIELDS, **fields})
  return model, *moved_from_start(model)


@pytest.mark.slow
def test_skewing_makes_columns_of_diagonals():
  """Each place goes where its diagonal lies, the rest is zero, and back it goes; so do gradients."""
  for height, columns in ((3, 3), (2, 5), (5, 2), (1, 4), (4, 1)):
    x = 1.0 + jnp.arange(height * columns * 2.0).reshape(height, columns, 2)
    expected = np.zeros((height, height + columns - 1, 2))
    for i, j in np.ndindex(height, columns):
      expected[i, i + j] = x[i, j]
    np.testing.assert_array_equal(skew(x), expected)
    np.testing.assert_array_equal(unskew(skew(x)), x)
    for function, back, value in ((skew, unskew, x), (unskew, skew, skew(x))):
      out, pull = jax.vjp(function, value)
      np.testing.assert_array_equal(pull(out)[0], back(out))


def pixel_by_pixel(x, kernel):
  """An LSTM from above and from the left, written out: x [rows, columns, batch, gates], kernel [2 * units, gates]."""
  (height, columns, batch, _), units = x.shape, x.shape[-1] // 4
  nothing = jnp.zeros((batch, units))
  hidden, cells = {}, {}
  for i, j in np.ndindex(height, columns):
    seen = jnp.concatenate([hidden.get((i - 1, j), nothing), hidden.get((i, j - 1), nothing)], axis=-1)
    gates = x[i, j] + seen @ kernel
    ingoing, forget, new, outgoing = (gates[:, k * units:(k + 1) * units] for k in range(4))
    cells[i, j] = (jax.nn.sigmoid(forget) * cells.get((i, j - 1), nothing)
                   + jax.nn.sigmoid(ingoing) * jnp.tanh(new))
    hidden[i, j] = jax.nn.sigmoid(outgoing) * jnp.tanh(cells[i, j])
  return jnp.stack([hidden[place] for place in np.ndindex(height, columns)]).reshape(height, columns, batch, units)


@pytest.mark.slow
def test_diagonals_follow_from_diagonals_and_so_do_gradients():
  x = 2 * jax.random.normal(KEY, (3, 4, 2, 8))
  kernel = jax.random.normal(jax.random.key(1), (4, 8))
  weights = jax.random.normal(jax.random.key(2), (3, 4, 2, 2))

  @functools.partial(jax.jit, static_argnums=0)
  def run(function, *inputs):
    out, pull = jax.vjp(function, *inputs)
    return out, pull(weights)

  ours, expected = run(along_diagonals, x, kernel), run(pixel_by_pixel, x, kernel)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, expected)


LAYER = {"width": 24, "head_width": 24, "num_layers": 1}


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "fields"), [(LARGER, {}), (LARGER_COLOUR, {}), (TALL, LAYER)],
                         ids=["grey", "colour", "tall"])
def test_steps_give_the_logits_of_one_pass(spec, fields):
  model, params, _ = build(spec, **fields)
  x = some(spec)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "num_layers", "num_steps"), [
    (LARGER_COLOUR, 2, 0), (LARGER_COLOUR, 2, 3), (WIDE, 1, 0), (TALL, 1, 0),
])
def test_logits_depend_on_everything_that_comes_before_and_on_nothing_else(spec, num_layers, num_steps):
  """One layer is enough, in wide images too, where the first convolution is far from the end of the row above."""
  model, params, carry = build(spec, **{**LAYER, "num_layers": num_layers})
  params = train(model, params, carry, num_steps)
  seen = dependence(model, params, some(spec, 24)) > 0
  np.testing.assert_array_equal(seen, np.tri(spec.num_dims, k=-1, dtype=bool))


@pytest.mark.slow
@each_image
def test_every_parameter_moves_but_those_of_masked_channels(spec):
  model = token_model("diagonal_bilstm", spec, dropout=0.1, **{**FIELDS, "width": 12, "head_width": 24})
  masks = {"first": "A", "rightwards": "B", "leftwards": "", "of_codes": "", "layers_0": "", "layers_1": "",
           "to_residual": "B", "hidden": "B", "readout": "B"}
  taps = {**dict.fromkeys(masks, 1), "first": 4 + (spec.event[-1] > 1), "layers_0": 2, "layers_1": 2}
  assert_every_parameter_moves(model, masks, taps)


@pytest.mark.parametrize(("spec", "fields", "message"), [
    (GREY, {"num_layers": 0}, "network.num_layers is 0"),
    (COLOUR, {"width": 8}, "network.width is 8; it must be a positive multiple of the image's channels, 3"),
    (COLOUR, {"head_width": 8}, "network.head_width is 8"),
])
def test_fields_that_cannot_be(spec, fields, message):
  with pytest.raises(ConfigError, match=message):
    token_model("diagonal_bilstm", spec, **{**FIELDS, **fields})
