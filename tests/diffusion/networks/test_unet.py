"""The U-Net, of any side; what holds for all denoising networks is in test_networks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.diffusion.networks.unet import GroupNorm, ImageAttention, UNet, joined_pixels, num_groups, separate_pixels
from gdm.errors import ConfigError, SpecError

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


def test_patches_are_pixels_with_more_channels_and_come_apart_again():
  x = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
  patches = joined_pixels(x, 2)
  np.testing.assert_array_equal(patches[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
  np.testing.assert_array_equal(separate_pixels(patches, 2), x)
  assert joined_pixels(x, 1) is x
  with pytest.raises(ConfigError, match=r"network.patch is 4; it must divide their width, 6"):
    UNet(3, patch=4).init(KEY, x, TIME)
