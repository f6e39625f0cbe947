"""Row LSTM: its triangle; what holds for both LSTMs is in test_pixel_lstm.py, for all models in test_image_model.py."""

import pytest
from helpers.image_models import LARGER, LARGER_COLOUR, TALL, assert_depends_on_a_triangle, build
from helpers.token_models import train


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "num_layers", "num_steps"), [(LARGER, 3, 0), (LARGER_COLOUR, 2, 3), (TALL, 1, 0),
                                                               (TALL, 1, 3)])
def test_logits_depend_on_a_triangle_of_what_comes_before(spec, num_layers, num_steps):
  """One layer reaches the top of the image. To the left each layer reaches one column further, on top of the first."""
  model, params, carry = build("row_lstm", spec, width=24, head_width=24, num_layers=num_layers)
  assert_depends_on_a_triangle(model, train(model, params, carry, num_steps))
