"""Diagonal BiLSTM: its skewed images, without a blind spot; what holds for both LSTMs is in test_pixel_lstm.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.image_models import LARGER_COLOUR, TALL, build
from helpers.token_models import dependence, some, train

from gdm.autoregressive.images.diagonal_bilstm import skew, unskew
from gdm.dataspec import DataSpec

WIDE = DataSpec((3, 6, 1), 3)


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


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "num_layers", "num_steps"), [
    (LARGER_COLOUR, 2, 0), (LARGER_COLOUR, 2, 3), (WIDE, 1, 0), (TALL, 1, 0),
])
def test_logits_depend_on_everything_that_comes_before_and_on_nothing_else(spec, num_layers, num_steps):
  """One layer is enough, in wide images too, where the first convolution is far from the end of the row above."""
  model, params, carry = build("diagonal_bilstm", spec, width=24, head_width=24, num_layers=num_layers)
  params = train(model, params, carry, num_steps)
  seen = dependence(model, params, some(spec, 24)) > 0
  np.testing.assert_array_equal(seen, np.tri(spec.num_dims, k=-1, dtype=bool))
