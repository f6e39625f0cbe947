"""PixelSNAIL: its attention and its masks; what holds for all models of images is in test_images.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.token_models import assert_every_parameter_moves, token_model

from gdm.autoregressive.images.pixelsnail import attention_weights
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError

FIELDS = {"width": 12, "num_blocks": 2, "num_layers": 1, "first_size": 3, "heads": 6, "head_size": 4, "head_width": 24,
          "located": True}


@pytest.mark.slow
def test_weights_are_a_distribution_over_what_comes_before():
  query, key = jax.random.normal(jax.random.key(0), (2, 3, 2, 5, 4)) * 100.0
  before = jnp.tri(5, k=-1, dtype=bool)
  weights = np.asarray(attention_weights(query, key, before))
  np.testing.assert_allclose(weights.sum(-1)[..., 1:], 1.0, rtol=1e-5)
  assert not weights[..., ~np.asarray(before)].any()
  gradients = jax.grad(lambda query: jnp.sum(attention_weights(query, key, before) ** 2))(query)
  assert np.isfinite(gradients).all()


@pytest.mark.parametrize("spec", [pytest.param(DataSpec((4, 5, 1), 5), marks=pytest.mark.slow),
                                  DataSpec((3, 4, 3), 3)], ids=["grey", "colour"])
def test_every_parameter_moves_but_those_of_masked_channels(spec):
  model = token_model("pixelsnail", spec, dropout=0.1, **FIELDS)
  masks = {"first": "A", "convolution": "B", "gates": "B", "query": "B", "key": "", "value": "", "key_of_code": "",
           "value_of_code": "", "out": "B", "hidden": "B", "readout": "B"}
  taps = {**dict.fromkeys(masks, 1), "first": 4 + (spec.event[-1] > 1), "convolution": 5}
  assert_every_parameter_moves(model, masks, taps)


@pytest.mark.parametrize(("fields", "message"), [
    ({"heads": 4}, "network.heads is 4; it must be a positive multiple of the image's channels, 3"),
    ({"head_size": 0}, "network.head_size is 0; it must be at least 1"),
    ({"kernel_size": 4}, "network.kernel_size is 4; it must be odd"),
])
def test_fields_that_cannot_be(fields, message):
  with pytest.raises(ConfigError, match=message):
    token_model("pixelsnail", DataSpec((2, 2, 3), 2), **{**FIELDS, **fields})
