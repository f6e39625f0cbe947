"""The residual convolutional conditioner: its convolution, its start at zero, its context and its dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError, SpecError
from gdm.networks.residual_convolution import PriorConvolution, ResidualConvolution, patches

KEY = jax.random.key(0)


def test_a_product_with_patches_is_a_convolution():
  x, kernel = jax.random.normal(KEY, (2, 4, 5, 3)), jax.random.normal(jax.random.key(1), (3, 3, 3, 2))
  expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
  np.testing.assert_allclose(patches(x) @ kernel.reshape(-1, 2), expected, atol=1e-5)


@pytest.mark.fast_cases("prior")
@pytest.mark.parametrize("network", [ResidualConvolution(3, 4, 1, 2), PriorConvolution(3, 2)],
                         ids=["residual", "prior"])
def test_starts_at_zero_and_sees_its_context(network):
  x, context = jax.random.normal(KEY, (2, 3, 3, 2)), jnp.ones((2, 2))
  variables = jax.jit(network.init)(KEY, x, context)
  apply = jax.jit(network.apply)
  np.testing.assert_array_equal(apply(variables, x, context), jnp.zeros((2, 3, 3, 3)))
  moved = jax.tree.map(lambda p: p + 0.1, variables)
  assert np.all(apply(moved, x, context) != apply(moved, x, 2.0 * context))
  for wrong in (None, jnp.ones((2, 5))):
    with pytest.raises(SpecError, match="width 2"):
      network.apply(variables, x, wrong)


def test_dropout_is_on_where_its_rng_is():
  network = ResidualConvolution(3, 4, 1, dropout=0.5)
  x = jax.random.normal(KEY, (2, 3, 3, 2))
  variables = jax.tree.map(lambda p: p + 0.1, jax.jit(network.init)(KEY, x))
  apply = jax.jit(lambda rngs: network.apply(variables, x, rngs=rngs))
  without, again = apply({}), apply({})
  one, other = (apply({"dropout": jax.random.key(i)}) for i in range(2))
  np.testing.assert_array_equal(without, again)
  assert np.any(one != other)


@pytest.mark.parametrize("fields", [{"num_blocks": 0}, {"hidden": 0}, {"activation": "rely"}, {"dropout": 1.0}],
                         ids=lambda f: next(iter(f)))
def test_fields_that_cannot_be_used_are_refused(fields):
  with pytest.raises(ConfigError, match=next(iter(fields))):
    ResidualConvolution(3, **fields)
