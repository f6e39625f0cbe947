"""PixelCNN: its blind spot; what holds for all models of images is in test_image_model.py."""

import pytest
from helpers.image_models import LARGER, LARGER_COLOUR, assert_depends_on_a_triangle, build
from helpers.token_models import train


@pytest.mark.slow
@pytest.mark.parametrize("spec", [LARGER, LARGER_COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("num_steps", [0, 3])
def test_logits_depend_on_what_comes_before_but_for_the_blind_spot(spec, num_steps):
  model, params, carry = build("pixelcnn", spec, width=24, head_width=24, num_blocks=5)
  assert_depends_on_a_triangle(model, train(model, params, carry, num_steps))
