"""Convolutions as written for a CPU are XLA's, with all their derivatives, and keep the order of axes fast in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.networks.convolution import Convolution, convolution, twice_as_large

KEY = jax.random.key(0)


def assert_same(one, other, x, kernel):
  """Values, gradients and forward derivatives of two functions are the same."""
  def everything(function):
    y, pull = jax.vjp(function, x, kernel)
    forward = jax.jvp(function, (x, kernel), (x + 1.0, kernel - 1.0))[1]
    return y, pull(jnp.sin(y)), forward

  ours, theirs = (jax.jit(lambda f=f: everything(f))() for f in (one, other))
  for found, right in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(found, right, atol=2e-4, rtol=2e-4)


@pytest.mark.fast_cases("sides1-5-2-3-6", "sides2-5-2-3-6", "sides3-5-1-3-2")
@pytest.mark.parametrize("sides, inputs, stride, size, outputs", [
    ((5, 4), 5, 1, 3, 6), ((5, 6), 5, 2, 3, 6), ((5, 4), 5, 2, 3, 6), ((5, 4), 5, 1, 3, 2), ((2, 3), 5, 1, 3, 6),
    ((5, 4), 2, 1, 1, 6), ((5, 4), 5, 1, 4, 6), ((5, 6), 5, 2, 4, 6), ((5, 4), 2, 1, 4, 6), ((5, 4), 5, 1, 2, 2)])
def test_the_convolution_and_its_derivatives_are_xlas(sides, inputs, stride, size, outputs):
  x = jax.random.normal(KEY, (3, *sides, inputs))
  kernel = jax.random.normal(jax.random.key(1), (size, size, inputs, outputs))

  def plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

  assert_same(lambda x, kernel: convolution(x, kernel, stride), plain, x, kernel)


@pytest.mark.parametrize("sides", [(3, 4), (1, 2)])
def test_images_of_twice_the_size_and_their_derivatives_are_xlas(sides):
  x, kernel = jax.random.normal(KEY, (3, *sides, 5)), jax.random.normal(jax.random.key(1), (4, 4, 5, 2))

  def plain(x, kernel):
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

  assert_same(twice_as_large, lambda x, kernel: plain(x, kernel[::-1, ::-1]), x, kernel)


def test_second_derivatives_of_the_convolution_are_symmetric():
  x, kernel = jax.random.normal(KEY, (3, 5, 4, 5)), jax.random.normal(jax.random.key(1), (3, 3, 5, 6))

  @jax.jit
  def both():
    function = lambda state: jnp.sum(jnp.sin(convolution(*state)))  # noqa: E731
    one, other = (jax.tree.map(lambda leaf, i=i: jnp.cos(i * leaf), (x, kernel)) for i in (1, 2))
    along = [jax.jvp(jax.grad(function), ((x, kernel),), (v,))[1] for v in (one, other)]
    return [sum(jnp.vdot(a, b) for a, b in zip(*pair, strict=True)) for pair in ((along[0], other), (along[1], one))]

  np.testing.assert_allclose(*both(), rtol=1e-3)


@pytest.mark.parametrize("function, size, num", [(convolution, 3, 3), (twice_as_large, 4, 6)])
def test_gradients_keep_the_one_order_of_axes_that_is_fast_in_loops(function, size, num):
  x, kernel = jnp.zeros((3, 6, 6, 5)), jnp.zeros((size, size, 5, 7))
  gradient = jax.grad(lambda x, kernel: jnp.sum(function(x, kernel) ** 2), argnums=(0, 1))

  @jax.jit
  def loop(x, kernel):
    def body(state, _):
      return jax.tree.map(lambda p, g: p - 1e-3 * g, state, gradient(*state)), None

    return jax.lax.scan(body, (x, kernel), length=3)[0]

  lines = [line for line in loop.lower(x, kernel).as_text("hlo").splitlines() if " convolution(" in line]
  assert len(lines) == num and all("dim_labels=b01f_01io->b01f" in line for line in lines)


@pytest.mark.parametrize("side, stride", [(2, 1), (4, 2)])
def test_what_is_smaller_than_the_kernel_is_left_to_no_convolution(side, stride):
  x, kernel = jnp.zeros((3, side, side, 5)), jnp.zeros((3, 3, 5, 7))
  gradient = jax.grad(lambda x, kernel: jnp.sum(convolution(x, kernel, stride) ** 2), argnums=(0, 1))
  assert "conv_general_dilated" not in str(jax.make_jaxpr(gradient)(x, kernel))


def test_a_convolutions_size_is_at_least_one():
  with pytest.raises(ConfigError, match=r"size of a convolution is 0.*at least 1"):
    Convolution(3, size=0)
