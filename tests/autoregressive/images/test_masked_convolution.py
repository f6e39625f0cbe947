"""Masked convolutions: those of their definition, in one pass and pixel by pixel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.autoregressive.images.masked_convolution import (
  MaskedConvolution,
  above,
  above_and_left,
  channel_mask,
  empty_ring,
  left,
  put,
  reach,
)
from gdm.autoregressive.images.pixel_codes import image_codes, num_codes, pixel_codes, put_value

KEY = jax.random.key(0)
HERE = ((0, 0),)
LAYERS = {
    "A": (3, (*above_and_left(5), *HERE), 3, "A"),
    "B": (3, (*above_and_left(3), *HERE), 3, "B"),
    "grey A": (2, (*above_and_left(3), *HERE), 1, "A"),
    "above": (2, above(3), 1, ""),
    "left": (2, left(5), 1, ""),
    "here": (3, HERE, 3, "B"),
}
each = pytest.mark.parametrize("name", LAYERS)


@functools.lru_cache
def build(name):
  factor, offsets, channels, mask = LAYERS[name]
  layer = MaskedConvolution(2 * factor, offsets, channels, mask)
  x = jax.random.normal(KEY, (2, 4, 5, factor))
  variables = jax.jit(layer.init)(KEY, x)
  return layer, jax.tree.map(lambda leaf: leaf + 0.5, variables), x


def test_offsets_are_the_halves_before_a_pixel():
  assert above_and_left(3) == ((-1, -1), (-1, 0), (-1, 1), (0, -1))
  assert above(3) == ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1))
  assert left(5) == ((0, -2), (0, -1))
  assert reach(above_and_left(3), 8) == 9


def test_masks_connect_channels_in_their_order():
  for mask, connected in (("A", np.tri(3, k=-1)), ("B", np.tri(3)), ("", np.ones((3, 3)))):
    # [channel of the output, channel of the input]
    np.testing.assert_array_equal(channel_mask(6, 12, 3, mask).reshape(3, 2, 3, 4).any(axis=(1, 3)).T, connected)
    np.testing.assert_array_equal(channel_mask(6, 12, 3, mask).reshape(3, 2, 3, 4).all(axis=(1, 3)).T, connected)


@pytest.mark.fast_cases("here")
@each
def test_is_xlas_convolution_with_a_masked_kernel_and_so_are_its_gradients(name):
  layer, variables, x = build(name)
  _, offsets, channels, mask = LAYERS[name]
  inputs, outputs = x.shape[-1], layer.outputs
  half = max(max(abs(i), abs(j)) for i, j in offsets)

  def expected(variables, x):
    taps = variables["params"]["kernel"].reshape(len(layer.taps), inputs, outputs)
    kernel = jnp.zeros((2 * half + 1, 2 * half + 1, inputs, outputs))
    for (i, j), tap in zip(layer.taps, taps, strict=True):
      own = channel_mask(inputs, outputs, channels, mask) if (i, j) == (0, 0) else 1.0
      kernel = kernel.at[half + i, half + j].set(tap * own)
    return variables["params"]["bias"] + jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(half, half)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))

  def value_and_gradients(function):
    y, gradients = jax.vjp(function, variables, x)
    return y, gradients(jnp.cos(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)))

  found, wanted = (jax.jit(value_and_gradients, static_argnums=0)(function) for function in (layer.apply, expected))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, wanted)


@pytest.mark.fast_cases("here")
@each
def test_what_is_masked_has_no_gradient_and_all_else_has(name):
  layer, variables, x = build(name)
  _, _, channels, mask = LAYERS[name]
  grads = jax.grad(lambda variables: jnp.square(layer.apply(variables, x)).sum())(variables)["params"]["kernel"]
  own = channel_mask(x.shape[-1], layer.outputs, channels, mask)
  expected = np.concatenate([own if tap == (0, 0) else np.ones_like(own) for tap in layer.taps])
  np.testing.assert_array_equal(np.asarray(grads) != 0, expected)


@pytest.mark.fast_cases("left", "here")
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "above"])
def test_steps_are_one_pass_even_when_each_is_taken_twice(name):
  layer, variables, x = build(name)
  y, (num, height, width, inputs) = layer.apply(variables, x), x.shape

  @jax.jit
  def step(ring, x, pixel):
    ring = put(ring, x, pixel)
    return ring, layer.apply(variables, ring, pixel, width, method="step")

  ring = empty_ring(layer.offsets, width, num, inputs, x.dtype)
  for pixel in range(height * width):
    here = divmod(pixel, width)
    ring, _ = step(ring, x[:, *here] + 1.0, jnp.int32(pixel))  # as where a pixel's channels are not known yet
    ring, out = step(ring, x[:, *here], jnp.int32(pixel))
    np.testing.assert_allclose(out, y[:, *here], rtol=1e-4, atol=1e-5)


@pytest.mark.fast_cases("2-2")
@pytest.mark.parametrize(("levels", "num"), [(2, 2), (4, 4), (17, 17), (18, 17), (256, 17)])
def test_codes_rise_with_the_level_and_tell_all_levels_apart(levels, num):
  codes = np.asarray(pixel_codes(jnp.arange(levels), levels))
  assert codes.shape == (levels, num) and num_codes(levels) == num
  assert (np.diff(codes, axis=0) >= 0).all() and (np.abs(np.diff(codes, axis=0)).sum(axis=1) > 1e-3).all()
  assert (codes >= 0).all() and (codes <= 1).all() and codes.any(axis=1).all()
  if levels <= 17:
    np.testing.assert_array_equal(codes[:, :-1], np.arange(levels)[:, None] > np.arange(levels - 1))


@pytest.mark.slow
def test_values_fill_their_pixels_code_one_by_one():
  x = jax.random.randint(KEY, (2, 2, 3, 3), 0, 5)
  ring = empty_ring(((-1, -2), (0, 0)), 3, 2, 3 * num_codes(5), jnp.dtype("float32"))
  for index, value in enumerate(x.reshape(2, -1).T):
    ring = put_value(ring, value, jnp.int32(index), 3, 5)
  np.testing.assert_array_equal(ring.swapaxes(0, 1), image_codes(x, 5).reshape(2, 6, -1))
