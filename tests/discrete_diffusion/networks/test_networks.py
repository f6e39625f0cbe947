"""Networks: shapes, gradients of all parameters, and that every dimension counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.discrete_diffusion import BidirectionalTransformer, Perceptron, Residual, ardm
from gdm.discrete_diffusion.networks.choice import network_for
from gdm.errors import ConfigError, SpecError

IMAGE, VECTOR = DataSpec((3, 4, 2), 5), DataSpec((6,), 5)
CASES = {"transformer": (BidirectionalTransformer(num_layers=1, num_heads=2, width=8), VECTOR),
         "rotary": (BidirectionalTransformer(num_layers=1, num_heads=2, width=8, positions_by="rotary"), VECTOR),
         "transformer of images": (BidirectionalTransformer(num_layers=1, num_heads=2, width=8), IMAGE),
         "residual": (Residual(width=8, num_blocks=1, num_heads=2), IMAGE),
         "mlp": (Perceptron(hidden=(8, 8)), IMAGE)}


@pytest.mark.fast_cases("mlp-True", "transformer of images-True", "rotary-True", "residual-True")
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_dimension_sees_all_others_and_the_time(name, timed):
  network, spec = CASES[name]
  network = network_for(spec, network, timed)
  time = (jnp.array([0.2, 0.7]),) if timed else ()
  x = jnp.asarray(np.random.default_rng(0).integers(0, spec.levels + 1, (2, *spec.event)))
  params = network.init(jax.random.key(0), x, *time)["params"]
  params = jax.tree.map(lambda leaf: leaf + 0.3 * np.random.default_rng(leaf.size).normal(size=leaf.shape), params)

  @jax.jit
  def run(params, x, time):
    return network.apply({"params": params}, x, *time)

  first = run(params, x, time)
  assert first.shape == (*x.shape, spec.levels)
  other = run(params, x.reshape(2, -1).at[:, 0].set((x.reshape(2, -1)[:, 0] + 1) % 6).reshape(x.shape), time)
  assert np.all(np.abs(other - first).max(axis=-1) > 1e-7)
  if timed:
    assert np.all(np.abs(run(params, x, (time[0][::-1],)) - first).max(axis=-1) > 1e-7)
  grads = jax.grad(lambda params: jnp.sum(jax.nn.log_softmax(run(params, x, time))[..., 0] ** 2))(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.abs(leaf).max() > 0 or "key/bias" in jax.tree_util.keystr(path, simple=True, separator="/"), path


def test_the_default_follows_from_the_data():
  assert isinstance(ardm(IMAGE).module, Perceptron)  # two channels are no image
  assert isinstance(ardm(DataSpec((8, 8, 1), 17)).module, Residual)
  assert isinstance(ardm(VECTOR).module, Perceptron)


def test_what_cannot_be_is_refused():
  with pytest.raises(SpecError, match="network is 'residual', which takes images"):
    ardm(VECTOR, network=Residual())
  with pytest.raises(ConfigError, match="num_heads"):
    BidirectionalTransformer(width=10, num_heads=4)
  with pytest.raises(ConfigError, match="positions_by is 'sinusoidal'"):
    BidirectionalTransformer(positions_by="sinusoidal")
  with pytest.raises(ConfigError, match="residual"):
    Perceptron(hidden=(8, 9))
