"""A tilted base: fresh it is the base, its objectives move their own groups, and it finds what the base cannot."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.energy.tilted import VARIANTS, get_config
from gdm.data.load import load_dataset
from gdm.dataspec import DataSpec
from gdm.energy.continuous.tilted import Tilted
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import Kind
from gdm.mesh import make_mesh
from gdm.runs.registry import build_model
from gdm.runs.settings import check_settings
from gdm.training import checkpoint
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

KEY = jax.random.key(0)
PLANE = DataSpec((2,), None)
X = (np.random.default_rng(0).normal(size=(256, 2)) @ [[1.0, 0.8], [0.0, 0.6]] * [1.0, 3.0] + [5.0, 0.0]).astype(
    np.float32)
FLOW = {"name": "realnvp", "num_layers": 2, "hidden": (6,)}  # with batch statistics


def tilted(base=FLOW, spec=PLANE, **fields):
  network = {"name": "mlp", "hidden": (6,)}
  return build_model({"name": "tilted", "base": base, "network": network, "num_steps": 2, **fields}, spec)


OPTIMIZERS = {"base_model": optax.set_to_zero(), "model": optax.sgd(0.1)}


@functools.cache
def fresh():
  model = tilted(num_temperatures=20)
  state = init_state(model, OPTIMIZERS, KEY, {"x": X}, mesh=make_mesh(devices=jax.devices()[:1]))
  return model, state.params, state.carry, state


@pytest.mark.slow
def test_a_fresh_model_is_its_base():
  model, params, carry, _ = fresh()
  assert set(params) == {"model", "base", "base_model"} and set(carry) == {"chains", "statistics"}
  found = jax.jit(model.log_likelihood)(params, carry, {"x": X}, KEY)
  own = {"statistics": carry["statistics"]}
  of_base = model.base.log_likelihood({"model": params["base_model"]}, own, {"x": X}, KEY)
  assert found.kind is Kind.EXACT and not found.given
  np.testing.assert_allclose(found.nats, of_base.nats, atol=1e-4)
  chains = np.asarray(carry["chains"]).reshape(-1, 2)
  assert abs(chains.mean()) < 0.3 and abs(chains.std() - 1.0) < 0.3  # the base's, standardized


@pytest.mark.slow
def test_each_objective_moves_its_own_groups():
  model, params, carry, before = fresh()
  of_base, of_tilt = model.objectives
  assert (of_base.groups, of_tilt.groups) == (("base_model",), ("model",))
  out = jax.eval_shape(lambda: of_base.loss(params, carry, {"x": X}, KEY, jnp.zeros((), jnp.int32)))
  assert "nll" in out.metrics and jax.tree.map(jnp.shape, out.carry) == jax.tree.map(jnp.shape, carry)
  after, metrics = jax.jit(make_train_step(model, OPTIMIZERS))(before, {"x": np.stack([2.0 * X, X])}, KEY)
  assert {"base_model/nll", "model/energy_gap"} <= set(metrics)
  chex.assert_trees_all_equal(after.params["base_model"], before.params["base_model"])
  chex.assert_trees_all_equal(after.params["base"], before.params["base"])
  for here, there in ((after.params["model"], before.params["model"]),
                      *((after.carry[name], before.carry[name]) for name in ("chains", "statistics"))):
    assert any(np.any(np.asarray(a) != b) for a, b in zip(*map(jax.tree.leaves, (here, there)), strict=True))


@pytest.mark.slow
def test_annealing_from_the_base_agrees_with_the_grid():
  """Forward for log Z; and each way for what it costs to go: RAISE is below the density, and near it."""
  model, params, carry, _ = fresh()
  rng = np.random.default_rng(1)
  leaves, tree = jax.tree.flatten(params["model"])
  far = jax.tree.unflatten(tree, [leaf + 0.5 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])
  params = {**params, "model": far}
  exact, = model.log_normalizer(params, carry, KEY)
  assert float(exact.stderr) < 1e-2 < abs(float(exact.nats))
  by_chains = dataclasses.replace(model, normalizer="ais", num_temperatures=100)
  found, = by_chains.log_normalizer(params, carry, KEY)
  assert found.kind is Kind.LOWER_BOUND
  assert abs(float(found.nats - exact.nats)) < 4 * float(found.stderr) + float(exact.stderr) < 0.3
  gap = np.asarray(model.log_likelihood(params, carry, {"x": X}, KEY).nats
                   - by_chains.log_likelihood(params, carry, {"x": X}, KEY, num_samples=2).nats)
  assert -4 * gap.std() / len(gap) ** 0.5 < gap.mean() < 0.2


@pytest.mark.slow
def test_a_density_that_the_base_cannot_have_is_found():
  """A ring by a linear flow, which can only be a Gaussian, and a perceptron on it, within 0.05 nats of the truth."""
  dataset = load_dataset("toy2d:ring#train=20000", path="", data_dir="", transforms=(), seed=0)
  x, test = (jnp.asarray(dataset.split(split).rows(slice(None))["x"]) for split in ("train", "test"))
  base = {"name": "maf", "num_layers": 1, "hidden": (4,)}
  model = tilted(base, network={"name": "mlp", "hidden": (64, 64)}, objective="nce")
  optimizers = optimizers_for(model, optax.adam(optax.linear_schedule(3e-3, 0.0, 3000)))
  state = init_state(model, optimizers, KEY, {"x": x[:1000]}, ema=True, mesh=make_mesh(devices=jax.devices()[:1]))
  step = make_train_step(model, optimizers, ema_decay=0.99)

  def update(state, _):
    index = jax.random.randint(jax.random.fold_in(KEY, state.step), (2, 256), 0, len(x))
    return step(state, {"x": x[index]}, KEY)[0], None

  state, _ = jax.jit(lambda state: jax.lax.scan(update, state, length=3000))(state)
  params, carry = state.averaged
  nats = np.asarray(model.log_likelihood(params, carry, {"x": test}, KEY).nats)
  assert abs(float(np.mean(dataset.log_prob(np.asarray(test)) - nats))) < 0.05
  exact, learned = model.log_normalizer(params, carry, KEY)
  assert learned.kind is Kind.ESTIMATE and abs(float(exact.nats - learned.nats)) < 0.1
  drawn = np.linalg.norm(model.sample(params, carry, KEY, 2000).x, axis=1)
  np.testing.assert_allclose([drawn.mean(), drawn.std()], [2.5, 0.25], atol=0.06)


@pytest.mark.slow
def test_a_restored_run_goes_on_bit_for_bit(tmp_path):
  model, *_ = fresh()
  optimizers, mesh = optimizers_for(model, optax.adam(1e-2)), make_mesh(devices=jax.devices()[:1])
  x = np.random.default_rng(0).normal(size=(4, 2, 16, 2)).astype(np.float32)
  state = init_state(model, optimizers, KEY, {"x": x[0, 0]}, ema=True, mesh=mesh)
  step, writer, unbroken = jax.jit(make_train_step(model, optimizers)), checkpoint.Checkpointer(tmp_path / "c"), state
  for i in range(4):
    unbroken, _ = step(unbroken, {"x": x[i]}, KEY)
    if i == 1:
      writer.save(2, unbroken, {})
  writer.close()
  resumed = checkpoint.restore(tmp_path / "c", 2, state).state
  for i in range(2, 4):
    resumed, _ = step(resumed, {"x": x[i]}, KEY)
  chex.assert_trees_all_equal(resumed, unbroken)


@pytest.mark.parametrize("base, spec, error, message", [
    ({"name": "gaussian_mixture"}, PLANE, ConfigError, "GaussianMixture, which is not trained by steps"),
    (FLOW, DataSpec((2,), 5), SpecError, "needs real numbers, but the data has 5 levels"),
])
def test_what_cannot_be_tilted_is_named(base, spec, error, message):
  with pytest.raises(error, match=message):
    tilted(base, spec)


@pytest.mark.parametrize("base, message", [
    ({"name": "ebm", "network": {"name": "mlp", "hidden": (4,)}}, "EBM, which carries chains"),
    ({"name": "ebm", "network": {"name": "mlp", "hidden": (4,)}, "objective": "nce", "normalizer": "ais"},
     "EBM, whose log-likelihood is of kind 'lower_bound_of_sampler'; a tilt needs an exact"),
    ({"name": "nice", "num_layers": 3, "hidden": (4,), "class_conditional": True}, "kind 'exact' given y"),
])
def test_what_a_base_must_be_is_checked_with_the_first_batch(base, message):
  model = tilted(base, DataSpec((2,), None, num_classes=3))
  with pytest.raises(ConfigError, match=message):
    jax.eval_shape(model.init, KEY, {"x": X, "y": np.zeros(len(X), np.int32)})


def test_a_base_is_required_and_of_the_same_data():
  with pytest.raises(ConfigError, match=r"model\.base is missing"):
    build_model({"name": "tilted"}, PLANE)
  with pytest.raises(SpecError, match="both must model the same data"):
    Tilted(DataSpec((3,), None), base=build_model(FLOW, PLANE))


@pytest.mark.fast_cases("spirals")
@pytest.mark.parametrize("variant", VARIANTS)
def test_config_builds_its_model(variant):
  config = get_config(variant)
  check_settings(config)
  model = build_model(config.model.to_dict(), DataSpec((3,), None) if variant == "npz" else PLANE)
  params, carry = jax.eval_shape(model.init, KEY, {"x": jax.ShapeDtypeStruct((4, *model.spec.event), jnp.float32)})
  assert set(params) == {"model", "base", "base_model"} and not carry.get("chains")
