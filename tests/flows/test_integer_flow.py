"""Integer flows: a bijection of the levels, masses that sum to one, gradients, and exact coding."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, SpecError
from gdm.evaluation.coding.integers import IntegerCoder
from gdm.evaluation.coding.ways import ByIntegers, way_of
from gdm.flows.integer_flow import IntegerFlow
from gdm.likelihood import Kind
from gdm.model import HasIntegerSteps

KEY = jax.random.key(0)
MODELS = {
    "image": IntegerFlow(DataSpec((2, 2, 1), 3), num_scales=1, num_steps=4, num_components=2, width=4),
    "vector": IntegerFlow(DataSpec((4,), 3), num_steps=3, num_components=2, hidden=(6,)),
    "labels": IntegerFlow(DataSpec((4,), 3, num_classes=2), num_steps=2, num_components=1, hidden=(6,),
                          class_conditional=True),
}
each = pytest.mark.parametrize("name", MODELS)


def made(name, scale=0.4):
  """A model with random parameters, all its states, and labels where it takes them."""
  model = MODELS[name]
  states = np.array(list(itertools.product(range(3), repeat=4)), np.int32).reshape(-1, *model.spec.event)
  batch = {"x": jnp.asarray(states)} | ({"y": jnp.ones(len(states), jnp.int32)} if model.class_conditional else {})
  params, carry = model.init(KEY, batch)
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(0)
  params = jax.tree.unflatten(tree, [p + scale * rng.normal(size=p.shape).astype(np.float32) for p in leaves])
  return model, params, carry, batch


@pytest.mark.fast_cases("labels")
@each
def test_is_a_bijection_of_integers(name):
  model, params, carry, batch = made(name)
  z = np.asarray(model.encode(params, carry, batch, KEY))
  assert len(np.unique(z.reshape(len(z), -1), axis=0)) == len(z) == 81
  assert not np.array_equal(z, batch["x"])
  condition = batch.get("y")
  np.testing.assert_array_equal(model.decode(params, carry, jnp.asarray(z), KEY, condition), batch["x"])
  likelihood = model.log_likelihood(params, carry, batch, KEY)
  assert likelihood.kind == Kind.LOWER_BOUND
  assert 0.0 < np.sum(np.exp(likelihood.nats)) < 1.0 + 1e-5


def test_masses_of_all_integers_sum_to_one():
  model = IntegerFlow(DataSpec((2,), 3), num_steps=3, num_components=2, hidden=(6,))
  params, carry = model.init(KEY, {"x": jnp.zeros((1, 2), jnp.int32)})
  params = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(KEY, a.shape), params)
  every = np.stack(np.meshgrid(np.arange(-150, 151), np.arange(-150, 151)), axis=-1).reshape(-1, 2).astype(np.int32)
  z = np.asarray(model.encode(params, carry, {"x": every}, KEY))
  assert np.any(z != every) and len(np.unique(z, axis=0)) == len(every)
  nats = model._log_mass(params, jnp.asarray(every, jnp.float32), None, None)
  np.testing.assert_allclose(np.sum(np.exp(np.asarray(nats, np.float64))), 1.0, rtol=1e-4)


def test_samples_follow_the_masses():
  model = IntegerFlow(DataSpec((2,), 9), num_steps=2, num_components=2, hidden=(6,))
  params, carry = model.init(KEY, {"x": jnp.zeros((1, 2), jnp.int32)})
  params = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(KEY, a.shape), params)
  inside = np.stack(np.meshgrid(np.arange(1, 8), np.arange(1, 8), indexing="ij"), -1).reshape(-1, 2).astype(np.int32)
  masses = np.exp(np.asarray(model.log_likelihood(params, carry, {"x": jnp.asarray(inside)}, KEY).nats))
  num = 40_000
  x = np.asarray(model.sample(params, carry, KEY, num).x)  # at the ends there are integers beyond, too
  found = np.array([np.mean(np.all(x == state, axis=1)) for state in inside])
  assert masses.sum() > 0.05 and masses.max() < 0.5
  assert np.all(np.abs(found - masses) < 5 * np.sqrt(masses / num) + 1e-4)


@pytest.mark.fast_cases("labels")
@each
def test_every_parameter_has_a_gradient(name):
  model, params, carry, batch = made(name)
  part = {k: v[::10][:8] for k, v in batch.items()}
  grads = jax.grad(lambda p: model.loss(p, carry, part, KEY, jnp.zeros((), jnp.int32)).loss)(params)
  dead = [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(grads) if not np.any(g)]
  assert not dead


@pytest.mark.parametrize("name", ["image", "vector"])
def test_is_decoded_at_its_own_cost(name):
  model, params, carry, batch = made(name, 0.2)  # no mass is below what the coder can say
  assert isinstance(model, HasIntegerSteps) and isinstance(way_of(model), ByIntegers)
  x = np.asarray(batch["x"])
  coder = IntegerCoder(model, params, carry, 32)
  words = coder.encode(x)
  decoded, _ = coder.decode(words, len(x))
  np.testing.assert_array_equal(decoded, x)
  bits = -np.sum(np.asarray(model.log_likelihood(params, carry, batch, KEY).nats)) / np.log(2.0)
  assert 32 * len(words) < 1.001 * bits + 128  # what no example leaves by has no share in the tables
  with pytest.raises(DataError, match="example 0 holds"):
    coder.encode(x + 3)
  with pytest.raises(DataError, match="more bits"):
    coder.decode(np.concatenate([words, words]), len(x))
  with pytest.raises(DataError, match="does not begin"):
    coder.decode(words[:1], len(x))


def test_refuses_what_it_cannot_take():
  with pytest.raises(SpecError, match="one number"):
    IntegerFlow(DataSpec((1,), 4))
  with pytest.raises(SpecError):
    IntegerFlow(DataSpec((4,), None))
  with pytest.raises(SpecError, match="sizes that 2 divides"):
    IntegerFlow(DataSpec((5, 5, 1), 4))
  with pytest.raises(ConfigError, match="num_steps"):
    IntegerFlow(DataSpec((4,), 4), num_steps=0)
  with pytest.raises(ConfigError, match="is conditional on y, which a payload does not hold"):
    way_of(MODELS["labels"])
