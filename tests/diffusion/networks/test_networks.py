"""What holds for every denoising network: its start at zero, what it sees, its dropout, and its fields."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.denoisers import CLASSES, KEY, TIME, Case

from gdm.diffusion.networks.denoising_mlp import DenoisingMLP
from gdm.diffusion.networks.diffusion_transformer import DiffusionTransformer
from gdm.diffusion.networks.unet import UNet
from gdm.errors import ConfigError

# A network and the event of its examples. A new network gets a line here.
NETWORKS = {
    "mlp": (DenoisingMLP(4, hidden=(4, 4, 6), context=2), (3, 2)),
    "transformer": (DiffusionTransformer(2, width=8, num_layers=1, num_heads=2, context=2), (4, 6, 1)),
    "unet": (UNet(2, 4, num_blocks=1, context=2), (5, 4, 3)),
}
each = pytest.mark.parametrize("name", NETWORKS)


@functools.lru_cache
def case_of(name):
  return Case(*NETWORKS[name])


@pytest.mark.slow
@each
def test_starts_at_zero_and_then_every_parameter_receives_a_gradient(name):
  case = case_of(name)
  last = jax.jit(lambda: case.network.init(KEY, case.x, TIME, CLASSES)["params"]["last"])()
  np.testing.assert_array_equal(case.run({**case.params, "last": last}, case.x), jnp.zeros(case.shape))
  for path, leaf in jax.tree_util.tree_leaves_with_path(case.gradient(case.params)):
    # The key's bias adds the same to all scores of a query, which their softmax does not see.
    if "['key']['bias']" not in jax.tree_util.keystr(path):
      assert jnp.max(jnp.abs(leaf)) > 1e-6, path


@pytest.mark.fast_cases("transformer", "mlp")
@each
def test_time_class_and_values_are_seen_by_their_own_example_alone(name):
  case = case_of(name)
  out = case.out()
  for other in (case.out(time=TIME.at[1].set(0.2)), case.out(context=CLASSES.at[1].set(0.0)),
                case.out(case.x.at[1, 0].add(1.0))):
    np.testing.assert_allclose(out[0], other[0], atol=1e-5)
    assert np.all(out[1] != other[1])


@pytest.mark.fast_cases("mlp")
@each
def test_dropout_is_on_where_its_rng_is(name):
  case = case_of(name)
  network = case.network.clone(dropout=0.5)
  apply = jax.jit(lambda rngs: network.apply({"params": case.params}, case.x, TIME, CLASSES, rngs=rngs))
  one, again, other = (apply({"dropout": jax.random.key(i)}) for i in (0, 0, 1))
  without = apply({})
  np.testing.assert_array_equal(one, again)
  np.testing.assert_allclose(without, case.out(), atol=1e-5)
  assert np.any(one != other) and np.any(one != without)


@pytest.mark.parametrize(("network", "fields"), [
    *((network, fields) for network in (DenoisingMLP, DiffusionTransformer, UNet)
      for fields in ({"outputs": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"embedding": "sinus"})),
    (DenoisingMLP, {"hidden": ()}),
    *((DiffusionTransformer, fields) for fields in ({"patch": 0}, {"width": 6}, {"num_layers": 0}, {"num_heads": 3})),
    *((UNet, fields) for fields in ({"width": 3}, {"multipliers": ()}, {"num_blocks": 0}, {"num_heads": 3})),
])
def test_fields_that_cannot_be_used_are_refused(network, fields):
  with pytest.raises(ConfigError, match=next(iter(fields))):
    network(**{"outputs": 1, **fields})
