"""Layers that double images are the maps that they are named for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.networks.upsampling import TransposedConvolution, Upsampling, depth_to_space, twice_the_size

X = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))


def test_a_transposed_convolution_is_the_transpose_of_a_convolution():
  module = TransposedConvolution(3)
  params = module.init(jax.random.key(1), X)
  kernel = params["params"]["kernel"]

  def strided(y):
    return jax.lax.conv_general_dilated(y, kernel.swapaxes(2, 3), (2, 2), [(1, 1), (1, 1)],
                                        dimension_numbers=("NHWC", "HWIO", "NHWC"))

  transposed = jax.linear_transpose(strided, jnp.zeros((2, 6, 10, 3)))(X)[0]
  np.testing.assert_allclose(module.apply(params, X), transposed, atol=1e-5)


@pytest.mark.parametrize("kind", ["transposed", "resize"])
def test_it_doubles_images(kind):
  module = Upsampling(6, kind)
  assert module.init_with_output(jax.random.key(0), X)[0].shape == (2, 6, 10, 6)


def test_squares_come_from_channels_and_pixels_from_squares():
  x = jnp.arange(8.0).reshape(1, 1, 2, 4)
  np.testing.assert_array_equal(depth_to_space(x)[0, ..., 0], [[0, 1, 4, 5], [2, 3, 6, 7]])
  np.testing.assert_array_equal(twice_the_size(x)[0, :, :, 0], [[0, 0, 4, 4], [0, 0, 4, 4]])


def test_an_unknown_kind_is_named():
  with pytest.raises(ConfigError, match="did you mean 'resize'"):
    Upsampling(3, "resized")
