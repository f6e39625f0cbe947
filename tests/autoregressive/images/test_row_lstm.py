"""Row LSTM: exact, causal within its triangle, and the same whether in one pass or pixel by pixel."""

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

from gdm.autoregressive.images.pixel_lstm import recur
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError

KEY = jax.random.key(0)
GREY = DataSpec((2, 2, 1), 4)
COLOUR = DataSpec((2, 2, 3), 2)
LARGER = DataSpec((4, 5, 1), 5)
LARGER_COLOUR = DataSpec((3, 4, 3), 3)
TALL = DataSpec((6, 3, 1), 3)
FIELDS = {"width": 6, "num_layers": 2, "first_size": 3, "head_width": 6, "located": True}
each_space = pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
each_image = pytest.mark.parametrize("spec", [pytest.param(LARGER, marks=pytest.mark.slow), LARGER_COLOUR],
                                     ids=["grey", "colour"])


@functools.lru_cache
def build(spec, **fields):
  model = token_model("row_lstm", spec, **{**FIELDS, **fields})
  return model, *moved_from_start(model)


def pixel_by_pixel(x, kernel):
  """Equation 3 written out: x [rows, columns, batch, gates], the taps of the kernel [taps * units, gates]."""
  (height, columns, batch, _), units = x.shape, x.shape[-1] // 4
  nothing = jnp.zeros((batch, units))
  hidden, cells = {}, {}
  for i, j in np.ndindex(height, columns):
    above = jnp.concatenate([hidden.get((i - 1, j + shift), nothing) for shift in (-1, 0, 1)], axis=-1)
    gates = x[i, j] + above @ kernel
    ingoing, forget, new, outgoing = (gates[:, k * units:(k + 1) * units] for k in range(4))
    cells[i, j] = (jax.nn.sigmoid(forget) * cells.get((i - 1, j), nothing)
                   + jax.nn.sigmoid(ingoing) * jnp.tanh(new))
    hidden[i, j] = jax.nn.sigmoid(outgoing) * jnp.tanh(cells[i, j])
  return jnp.stack([hidden[place] for place in np.ndindex(height, columns)]).reshape(height, columns, batch, units)


@pytest.mark.slow
def test_rows_follow_from_rows_and_so_do_gradients():
  x = 2 * jax.random.normal(KEY, (3, 4, 2, 8))
  kernel = jax.random.normal(jax.random.key(1), (6, 8))
  weights = jax.random.normal(jax.random.key(2), (3, 4, 2, 2))

  @functools.partial(jax.jit, static_argnums=0)
  def run(function, *inputs):
    out, pull = jax.vjp(function, *inputs)
    return out, pull(weights)

  ours, expected = run(functools.partial(recur, (-1, 0, 1)), x, kernel), run(pixel_by_pixel, x, kernel)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "sizes"), [
    (LARGER, {}), (LARGER_COLOUR, {}), (TALL, {"first_size": 5, "kernel_size": 5, "num_layers": 1}),
], ids=["grey", "colour", "larger kernels"])
def test_steps_give_the_logits_of_one_pass(spec, sizes):
  model, params, _ = build(spec, **sizes)
  x = some(spec)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


def visible(event):
  """Which values [output, input] those in one pixel may depend on, with kernels of size 3.

  In its own row all that come before, with layers enough; in the rows above, up to the top, one column further right
  in each: the first convolution or a layer's states go one column right where they go a row up.
  """
  row, column, channel = (axis.ravel() for axis in np.indices(event))
  up, right = row[:, None] - row, column - column[:, None]
  before = (up > 0) & (right <= up) | (up == 0) & (right < 0)
  return before | (up == 0) & (right == 0) & (channel[:, None] > channel)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "num_layers", "num_steps"), [(LARGER, 3, 0), (LARGER_COLOUR, 2, 3), (TALL, 1, 0),
                                                               (TALL, 1, 3)])
def test_logits_depend_on_a_triangle_of_what_comes_before(spec, num_layers, num_steps):
  """One layer reaches the top of the image. To the left each layer reaches one column further, on top of the first."""
  model, params, carry = build(spec, width=24, head_width=24, num_layers=num_layers)
  params = train(model, params, carry, num_steps)
  seen = dependence(model, params, some(spec, 24)) > 0
  np.testing.assert_array_equal(seen, visible(spec.event))
  before = np.tri(spec.num_dims, k=-1, dtype=bool)
  assert not (seen & ~before).any()
  assert (before & ~seen).any(), "the triangle has become all that comes before: say so where the model is described"


@pytest.mark.slow
@each_image
def test_every_parameter_moves_but_those_of_masked_channels(spec):
  model = token_model("row_lstm", spec, dropout=0.1, **{**FIELDS, "width": 12, "head_width": 24})
  masks = {"first": "A", "of_inputs": "B", "layers_0": "", "layers_1": "", "to_residual": "B", "hidden": "B",
           "readout": "B"}
  taps = {**dict.fromkeys(masks, 1), "first": 4 + (spec.event[-1] > 1), "of_inputs": 2, "layers_0": 3, "layers_1": 3}
  assert_every_parameter_moves(model, masks, taps)


@pytest.mark.parametrize(("spec", "fields", "message"), [
    (LARGER, {"kernel_size": 4}, "network.kernel_size is 4; it must be odd"),
    (LARGER, {"kernel_size": 1}, "network.kernel_size is 1; it must be odd and at least 3"),
    (GREY, {"num_layers": 0}, "network.num_layers is 0"),
    (COLOUR, {"width": 8}, "network.width is 8; it must be a positive multiple of the image's channels, 3"),
    (COLOUR, {"head_width": 8}, "network.head_width is 8"),
])
def test_fields_that_cannot_be(spec, fields, message):
  with pytest.raises(ConfigError, match=message):
    token_model("row_lstm", spec, **{**FIELDS, **fields})
