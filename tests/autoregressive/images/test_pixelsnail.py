"""PixelSNAIL: its attention; what holds for all models of images is in test_image_model.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.autoregressive.images.pixelsnail import attention_weights


@pytest.mark.slow
def test_weights_are_a_distribution_over_what_comes_before():
  query, key = jax.random.normal(jax.random.key(0), (2, 3, 2, 5, 4)) * 100.0
  before = jnp.tri(5, k=-1, dtype=bool)
  weights = np.asarray(attention_weights(query, key, before))
  np.testing.assert_allclose(weights.sum(-1)[..., 1:], 1.0, rtol=1e-5)
  assert not weights[..., ~np.asarray(before)].any()
  gradients = jax.grad(lambda query: jnp.sum(attention_weights(query, key, before) ** 2))(query)
  assert np.isfinite(gradients).all()
