"""Flows coded by local bits back: what comes back is what went in, at the cost of the bound with uniform noise."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdm
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, NotFiniteError, SpecError
from gdm.evaluation.coding.gaussians import BinGrid
from gdm.evaluation.coding.local_bits_back import LocalBitsBackCoder
from gdm.evaluation.coding.ways import ByLocalBitsBack, way_of

KEY = jax.random.key(0)
FLOWS = {
    "maf": lambda: gdm.flows.MAF(DataSpec((3,), 5), num_layers=2, hidden=(8,)),
    "realnvp": lambda: gdm.flows.RealNVP(DataSpec((2, 2, 1), 4), num_scales=1, num_layers=2, num_blocks=1, width=4),
    "spline_coupling": lambda: gdm.flows.SplineCoupling(DataSpec((3,), 9), num_steps=2, hidden=(8,)),
}


@functools.cache
def made(name, num=64):
  model = FLOWS[name]()
  x = np.random.default_rng(0).binomial(model.spec.levels - 1, 0.3, (num, *model.spec.event)).astype(np.uint8)
  params, carry = model.init(KEY, {"x": jnp.asarray(x)})
  keys = iter(jax.random.split(jax.random.key(1), 100))
  return model, jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params), carry, x


@pytest.mark.fast_cases("maf")
@pytest.mark.parametrize("name", FLOWS)
def test_examples_come_back(name):
  model, params, carry, x = made(name)
  way = way_of(model)
  assert isinstance(way, ByLocalBitsBack)
  coder = way.coder(params, carry, way.batch_size(len(x), 8))
  words = coder.encode(x)
  back, _ = coder.decode(words, len(x))
  np.testing.assert_array_equal(back, x)
  initial, parts = way.spent(coder)
  assert abs(32 * len(words) - initial - parts.total) <= 96  # whole words, and the state of the stack
  words[len(words) // 2] ^= 1
  with pytest.raises(DataError, match="other bits than the initial ones"):
    coder.decode(words, len(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_the_cost_is_the_bound_with_uniform_noise(name):
  """Within four deviations of its chance, and half a percent for what the flow bends."""
  model, params, carry, _ = made(name)
  x = np.random.default_rng(1).binomial(model.spec.levels - 1, 0.3, (2000, *model.spec.event)).astype(np.uint8)
  nats = np.array([model.log_likelihood(params, carry, {"x": jnp.asarray(x)}, key).nats
                   for key in jax.random.split(KEY, 20)])
  claimed = -nats.mean() / math.log(2.0)
  chance = (nats - nats.mean(axis=0)).std() / math.log(2.0) / len(x) ** 0.5
  coder = LocalBitsBackCoder(model, params, carry, 16)
  coder.encode(x)
  assert abs(coder.parts.total / len(x) - claimed) < 4 * chance + 0.005 * claimed


def test_bins_of_one_width_hold_the_mass_of_a_gaussian():
  grid = BinGrid.uniform(0.5, 2)
  bins = np.array([3, 0, 1023])
  mean, scale = np.array([1.7, -50.0, 1e4]), np.array([0.4, 1.0, 1.0])
  assert grid.middles[3] == 1.75 and len(grid.edges) == 1025
  inside = jax.scipy.stats.norm.cdf((2.0 - 1.7) / 0.4) - jax.scipy.stats.norm.cdf((1.5 - 1.7) / 0.4)
  assert grid.cost(bins[:1], mean[:1], scale[:1]) == pytest.approx(-math.log2(float(inside)), abs=1e-3)
  assert grid.cost(bins[1:], mean[1:], scale[1:]) < 1e-3  # beyond the ends


@pytest.mark.parametrize(("fields", "message"), [
    ({"base": "logistic"}, "model.base is 'logistic'; local bits back codes flows with base='normal' alone"),
    ({"dequantization": "variational"}, "model.dequantization is 'variational'; .* dequantization='uniform' alone"),
    ({"class_conditional": True}, "MAF is conditional on y, which a payload does not hold"),
])
def test_flows_that_cannot_be_coded(fields, message):
  with pytest.raises(ConfigError, match=message):
    way_of(gdm.flows.MAF(DataSpec((3,), 5, num_classes=2), num_layers=1, hidden=(4,), **fields))


def test_other_things_that_cannot_be():
  with pytest.raises(ConfigError, match="has an estimated density; local bits back needs a flow of couplings"):
    way_of(gdm.flows.FFJORD(DataSpec((3,), 5)))
  with pytest.raises(SpecError, match="needs discrete data"):
    way_of(gdm.flows.MAF(DataSpec((3,), None)))
  with pytest.raises(ConfigError, match="examples have 1200 dimensions; local bits back needs the Jacobian of each"):
    way_of(gdm.flows.MAF(DataSpec((1200,), 5), num_layers=1, hidden=(4,))).batch_size(10, 10)
  model, params, carry, x = made("maf")
  broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
  with pytest.raises(NotFiniteError, match="the flow gives numbers that are NaN or infinite"):
    LocalBitsBackCoder(model, broken, carry, 4).encode(x)
