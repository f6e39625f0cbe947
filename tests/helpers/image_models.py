"""Small autoregressive models of images, with parameters far from their start, and the images they are tested on."""

import functools

import numpy as np

from gdm.dataspec import DataSpec
from helpers.token_models import dependence, moved_from_start, some, token_model

GREY = DataSpec((2, 2, 1), 4)
COLOUR = DataSpec((2, 2, 3), 2)
LARGER = DataSpec((4, 5, 1), 5)
LARGER_COLOUR = DataSpec((3, 4, 3), 3)
TALL = DataSpec((6, 3, 1), 3)

# Registry name -> fields of the network of a small one. A new model gets a line here.
SMALL = {
    "pixelcnn": {"width": 6, "num_blocks": 2, "first_size": 3, "head_width": 6, "located": True},
    "gated_pixelcnn": {"width": 6, "num_layers": 3, "first_size": 3, "skip_width": 6, "located": True},
    "pixelsnail": {"width": 6, "num_blocks": 2, "num_layers": 1, "first_size": 3, "head_size": 4, "head_width": 6,
                   "located": True},
    "row_lstm": {"width": 6, "num_layers": 2, "first_size": 3, "head_width": 6, "located": True},
    "diagonal_bilstm": {"width": 6, "num_layers": 2, "first_size": 3, "head_width": 6, "located": True},
    "pixelcnn_pp": {"width": 6, "num_blocks": 1, "num_scales": 1, "first_size": 3, "located": True},
}
SECTIONS = {"pixelcnn_pp": {"pixels": {"mixture_size": 3}}}


def image_model(name, spec, sections=None, **fields):
  """The small model of this name, with other fields of its network or other sections."""
  return token_model(name, spec, {**SECTIONS.get(name, {}), **(sections or {})}, **{**SMALL[name], **fields})


@functools.lru_cache
def build(name, spec, class_conditional=False, **fields):
  model = image_model(name, spec, {"class_conditional": True} if class_conditional else None, **fields)
  return model, *moved_from_start(model)


def triangle(event):
  """Which values [output, input] those in one pixel may depend on, where one more column is seen a row further up.

  In its own row these are all that come before.
  """
  row, column, channel = (axis.ravel() for axis in np.indices(event))
  up, right = row[:, None] - row, column - column[:, None]
  before = (up > 0) & (right <= up) | (up == 0) & (right < 0)
  return before | (up == 0) & (right == 0) & (channel[:, None] > channel)


def assert_depends_on_a_triangle(model, params):
  """Logits depend on the triangle, on nothing else, and so not on all that comes before."""
  seen = dependence(model, params, some(model.spec, 24)) > 0
  np.testing.assert_array_equal(seen, triangle(model.spec.event))
  before = np.tri(model.spec.num_dims, k=-1, dtype=bool)
  assert not (seen & ~before).any()
  assert (before & ~seen).any(), "the blind spot has gone: say so where the model is described"
