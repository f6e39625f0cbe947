"""Dilated causal convolutions: those of their definition, in one pass and step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.autoregressive.sequences.causal_convolution import CausalConvolution, DilatedBlock, shift

KEY = jax.random.key(0)
each = pytest.mark.parametrize(("kernel_size", "dilation"), [(2, 1), (2, 4), (3, 2), (3, 5), (2, 20)])


@functools.lru_cache
def build(kernel_size, dilation):
  layer = CausalConvolution(6, kernel_size, dilation, 1.0)
  x = jax.random.normal(KEY, (2, 13, 4))
  return layer, jax.jit(layer.init)(KEY, x), x


def weights(variables):
  return variables["params"]["linear"]["kernel"]


@pytest.mark.fast_cases("2-20")
@each
def test_is_xlas_causal_convolution(kernel_size, dilation):
  """Whose kernel has the earliest tap first."""
  layer, variables, x = build(kernel_size, dilation)
  kernel = weights(variables).reshape(kernel_size, 4, 6)[::-1]
  expected = jax.lax.conv_general_dilated(x, kernel, (1,), [(layer.reach, 0)], rhs_dilation=(dilation,),
                                          dimension_numbers=("NWC", "WIO", "NWC"))
  np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


@each
def test_is_the_sum_over_its_taps(kernel_size, dilation):
  layer, variables, x = build(kernel_size, dilation)
  taps, y = np.asarray(weights(variables)).reshape(kernel_size, 4, 6), np.asarray(layer.apply(variables, x))
  for t in range(13):
    seen = [(j, t - j * dilation) for j in range(kernel_size) if t >= j * dilation]
    np.testing.assert_allclose(y[:, t], sum(np.asarray(x)[:, at] @ taps[j] for j, at in seen), rtol=1e-4, atol=1e-5)


@pytest.mark.fast_cases("2-4")
@each
def test_steps_are_one_pass_and_leave_the_ring_of_prefill(kernel_size, dilation):
  layer, variables, x = build(kernel_size, dilation)
  y = layer.apply(variables, x)
  step = jax.jit(lambda x, ring, t: layer.apply(variables, x, ring, t, method="step"))
  fill = jax.jit(lambda num: layer.apply(variables, x, num, method="ring"))
  ring = jnp.zeros((2, layer.reach, 4))
  for t in range(13):
    np.testing.assert_array_equal(fill(jnp.int32(t)), ring)
    out, ring = step(x[:, t], ring, jnp.int32(t))
    np.testing.assert_allclose(out, y[:, t], rtol=1e-5, atol=1e-5)


def test_shift_moves_later():
  x = jnp.arange(6.0).reshape(1, 3, 2)
  np.testing.assert_array_equal(shift(x, 1)[0], [[0, 0], [0, 1], [2, 3]])
  np.testing.assert_array_equal(shift(x, 0), x)
  np.testing.assert_array_equal(shift(x, 7), jnp.zeros((1, 3, 2)))


@pytest.mark.fast_cases("False")
@pytest.mark.parametrize("residual", [True, False])
def test_gated_block_is_equation_2(residual):
  block = DilatedBlock(4, 5, 2, 3, num_blocks=2, residual=residual, dropout=0.0)
  x = jax.random.normal(KEY, (2, 9, 4))
  variables = jax.jit(block.init)(KEY, x, None)
  params = variables["params"]
  convolved = np.asarray(CausalConvolution(8, 2, 3, 1.0).apply({"params": params["convolution"]}, x))
  z = np.tanh(convolved[..., :4]) / (1.0 + np.exp(-convolved[..., 4:]))
  onward, skip = block.apply(variables, x, None)
  np.testing.assert_allclose(skip, z @ params["to_skip"]["kernel"], rtol=1e-4, atol=1e-5)
  assert ("to_residual" in params) == residual
  np.testing.assert_allclose(onward, x + z @ params["to_residual"]["kernel"] if residual else x, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_dropout_is_of_training_alone():
  block = DilatedBlock(4, 5, 2, 1, num_blocks=1, residual=True, dropout=0.5)
  x = jax.random.normal(KEY, (2, 9, 4))
  variables = jax.jit(block.init)(KEY, x, None)
  train = [np.asarray(block.apply(variables, x, jax.random.key(i))[1]) for i in range(2)]
  assert (train[0] != train[1]).any()
  mean = jax.jit(jax.vmap(lambda key: block.apply(variables, x, key)[1]))(jax.random.split(KEY, 400)).mean(axis=0)
  np.testing.assert_allclose(mean, block.apply(variables, x, None)[1], atol=0.3)
