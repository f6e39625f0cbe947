"""The U-Net and its convolution, of any side; what holds for all denoising networks is in test_networks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.diffusion.networks.unet import GroupNorm, ImageAttention, UNet, num_groups
from gdm.errors import ConfigError, SpecError
from gdm.networks.convolution import Convolution, convolution

KEY = jax.random.key(0)
TIME = jnp.array([0.1, 0.7])


@pytest.mark.fast_cases("1-multipliers1-attention1")
@pytest.mark.parametrize("side, multipliers, attention", [(28, (1, 2, 2), (7, 14)), (1, (1,), ())])
def test_sides_are_halved_and_come_back(side, multipliers, attention):
  network = UNet(1, 2, multipliers, 1, attention)
  out, variables = jax.eval_shape(lambda: network.init_with_output(KEY, jnp.zeros((2, side, side, 3)), TIME))
  assert out.shape == (2, side, side, 1)
  found = {name for name in variables["params"] if "attention" in name}
  assert found == {"middle_attention"} | {f"{way}_{level}_{i}_attention" for level in range(1, len(multipliers))
                                          for way, num in (("down", 1), ("up", 2)) for i in range(num)}


@pytest.mark.fast_cases("sides1-5-2-3", "sides2-5-2-3")
@pytest.mark.parametrize("sides, inputs, stride, size", [((5, 4), 5, 1, 3), ((5, 6), 5, 2, 3), ((5, 4), 5, 2, 3),
                                                         ((2, 3), 5, 1, 3), ((5, 4), 2, 1, 1)])
def test_the_convolution_and_its_derivatives_are_xlas(sides, inputs, stride, size):
  x, kernel = jax.random.normal(KEY, (3, *sides, inputs)), jax.random.normal(jax.random.key(1), (size, size, inputs, 6))

  def plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

  def everything(function):
    y, pull = jax.vjp(function, x, kernel)
    forward = jax.jvp(function, (x, kernel), (x + 1.0, kernel - 1.0))[1]
    return y, pull(jnp.sin(y)), forward

  ours = jax.jit(lambda: everything(lambda x, kernel: convolution(x, kernel, stride)))()
  theirs = jax.jit(lambda: everything(plain))()
  for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(one, other, atol=2e-4, rtol=2e-4)


def test_second_derivatives_of_the_convolution_are_symmetric():
  x, kernel = jax.random.normal(KEY, (3, 5, 4, 5)), jax.random.normal(jax.random.key(1), (3, 3, 5, 6))

  @jax.jit
  def both():
    function = lambda state: jnp.sum(jnp.sin(convolution(*state)))  # noqa: E731
    one, other = (jax.tree.map(lambda leaf, i=i: jnp.cos(i * leaf), (x, kernel)) for i in (1, 2))
    along = [jax.jvp(jax.grad(function), ((x, kernel),), (v,))[1] for v in (one, other)]
    return [sum(jnp.vdot(a, b) for a, b in zip(*pair, strict=True)) for pair in ((along[0], other), (along[1], one))]

  np.testing.assert_allclose(*both(), rtol=1e-3)


def test_the_gradients_of_a_convolution_keep_the_one_order_of_axes_that_is_fast_in_loops():
  x, kernel = jnp.zeros((3, 6, 6, 5)), jnp.zeros((3, 3, 5, 7))
  gradient = jax.grad(lambda x, kernel: jnp.sum(convolution(x, kernel) ** 2), argnums=(0, 1))

  @jax.jit
  def loop(x, kernel):
    def body(state, _):
      return jax.tree.map(lambda p, g: p - 1e-3 * g, state, gradient(*state)), None

    return jax.lax.scan(body, (x, kernel), length=3)[0]

  lines = [line for line in loop.lower(x, kernel).as_text("hlo").splitlines() if " convolution(" in line]
  assert len(lines) == 3 and all("dim_labels=b01f_01io->b01f" in line for line in lines)


@pytest.mark.parametrize("side, stride", [(2, 1), (4, 2)])
def test_what_is_smaller_than_the_kernel_is_left_to_no_convolution(side, stride):
  x, kernel = jnp.zeros((3, side, side, 5)), jnp.zeros((3, 3, 5, 7))
  gradient = jax.grad(lambda x, kernel: jnp.sum(convolution(x, kernel, stride) ** 2), argnums=(0, 1))
  assert "conv_general_dilated" not in str(jax.make_jaxpr(gradient)(x, kernel))


@pytest.mark.parametrize("channels, groups", [(2, 1), (4, 1), (12, 3), (32, 8), (96, 24), (256, 32)])
def test_channels_fall_into_groups(channels, groups):
  assert num_groups(channels) == groups


def test_groups_are_standardized_apart():
  x = jnp.asarray(3.0 + 2.0 * np.random.default_rng(0).normal(size=(2, 3, 5, 12)), jnp.float32)
  y = jax.jit(lambda: GroupNorm().init_with_output(KEY, x))()[0]
  grouped = np.asarray(y).reshape(2, 15, 3, -1)
  np.testing.assert_allclose(grouped.mean(axis=(1, 3)), 0.0, atol=1e-4)
  np.testing.assert_allclose(grouped.std(axis=(1, 3)), 1.0, atol=1e-3)


def test_attention_over_pixels_moves_with_them():
  attention = ImageAttention(2)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 2, 4)), jnp.float32)
  draw = np.random.default_rng(1).normal
  variables = jax.tree.map(lambda leaf: jnp.asarray(draw(size=leaf.shape), jnp.float32),
                           jax.eval_shape(attention.init, KEY, x))
  apply = jax.jit(lambda x: attention.apply(variables, x))
  out = apply(x)
  np.testing.assert_allclose(apply(x[:, ::-1]), out[:, ::-1], atol=1e-4)
  assert np.all(np.any(apply(x.at[:, 0, 0].add(1.0)) != out, axis=-1))


def test_images_that_do_not_fit_are_refused():
  x = jnp.zeros((2, 8, 8, 1))
  with pytest.raises(ConfigError, match="side of 16"):
    UNet(1, attention=(16,)).init(KEY, x, TIME)
  with pytest.raises(SpecError, match="too small"):
    UNet(1, 2, (1, 1, 1, 1)).init(KEY, x[:, :4, :4], TIME)
  with pytest.raises(SpecError, match="width 3"):
    UNet(1, 2).init(KEY, x, TIME, jnp.eye(3)[:2])


def test_a_convolutions_size_is_odd():
  with pytest.raises(ConfigError, match="odd"):
    Convolution(3, size=2)
