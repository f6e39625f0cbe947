"""The denoising network of vectors: its shapes; what holds for all denoising networks is in test_networks.py."""

import jax
import jax.numpy as jnp
import pytest
from helpers.denoisers import KEY, TIME

from gdm.diffusion.networks.denoising_mlp import DenoisingMLP


@pytest.mark.parametrize("outputs, event, made", [(5, (5,), (5,)), (2, (4, 3, 8), (4, 3, 2))])
def test_the_last_axis_has_the_size_asked_for(outputs, event, made):
  network = DenoisingMLP(outputs)
  out = jax.eval_shape(lambda: network.init_with_output(KEY, jnp.zeros((2, *event)), TIME))[0]
  assert out.shape == (2, *made)
