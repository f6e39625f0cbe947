"""Gated PixelCNN: its rows and its labels; what holds for all models of images is in test_image_model.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_frequencies_match, states_of
from helpers.image_models import GREY, build, image_model
from helpers.token_models import by_steps, in_one_pass, some

from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.evaluation.marginal import OverLabels
from gdm.likelihood import Kind

KEY = jax.random.key(0)
@pytest.mark.slow
def test_images_are_cut_by_kernels_of_any_size():
  """A step's rows and rings are as long as their kernels need."""
  for size in (3, 5):
    model, params, _ = build("gated_pixelcnn", DataSpec((6, 5, 1), 3), first_size=7, kernel_size=size)
    x = some(model.spec)
    np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_with_labels_it_is_a_distribution_given_each():
  spec = DataSpec((2, 2, 1), 3, num_classes=2)
  model, params, carry = build("gated_pixelcnn", spec, class_conditional=True)
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
    image_model("gated_pixelcnn", GREY, {"class_conditional": True})
  model, params, carry = build("gated_pixelcnn", DataSpec((2, 2, 1), 3, num_classes=2), class_conditional=True)
  x = np.zeros((2, 2, 2, 1), int)
  with pytest.raises(SpecError, match="must have labels y"):
    model.log_likelihood(params, carry, {"x": x}, KEY)
  with pytest.raises(SpecError, match=r"condition must be labels \[2\]"):
    model.sample(params, carry, KEY, 2)
  with pytest.raises(SpecError, match="steps need labels"):
    model.complete(params, carry, KEY, x, np.zeros((2, 2, 1), bool))
