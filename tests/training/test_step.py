"""One train step for every way of training: exact, bound, chains, two optimizers, learned schedule, closed form."""

import functools
import logging

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from helpers.small_models import small_batch
from helpers.toy_models import (
  SHARDS,
  TRAINED_TOYS,
  AdversarialToy,
  ChainsToy,
  DenoisingToy,
  ExactToy,
  SolvedToy,
  toy_batches,
)

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.mesh import batch_sharding, make_mesh
from gdm.model import HasSolve, Objective
from gdm.runs.registry import build_model
from gdm.training.state import TrainState, init_state, moved_groups, optimizers_for, state_shapes, state_sharding
from gdm.training.step import apply_objective, make_train_step, repeat_step

KEY = jax.random.key(0)
NUM_STEPS = 2
OPTIMIZER = optax.sgd(0.05, momentum=0.9)  # has a state, and compiles in half of adam's time


@functools.cache
def _start(toy):
  model = toy()
  optimizers = optimizers_for(model, OPTIMIZER)
  batches = toy_batches(model, NUM_STEPS)
  example = jax.tree.map(lambda x: x[0, 0], batches)
  return init_state(model, optimizers, KEY, example, ema=True, mesh=make_mesh(devices=jax.devices()[:1])), batches


def _setup(toy, **options):
  model = toy()
  state, batches = _start(toy)
  return state, make_train_step(model, optimizers_for(model, OPTIMIZER), ema_decay=0.9, **options), batches


def _apply(objective, optimizers, state, batch, **options):
  apply = functools.partial(apply_objective, objective, optimizers, **options)
  return jax.jit(apply)(state, batch, KEY)


def _run(step, state, batches):
  step = jax.jit(step)
  for i in range(NUM_STEPS):
    state, metrics = step(state, jax.tree.map(lambda x, i=i: x[i], batches), KEY)
  return state, metrics


@functools.cache
def _plain(toy):
  state, step, batches = _setup(toy)
  return _run(step, state, batches)


def _assert_close(a, b, tolerance=2e-6):
  chex.assert_trees_all_close(jax.device_get(a), jax.device_get(b), atol=tolerance, rtol=tolerance)


@pytest.mark.fast_cases("ExactToy")
@pytest.mark.parametrize("toy", TRAINED_TOYS)
def test_every_group_moves_and_the_averages_follow(toy):
  start, _, _ = _setup(toy)
  end, metrics = _plain(toy)
  for group in moved_groups(toy()):
    before, after = jax.tree.leaves(start.params[group]), jax.tree.leaves(end.params[group])
    assert any(np.any(a != b) for a, b in zip(before, after, strict=True)), group
  assert int(end.step) == NUM_STEPS
  assert all(np.isfinite(mean.value) for mean in metrics.values())
  chex.assert_trees_all_equal_shapes_and_dtypes(start, end)


@pytest.mark.fast_cases("False-ExactToy")
@pytest.mark.parametrize("toy", TRAINED_TOYS)
@pytest.mark.parametrize("unroll", [True, False])
def test_several_steps_per_dispatch_equal_single_steps(toy, unroll):
  state, step, batches = _setup(toy, unroll=unroll)
  end, metrics = jax.jit(repeat_step(step, NUM_STEPS, unroll))(state, batches, KEY)
  expected, last = _plain(toy)
  _assert_close(end, expected)
  _assert_close({name: mean.value[-1] for name, mean in metrics.items()},
                {name: mean.value for name, mean in last.items()})


@pytest.mark.fast_cases("False-ExactToy")
@pytest.mark.parametrize("toy", [toy for toy in TRAINED_TOYS if toy is not ChainsToy])
@pytest.mark.parametrize("unroll", [True, False])
def test_accumulation_equals_the_whole_minibatch(toy, unroll):
  """Parameters, optimizer state, averages, running statistics and metrics."""
  state, step, batches = _setup(toy, accumulate=4, unroll=unroll)
  end, metrics = _run(step, state, batches)
  expected, last = _plain(toy)
  _assert_close(end, expected, 1e-5)
  _assert_close({name: mean.value for name, mean in metrics.items()},
                {name: mean.value for name, mean in last.items()}, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["nce", "denoising", "sliced"])
@pytest.mark.parametrize("spec", [DataSpec((3,), None), DataSpec((3,), 4)])
def test_draws_of_an_objective_are_those_of_the_whole_minibatch(objective, spec):
  """Noise of NCE and score matching, and the dequantization of integers."""
  ends = []
  model = build_model({"name": "ebm", "network": {"name": "mlp", "hidden": (6,)}, "objective": objective}, spec)
  batch, optimizers = small_batch(model, (1,)), optimizers_for(model, optax.sgd(0.1))
  state = init_state(model, optimizers, KEY, {"x": batch["x"][0]}, mesh=make_mesh(devices=jax.devices()[:1]))
  for accumulate in (1, 4):
    end, metrics = jax.jit(make_train_step(model, optimizers, accumulate=accumulate))(state, batch, KEY)
    ends.append((end.params, {name: mean.value for name, mean in metrics.items()}))
  _assert_close(*ends, 1e-5)
  assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(ends[0][0]), jax.tree.leaves(state.params), strict=True))


@pytest.mark.parametrize(("fields", "spec", "reason"), [
    ({"name": "realnvp", "num_layers": 2, "hidden": (6,)}, DataSpec((4,), None), "batch normalization takes its means"),
    ({"name": "realnvp", "num_scales": 1, "width": 4, "num_blocks": 1}, DataSpec((4, 4, 1), 3), "batch normalization"),
    ({"name": "maf", "num_layers": 2, "normalization": "batch"}, DataSpec((3,), None), "batch normalization"),
    ({"name": "ebm", "kl_weight": 0.1}, DataSpec((3,), None), r"model\.kl_weight is 0\.1"),
    ({"name": "flow_matching", "coupling": "optimal"}, DataSpec((3,), None), "coupling is 'optimal'"),
    ({"name": "tilted", "base": {"name": "realnvp", "num_layers": 2}}, DataSpec((3,), None), "batch normalization"),
], ids=str)
def test_a_loss_of_whole_minibatches_says_that_it_cannot_be_accumulated(fields, spec, reason):
  model = build_model(fields, spec)
  with pytest.raises(ConfigError, match=f"training.accumulate is 4, but {reason}.*; set training.accumulate to 1"):
    make_train_step(model, optimizers_for(model, optax.sgd(0.1)), accumulate=4)
  make_train_step(model, optimizers_for(model, optax.sgd(0.1)))


def test_other_normalizations_and_objectives_can_be_accumulated():
  for fields in ({"name": "realnvp", "num_layers": 2, "normalization": "act"}, {"name": "maf"}, {"name": "ebm"},
                 {"name": "ebm", "kl_weight": 0.1, "objective": "nce"}, {"name": "flow_matching"}):
    model = build_model(fields, DataSpec((3,), None))
    make_train_step(model, optimizers_for(model, optax.sgd(0.1)), accumulate=4)


@pytest.mark.slow
@pytest.mark.parametrize("unroll", [True, False])
def test_the_memory_of_accumulation_does_not_grow_with_the_micro_batches(unroll):
  """It is that of the sums and of one micro-batch's gradient, beside what a step takes anyway."""
  model = build_model({"name": "made", "network": {"hidden": (300,)}}, DataSpec((200,), 2))
  optimizers, mesh = optimizers_for(model, optax.sgd(0.1)), make_mesh(devices=jax.devices()[:1])
  batch = {"x": np.zeros((1, 64, 200), np.int32)}
  shapes = state_shapes(model, optimizers, {"x": batch["x"][0]}, mesh=mesh)
  gradient = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes.params))

  def temporaries(accumulate):
    step = jax.jit(make_train_step(model, optimizers, accumulate=accumulate, unroll=unroll), donate_argnums=0)
    return step.lower(shapes, batch, KEY).compile().memory_analysis().temp_size_in_bytes

  at_1, at_2, at_16 = map(temporaries, (1, 2, 16))
  assert at_16 <= at_1 + 2 * gradient
  assert at_16 <= 1.1 * at_2


def test_moving_chains_more_often_is_said(caplog):
  with caplog.at_level(logging.INFO):
    _, step, batches = _setup(ChainsToy, accumulate=2)
    jax.eval_shape(step, _start(ChainsToy)[0], jax.tree.map(lambda x: x[0], batches), KEY)
  assert "The chains move in each of the 2 micro-batches of a step (training.accumulate)." in caplog.text


@pytest.mark.slow
def test_accumulation_threads_the_carry():
  """Chains move once per micro-batch: two micro-batches move them as two calls do, at the same parameters."""
  state, _, batches = _setup(ChainsToy)
  model = ChainsToy()
  optimizers = {"model": optax.set_to_zero()}
  opt_state = {"model": optimizers["model"].init(state.params["model"])}
  state = TrainState(state.step, state.params, state.carry, opt_state, {})
  batch = jax.tree.map(lambda x: x[0, 0], batches)
  end, _ = _apply(model.objectives[0], optimizers, state, batch, accumulate=2)
  for half in (0, 1):
    part = jax.tree.map(lambda x, half=half: x[half::2], batch)
    state, _ = _apply(model.objectives[0], optimizers, state, part)
  _assert_close(end.carry, state.carry)


@pytest.mark.fast_cases("DenoisingToy-1")
@pytest.mark.parametrize(("toy", "accumulate"), [*((toy, 1) for toy in TRAINED_TOYS), (ChainsToy, 2)])
def test_pmap_with_an_axis_name_equals_jit(toy, accumulate):
  state, step, batches = _setup(toy, accumulate=accumulate)
  expected, last = _run(step, state, batches)
  _, step, _ = _setup(toy, accumulate=accumulate, axis_name="devices")

  def split(tree):  # each device its own examples
    return jax.tree.map(lambda x: np.moveaxis(x.reshape(*x.shape[:2], 8, -1, 2), 2, 0), tree)

  def whole(tree):  # a copy for each device, but chains: each its own shards
    return jax.tree.map(lambda x: np.broadcast_to(x, (8, *np.shape(x))), tree)

  state = jax.device_get(state)
  mapped = whole(state)
  if "chains" in state.carry:
    mapped = TrainState(mapped.step, mapped.params, {"chains": state.carry["chains"].reshape(8, SHARDS // 8, -1, 2)},
                        mapped.opt_state, mapped.ema)
  parallel = jax.pmap(step, axis_name="devices", in_axes=(0, 0, None))
  parts = split(batches)
  for i in range(NUM_STEPS):
    mapped, metrics = parallel(mapped, jax.tree.map(lambda x, i=i: x[:, i], parts), KEY)
  first = jax.device_get(jax.tree.map(lambda x: x[0], (mapped.params, mapped.opt_state, mapped.ema["params"])))
  _assert_close(first, (expected.params, expected.opt_state, expected.ema["params"]), 1e-5)
  if "chains" in state.carry:
    _assert_close(np.reshape(mapped.carry["chains"], (SHARDS, -1, 2)), expected.carry["chains"], 1e-5)
  for name in set(last) - {"grad_norm"}:
    _assert_close(metrics[name].value[0], last[name].value, 1e-5)


@pytest.mark.fast_cases("ExactToy")
@pytest.mark.parametrize("toy", TRAINED_TOYS)
def test_eight_devices_equal_one(toy):
  state, step, batches = _setup(toy)
  expected, _ = _plain(toy)
  mesh = make_mesh()
  batches = jax.device_put(batches, batch_sharding(mesh, leading_axes=2))
  end, _ = _run(step, jax.device_put(state, state_sharding(state, mesh)), batches)
  _assert_close(end, expected, 1e-5)


def test_a_loss_cannot_reach_the_groups_it_does_not_move():
  model = AdversarialToy()
  optimizers = optimizers_for(model, optax.sgd(0.1))
  batches = toy_batches(model, 1)
  batch = jax.tree.map(lambda x: x[0, 0], batches)
  state = init_state(model, optimizers, KEY, batch)
  for objective, still in zip(model.objectives, ("generator", "critic"), strict=True):
    after, _ = _apply(objective, optimizers, state, batch)
    chex.assert_trees_all_equal(after.params[still], state.params[still])
    (moved,) = objective.groups
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(after.params[moved]),
                                              jax.tree.leaves(state.params[moved]), strict=True))


@pytest.mark.slow
def test_a_loss_with_two_groups_moves_both_by_its_gradient():
  model = DenoisingToy()
  optimizers = optimizers_for(model, optax.sgd(0.1), {"schedule": optax.sgd(0.01)})
  batch = jax.tree.map(lambda x: x[0, 0], toy_batches(model, 1))
  state = init_state(model, optimizers, KEY, batch)
  after, _ = _apply(model.objectives[0], optimizers, state, batch)
  grads = jax.grad(lambda params: model.loss(params, {}, batch, KEY, 0).loss)(state.params)
  for group, rate in (("denoiser", 0.1), ("schedule", 0.01)):
    _assert_close(after.params[group], jax.tree.map(lambda p, g, r=rate: p - r * g, state.params[group], grads[group]))


def test_averages_are_the_running_averages_of_the_parameters():
  state, step, batches = _setup(ExactToy)
  average = state.params
  compiled = jax.jit(step)
  for i in range(NUM_STEPS):
    decay = min(0.9, (1 + i) / (10 + i))
    state, _ = compiled(state, jax.tree.map(lambda x, i=i: x[i], batches), KEY)
    average = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, average, state.params)
  _assert_close(state.ema["params"], average)
  params, carry = state.averaged
  _assert_close(params, average)
  assert np.any(carry["statistics"]["mean"] != state.carry["statistics"]["mean"])


def test_training_recovers_a_known_gaussian():
  model = ExactToy()
  optimizers = optimizers_for(model, optax.adam(0.03))
  batches = toy_batches(model, 400, batch_size=256)
  state = init_state(model, optimizers, KEY, jax.tree.map(lambda x: x[0, 0], batches))
  state, _ = jax.jit(repeat_step(make_train_step(model, optimizers), 400, unroll=False))(state, batches, KEY)
  np.testing.assert_allclose(state.params["model"]["mean"], [0.0, 1.0], atol=0.1)
  np.testing.assert_allclose(state.params["model"]["skew"], 0.8, atol=0.1)
  np.testing.assert_allclose(state.params["model"]["log_scale"], [0.0, 0.0], atol=0.1)


def test_a_closed_form_model_is_solved_and_has_no_step():
  model = SolvedToy()
  assert isinstance(model, HasSolve)
  x = toy_batches(ExactToy(), 20)["x"].reshape(-1, 2)
  params, _ = model.solve(KEY, [{"x": x[:100]}, {"x": x[100:]}])
  np.testing.assert_allclose(params["model"]["mean"], x.mean(0), rtol=1e-5)
  with pytest.raises(ConfigError, match="no objectives"):
    make_train_step(model, {})


def test_bad_options_are_named():
  model = ExactToy()
  optimizers = optimizers_for(model, optax.sgd(0.1))
  with pytest.raises(ConfigError, match=r"ema_decay is 1\.0"):
    make_train_step(model, optimizers, ema_decay=1.0)
  for accumulate in (0, -1, True):
    with pytest.raises(ConfigError, match=f"accumulate is {accumulate}; it must be an integer of at least 1"):
      make_train_step(model, optimizers, accumulate=accumulate)
  with pytest.raises(ConfigError, match="critic"):
    optimizers_for(model, optax.sgd(0.1), {"critic": optax.sgd(0.1)})
  state, step, batches = _setup(ExactToy, accumulate=3)
  with pytest.raises(ConfigError, match="accumulate is 3, which does not divide the batch of 16"):
    step(state, jax.tree.map(lambda x: jnp.asarray(x[0]), batches), KEY)


def test_another_number_of_minibatches_is_named():
  """Jax would drop those too many, and repeat the last in place of those too few."""
  state, step, batches = _setup(AdversarialToy)
  minibatches = jax.tree.map(lambda x: x[0], batches)
  right = r"it must be \[6, batch, ...\], one minibatch for each repeat of an objective \(5 of critic, 1 of generator\)"
  for given in (1, 5, 7):
    batch = jax.tree.map(lambda x, given=given: np.resize(x, (given, *x.shape[1:])), minibatches)
    with pytest.raises(ConfigError, match=rf"batch\['u'\] has shape \[{given}, 16, 2\]; {right}"):
      jax.eval_shape(step, state, batch, KEY)
  for batch in ({"x": minibatches["x"][0]}, {**minibatches, "u": minibatches["u"][:, :8]},
                {**minibatches, "u": np.zeros(6)}, {"x": np.zeros((6, 0, 2), np.float32)}):
    with pytest.raises(ConfigError, match=right):
      jax.eval_shape(step, state, batch, KEY)
  with pytest.raises(ConfigError, match="the batch is empty; it must be a dict of arrays"):
    jax.eval_shape(step, state, {}, KEY)


def test_another_number_of_steps_is_named():
  state, step, batches = _setup(ExactToy)
  for given in (1, 3):
    batch = jax.tree.map(lambda x, given=given: np.resize(x, (given, *x.shape[1:])), batches)
    with pytest.raises(ConfigError, match=rf"\[{given}, 1, 16, 2\]; it must be \[2 steps, minibatches, batch, ...\]"):
      jax.eval_shape(repeat_step(step, 2), state, batch, KEY)


@pytest.fixture
def unchecked():
  """Without the checks of types that only tests have."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(("optimizers", "message"), [
    (optax.sgd(0.1), r"optimizers is a GradientTransformation\w*; it must be a dict .*{'critic': optax.adam\(1e-3\), "
                     r"'generator': optax.adam\(1e-3\)}"),
    (None, "optimizers is a NoneType"),
    ([optax.sgd(0.1), optax.sgd(0.1)], "optimizers is a list"),
    ({"critic": optax.sgd(0.1)}, "optimizers has none for 'generator'"),
    ({"critic": optax.sgd(0.1), "generator": "adam"}, r"optimizers\['generator'\] is 'adam'; it must be an optax"),
    ({"critic": optax.sgd(0.1), "generator": optax.sgd}, r"optimizers\['generator'\] is <function sgd"),
    ({group: optax.sgd(0.1) for group in ("critic", "generator", "encoder")}, r"are given for \['encoder'\]"),
])
def test_optimizers_of_another_kind_are_named(unchecked, optimizers, message):
  model = AdversarialToy()
  batch = jax.tree.map(lambda x: x[0, 0], toy_batches(model, 1))
  with pytest.raises(ConfigError, match=message):
    make_train_step(model, optimizers)
  with pytest.raises(ConfigError, match=message):
    init_state(model, optimizers, KEY, batch)


def test_a_state_of_other_optimizers_or_without_averages_is_named():
  model = ExactToy()
  batch = jax.tree.map(lambda x: x[0], toy_batches(model, 1))
  example = jax.tree.map(lambda x: x[0], batch)
  plain = init_state(model, optimizers_for(model, optax.sgd(0.1)), KEY, example)
  step = make_train_step(model, optimizers_for(model, optax.adam(0.1)))
  with pytest.raises(ConfigError, match=r"opt_state\['model'\] of the state is not of the optimizer of that group"):
    jax.eval_shape(step, plain, batch, KEY)
  step = make_train_step(model, optimizers_for(model, optax.sgd(0.1)), ema_decay=0.9)
  with pytest.raises(ConfigError, match=r"ema_decay is 0\.9, but the state has no averages; make it by init_state"):
    jax.eval_shape(step, plain, batch, KEY)


def test_an_objective_of_a_group_without_parameters_is_named():
  class Misspelt(ExactToy):
    @property
    def objectives(self):
      return (Objective(("modle",), self.loss),)

  model = Misspelt()
  with pytest.raises(ConfigError, match=r"moves the group 'modle', but its parameters have the groups \['model'\]"):
    init_state(model, optimizers_for(model, optax.sgd(0.1)), KEY, jax.tree.map(lambda x: x[0, 0],
                                                                              toy_batches(model, 1)))
