"""Gated PixelCNN: its rows, its masks and its labels; what holds for all models of images is in test_images.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_frequencies_match, states_of
from helpers.token_models import (
  assert_every_parameter_moves,
  by_steps,
  in_one_pass,
  moved_from_start,
  some,
  token_model,
)

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.marginal import OverLabels
from gdm.likelihood import Kind

KEY = jax.random.key(0)
GREY = DataSpec((2, 2, 1), 4)
COLOUR = DataSpec((2, 2, 3), 2)
FIELDS = {"width": 6, "num_layers": 3, "first_size": 3, "skip_width": 6, "located": True}
each_image = pytest.mark.parametrize("spec", [pytest.param(DataSpec((4, 5, 1), 5), marks=pytest.mark.slow),
                                              DataSpec((3, 4, 3), 3)], ids=["grey", "colour"])


@functools.lru_cache
def build(spec, class_conditional=False, **fields):
  model = token_model("gated_pixelcnn", spec, {"class_conditional": class_conditional}, **{**FIELDS, **fields})
  return model, *moved_from_start(model)


@pytest.mark.slow
def test_images_are_cut_by_kernels_of_any_size():
  """A step's rows and rings are as long as their kernels need."""
  for size in (3, 5):
    model, params, _ = build(DataSpec((6, 5, 1), 3), first_size=7, kernel_size=size)
    x = some(model.spec)
    np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@each_image
def test_every_parameter_moves_but_those_of_masked_channels(spec):
  model = token_model("gated_pixelcnn", spec, dropout=0.1, **{**FIELDS, "width": 12, "skip_width": 24, "num_layers": 2})
  masks = {"vertical": "", "across": "", "horizontal": "B", "to_skip": "B", "to_residual": "B", "hidden": "B",
           "readout": "B"}
  colours = spec.event[-1] > 1
  first = {"vertical": 3, "horizontal": 1 + colours}
  assert_every_parameter_moves(model, masks, {**dict.fromkeys(masks, 1), "vertical": 6, "horizontal": 2},
                               {"layers_0": ({"horizontal": "A"}, first)})


@pytest.mark.parametrize(("spec", "fields", "message"), [
    (COLOUR, {"width": 8}, "network.width is 8; it must be a positive multiple of the image's channels, 3"),
    (GREY, {"kernel_size": 4}, "network.kernel_size is 4; it must be odd"),
    (GREY, {"num_layers": 0}, "network.num_layers is 0"),
    (COLOUR, {"skip_width": 8}, "network.skip_width is 8"),
])
def test_fields_that_cannot_be(spec, fields, message):
  with pytest.raises(ConfigError, match=message):
    token_model("gated_pixelcnn", spec, **{**FIELDS, **fields})


def test_with_labels_it_is_a_distribution_given_each():
  spec = DataSpec((2, 2, 1), 3, num_classes=2)
  model, params, carry = build(spec, class_conditional=True)
  x = jnp.asarray(states_of(spec))
  nats = []
  for y in range(2):
    out = model.log_likelihood(params, carry, {"x": x, "y": jnp.full(len(x), y)}, KEY)
    assert out.given == ("y",)
    nats.append(np.asarray(out.nats, np.float64))
    np.testing.assert_allclose(np.exp(nats[y]).sum(), 1.0, rtol=1e-4)
    drawn = model.sample(params, carry, jax.random.key(2), 5000, condition=jnp.int32(y)).x
    assert_frequencies_match(drawn, x, np.exp(nats[y]))
  assert np.abs(nats[0] - nats[1]).max() > 0.1
  prior = np.log([0.3, 0.7])
  marginal = OverLabels(model, tuple(prior.tolist())).log_likelihood(params, carry, {"x": x}, KEY)
  assert marginal.given == () and marginal.kind is Kind.EXACT
  np.testing.assert_allclose(marginal.nats, np.logaddexp(*(nats[y] + prior[y] for y in range(2))), rtol=1e-4)


def test_labels_are_asked_for():
  with pytest.raises(SpecError, match="class_conditional is True, but the data has no labels"):
    token_model("gated_pixelcnn", GREY, {"class_conditional": True}, **FIELDS)
  model, params, carry = build(DataSpec((2, 2, 1), 3, num_classes=2), class_conditional=True)
  x = np.zeros((2, 2, 2, 1), int)
  with pytest.raises(SpecError, match="must have labels y"):
    model.log_likelihood(params, carry, {"x": x}, KEY)
  with pytest.raises(SpecError, match=r"condition must be labels \[2\]"):
    model.sample(params, carry, KEY, 2)
  with pytest.raises(SpecError, match="steps need labels"):
    model.complete(params, carry, KEY, x, np.zeros((2, 2, 1), bool))
