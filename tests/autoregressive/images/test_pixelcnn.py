"""PixelCNN: its blind spot and its masks; what holds for all models of images is in test_images.py."""

import numpy as np
import pytest
from helpers.token_models import assert_every_parameter_moves, dependence, moved_from_start, some, token_model, train

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError

GREY = DataSpec((2, 2, 1), 4)
COLOUR = DataSpec((2, 2, 3), 2)
FIELDS = {"width": 24, "num_blocks": 2, "first_size": 3, "head_width": 24, "located": True}
each_image = pytest.mark.parametrize("spec", [DataSpec((4, 5, 1), 5), DataSpec((3, 4, 3), 3)], ids=["grey", "colour"])


def visible(event, first_reach, other_reach):
  """Which values [output, input] those in one pixel may depend on: a row further up, `other_reach` further right."""
  row, column, channel = (axis.ravel() for axis in np.indices(event))
  up, right = row[:, None] - row, column - column[:, None]
  before = (up > 0) & (right <= first_reach + (up - 1) * other_reach) | (up == 0) & (right < 0)
  return before | (up == 0) & (right == 0) & (channel[:, None] > channel)


@pytest.mark.slow
@each_image
@pytest.mark.parametrize("num_steps", [0, 3])
def test_logits_depend_on_what_comes_before_but_for_the_blind_spot(spec, num_steps):
  model = token_model("pixelcnn", spec, **{**FIELDS, "num_blocks": 5})
  params, carry = moved_from_start(model)
  params = train(model, params, carry, num_steps)
  seen = dependence(model, params, some(spec, 24)) > 0
  np.testing.assert_array_equal(seen, visible(spec.event, 1, 1))
  before = np.tri(spec.num_dims, k=-1, dtype=bool)
  assert not (seen & ~before).any()
  assert (before & ~seen).any(), "the blind spot has gone: say so where the model is described"


@pytest.mark.slow
@each_image
def test_every_parameter_moves_but_those_of_masked_channels(spec):
  model = token_model("pixelcnn", spec, dropout=0.1, **FIELDS)
  masks = {"first": "A", "narrow": "B", "convolution": "B", "widen": "B", "hidden": "B", "readout": "B"}
  taps = {**dict.fromkeys(masks, 1), "first": 4 + (spec.event[-1] > 1), "convolution": 5}
  assert_every_parameter_moves(model, masks, taps)


@pytest.mark.parametrize(("spec", "fields", "message"), [
    (COLOUR, {"width": 8}, "network.width is 8; it must be a positive multiple of the image's channels, 3"),
    (GREY, {"kernel_size": 4}, "network.kernel_size is 4; it must be odd"),
    (GREY, {"num_blocks": 0}, "network.num_blocks is 0"),
    (COLOUR, {"head_width": 8}, "network.head_width is 8"),
])
def test_fields_that_cannot_be(spec, fields, message):
  with pytest.raises(ConfigError, match=message):
    token_model("pixelcnn", spec, **{**FIELDS, **fields})
