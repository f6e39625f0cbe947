"""What every autoregressive model must satisfy, on binary, categorical and block-structured data."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one, log_probs, states_of

from gdm.autoregressive.vectors.fvsbn import FVSBN
from gdm.autoregressive.vectors.made import MADE, MaskedMLP
from gdm.autoregressive.vectors.mlp import UntiedMLP
from gdm.autoregressive.vectors.nade import NADE
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import Kind
from gdm.model import HasComplete, HasLogLikelihood, HasSample, Model

SPECS = {
    "binary": DataSpec((5, 2), 2),
    "blocks": DataSpec((10,), 2, blocks=((0, 3, 4), (1,), (2, 5), (6, 7, 8), (9,))),
    "categorical": DataSpec((4,), 3),
}
# A random order, and fallback patterns frequent enough to be seen in samples.
SHARED = {"ordering": "random", "ordering_seed": 3, "fallback": 0.05}
SINGLE = {
    "fvsbn": functools.partial(FVSBN, **SHARED),
    "mlp": functools.partial(UntiedMLP, hidden=(4, 3), activation="tanh", center=True, **SHARED),
    "nade": functools.partial(NADE, hidden=6, **SHARED),
    "nade_blocked": functools.partial(NADE, hidden=6, activation="tanh", block=4, center=True, **SHARED),
    "made": functools.partial(MADE, network=MaskedMLP(hidden=(14,), activation="tanh"), **SHARED),
    "made_deep": functools.partial(MADE, network=MaskedMLP(hidden=(14, 9), activation="tanh", direct=True),
                                   degrees="random", center=True, **SHARED),
}
ENSEMBLES = {
    "made_orderings": functools.partial(MADE, network=MaskedMLP(hidden=(11, 8), activation="tanh", direct=True),
                                        num_orderings=4, num_masks=2, degrees="random", center=True, **SHARED),
    "made_masks": functools.partial(MADE, network=MaskedMLP(hidden=(8,), activation="tanh"), num_masks=3, **SHARED),
}
BUILDERS = SINGLE | ENSEMBLES
KEY = jax.random.key(0)


@functools.lru_cache
def build(name, spec):
  """A model and parameters far from their start, so that no property holds by a zero."""
  model = BUILDERS[name](SPECS[spec])
  params, carry = jax.jit(model.init)(KEY, {"x": jnp.asarray(states_of(model.spec)[::7])})
  leaves, treedef = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [leaf + 0.7 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
  return model, jax.tree.unflatten(treedef, moved), carry


def cases(pairs, among):
  """All (name, spec) of `among`, those not in `pairs` in the slow tier."""
  marks = {True: (), False: (pytest.mark.slow,)}
  return pytest.mark.parametrize(("name", "spec"), [pytest.param(*pair, marks=marks[pair in pairs]) for pair in among])


ALL = [(name, spec) for name in BUILDERS for spec in SPECS]
# Every model once, every kind of data as often; and every model on blocks, the data that asks the most.
ONCE = [(name, list(SPECS)[i % len(SPECS)]) for i, name in enumerate(BUILDERS)]
BLOCKS = [(name, "blocks") for name in BUILDERS]
each_once = pytest.mark.parametrize(("name", "spec"), ONCE)


@pytest.mark.fast_cases("fvsbn-blocks")
@cases(ONCE + BLOCKS, among=ALL)
def test_sums_to_one(name, spec):
  assert_sums_to_one(*build(name, spec))


@pytest.mark.fast_cases("nade_blocked-binary")
@cases([(name, spec) for name, spec in ONCE if name != "made_orderings"] + [("made_orderings", "blocks")], among=ALL)
def test_samples_match_the_enumerated_probabilities(name, spec):
  assert_samples_match(*build(name, spec), jax.random.key(2))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spec"), [("fvsbn", "categorical"), ("mlp", "binary"), ("nade", "blocks"),
                                            ("made_deep", "blocks"), ("made_masks", "binary")])
def test_completions_match_the_enumerated_conditionals(name, spec):
  model, params, carry = build(name, spec)
  first = model.layout.order[:model.head.num_variables // 2]
  known = np.zeros(model.spec.num_dims + 1, bool)
  known[model.head.dims[first]] = True
  x = states_of(model.spec)[len(states_of(model.spec)) // 3]
  assert_completions_match(model, params, carry, jax.random.key(3), x, known[:-1].reshape(model.spec.event), 5_000)


def replay(model, params, cache, x, order):
  """Log-probability of each variable by steps, in the order of the steps."""
  values = model.head.split(x.reshape(len(x), -1))[order]

  def body(state, inputs):
    cache, previous = state
    index, value = inputs
    cache, logits = model.conditional_step(params, cache, previous, index)
    return (cache, value), model.head.score(logits, value, jnp.asarray(order)[index])

  start = (cache, jnp.full_like(values[0], 1))  # what comes before the first variable must not matter
  return jax.lax.scan(body, start, (jnp.arange(len(order)), values))[1].T


@pytest.mark.fast_cases("nade_blocked-binary")
@cases(ONCE, among=ALL)
def test_steps_give_the_log_probabilities_of_one_pass(name, spec):
  model, params, carry = build(name, spec)
  states = jnp.asarray(states_of(model.spec))

  @jax.jit
  def by_steps(component, order):
    options = {"component": component} if name in ENSEMBLES else {}
    return replay(model, params, model.init_cache(params, len(states), **options), states, order).sum(axis=1)

  orders = model.components.orders if name in ENSEMBLES else [model.layout.order]
  joint = [by_steps(component, order) for component, order in enumerate(orders)]
  mixture = jax.nn.logsumexp(jnp.stack(joint), axis=0) - np.log(len(joint))
  np.testing.assert_allclose(mixture, log_probs(model, params, carry, states), rtol=1e-4, atol=1e-4)


@pytest.mark.fast_cases("fvsbn-binary")
@cases(ONCE, among=ALL)
def test_outputs_depend_on_what_comes_before_and_on_nothing_else(name, spec):
  model, params, _ = build(name, spec)
  components = getattr(model, "num_components", 1)
  connected = 0.0
  for component in range(components):
    extra = {"component": component} if components > 1 else {}
    order = model.components.orders[component] if components > 1 else model.layout.order
    position = np.empty(model.head.num_columns, int)
    for i, variable in enumerate(order):
      columns = model.head.columns[variable]
      position[columns[columns < model.head.num_columns]] = i
    inputs = jax.random.normal(KEY, (model.head.num_columns,))

    def logits(inputs, extra=extra):
      slots = model.outputs(params["model"], model.layout.sort(inputs[None]), **extra)
      return model.layout.unsort(slots)[0]

    jacobian = np.asarray(jax.jit(jax.jacrev(logits))(inputs))  # [output, input]
    before = position[None, :] < position[:, None]
    assert np.all(jacobian[~before] == 0.0)
    connected += np.mean(jacobian[before] != 0.0) / components
  # All there is to see is seen; only a sparse random mask may leave out some of it.
  assert connected == 1.0 or (connected > 0.5 and getattr(model, "degrees", "even") == "random") or name == "made_masks"


@pytest.mark.fast_cases("fvsbn-binary")
@cases(ONCE, among=ALL)
def test_three_steps_move_every_unmasked_parameter_and_no_other(name, spec):
  model, _, _ = build(name, spec)
  states = jnp.asarray(states_of(model.spec))
  params, carry = jax.jit(model.init)(KEY, {"x": states})
  optimizer = optax.adam(1e-2)

  def step(state, key):
    params, moments = state
    batch = {"x": jax.random.permutation(key, states)[:40]}
    grads = jax.grad(lambda params: model.loss(params, carry, batch, key, jnp.asarray(0)).loss)(params)
    updates, moments = optimizer.update(grads, moments)
    return (optax.apply_updates(params, updates), moments), None

  # A component moves only when it is drawn.
  keys = jax.random.split(jax.random.key(6), 3 * (20 if name in ENSEMBLES else 1))
  ((after, _), _) = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), keys))(params)
  after = after["model"]
  masks = model.parameter_masks()
  assert jax.tree.structure(masks) == jax.tree.structure(after)
  for (path, mask), before, now in zip(jax.tree.leaves_with_path(masks), jax.tree.leaves(params["model"]),
                                       jax.tree.leaves(after), strict=True):
    where = jax.tree_util.keystr(path)
    moves = np.asarray(before != now)
    assert moves.shape == mask.shape, where
    if where == "['W']":  # NADE: the last variable's weights feed nothing; the paper counts them all the same
      mask[model.layout.positions == model.head.num_variables - 1] = False
    np.testing.assert_array_equal(moves, mask, err_msg=where)


@pytest.mark.fast_cases("nade_blocked-binary")
@each_once
def test_towards_zero_temperature_samples_are_the_greedy_path(name, spec):
  model, params, carry = build(name, spec)
  draws = np.asarray(model.sample(params, carry, jax.random.key(4), 64, temperature=1e-6).x).reshape(64, -1)
  components = getattr(model, "num_components", 1)
  assert len(np.unique(draws, axis=0)) <= components
  if components > 1:
    return
  # Greedy: no other value of a variable is likelier, given the ones before it.
  states = states_of(model.spec).reshape(-1, model.spec.num_dims)
  probs = np.exp(log_probs(model, params, carry, states_of(model.spec)))
  kept = np.ones(len(states), bool)
  for variable in model.layout.order:
    dims = model.head.dims[variable]
    values = states[:, dims[dims < model.spec.num_dims]]
    chosen = draws[0, dims[dims < model.spec.num_dims]]
    by_value = {value: probs[kept & np.all(values == value, axis=1)].sum() for value in map(tuple, values)}
    assert by_value[tuple(chosen)] == max(by_value.values())
    kept &= np.all(values == chosen, axis=1)


@pytest.mark.fast_cases("fvsbn-binary")
@each_once
def test_contract(name, spec):
  model, params, carry = build(name, spec)
  for protocol in (Model, HasLogLikelihood, HasSample, HasComplete):
    assert isinstance(model, protocol)
  assert hash(model) == hash(dataclasses.replace(model))
  batch = {"x": jnp.asarray(states_of(model.spec)[:9], jnp.uint8)}
  scored = jax.jit(model.log_likelihood)(params, carry, batch, KEY)
  assert scored.kind is Kind.EXACT and scored.given == ()
  np.testing.assert_array_equal(scored.num_dims, model.spec.num_dims)
  (objective,) = model.objectives
  output = jax.jit(objective.loss)(params, carry, batch, KEY, jnp.asarray(0))
  assert objective.groups == ("model",) and output.carry == {}
  np.testing.assert_allclose(output.metrics["nll"].value, output.loss, rtol=1e-6)
  if name in SINGLE:
    np.testing.assert_allclose(output.loss, -jnp.mean(scored.nats), rtol=1e-5)


@pytest.mark.fast_cases("categorical")
@pytest.mark.parametrize("spec", SPECS)
def test_output_biases_start_at_the_marginals(spec):
  states = jnp.asarray(states_of(SPECS[spec]))
  few = states[jax.random.permutation(KEY, len(states))[:30]]
  model = FVSBN(SPECS[spec], ordering="random", fallback=1e-9)
  params, _ = model.init(KEY, {"x": few})
  head = model.head
  flat = few.reshape(30, -1)
  scores = jax.jit(lambda params: head.log_prob(model.logits(params, head.encode(flat)), flat))(params)
  for variable in range(head.num_variables):
    values = np.asarray(flat)[:, head.dims[variable][head.dims[variable] < model.spec.num_dims]]
    if spec == "blocks" and values.shape[1] > 1:  # counts over the members and "none"
      valid = values.sum(axis=1) <= 1
      states_seen, count = values[valid], (values.sum(axis=0) + 1.0)
      none = np.sum(values.sum(axis=1) == 0) + 1.0
      expected = np.where(states_seen.any(axis=1), states_seen @ count, none) / (count.sum() + none)
    else:
      valid, levels = np.ones(30, bool), model.spec.levels
      expected = (np.sum(values == values.T, axis=1) + 1.0) / (30 + levels)
    np.testing.assert_allclose(np.exp(scores[valid, variable]), expected, rtol=1e-4)
  zeros, _ = dataclasses.replace(model, output_bias="zeros").init(KEY, {"x": few})
  assert not np.any(zeros["model"]["bias"])


@pytest.mark.fast_cases("<lambda>0")
@pytest.mark.parametrize("builder", [
    lambda **options: FVSBN(SPECS["binary"], input_dropout=0.5, **options),
    lambda **options: UntiedMLP(SPECS["binary"], dropout=0.5, **options),
    lambda **options: NADE(SPECS["binary"], dropout=0.5, **options),
    lambda **options: MADE(SPECS["binary"], network=MaskedMLP(dropout=0.5), input_dropout=0.2, **options),
])
def test_dropout_is_in_the_loss_and_not_in_the_likelihood(builder):
  model = builder()
  batch = {"x": jnp.asarray(states_of(model.spec)[::9])}
  params, carry = jax.jit(model.init)(KEY, batch)
  params = jax.tree.map(lambda leaf: leaf + 0.3, params)
  loss = jax.jit(lambda key: model.loss(params, carry, batch, key, jnp.asarray(0)).loss)
  assert loss(jax.random.key(0)) == loss(jax.random.key(0)) != loss(jax.random.key(1))
  score = jax.jit(lambda key: model.log_likelihood(params, carry, batch, key).nats)
  scores = [score(jax.random.key(k)) for k in (0, 1)]
  np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"ordering": "randm"}, ConfigError, "did you mean 'random'"),
    ({"ordering_seed": -1}, ConfigError, "ordering_seed is -1"),
    ({"heads": "block"}, ConfigError, "did you mean 'blocks'"),
    ({"heads": "blocks"}, SpecError, "spec.blocks is empty"),
    ({"output_bias": "zero"}, ConfigError, "did you mean 'zeros'"),
    ({"spec": DataSpec((3,), 17), "heads": "binary"}, SpecError, "needs binary data"),
    ({"spec": SPECS["blocks"], "fallback": 0.0}, ConfigError, "fallback is 0.0"),
])
@pytest.mark.parametrize("model", [FVSBN, UntiedMLP, NADE, MADE])
def test_choices_that_cannot_be_used_are_named(model, change, error, message):
  with pytest.raises(error, match=message):
    model(**{"spec": SPECS["binary"], **change})


@pytest.mark.parametrize("heads", ["auto", "gaussian"])
@pytest.mark.parametrize("model", [FVSBN, UntiedMLP, NADE])
def test_models_of_discrete_data_refuse_real_data(model, heads):
  with pytest.raises(SpecError, match="discrete data"):
    model(DataSpec((3,), None), heads=heads)


@pytest.mark.parametrize(("model", "change", "message"), [
    (FVSBN, {"input_dropout": 1.0}, "input_dropout is 1.0"),
    (UntiedMLP, {"hidden": ()}, r"hidden is \(\)"),
    (UntiedMLP, {"dropout": -0.1}, "dropout is -0.1"),
    (NADE, {"hidden": 0}, "hidden is 0"),
    (NADE, {"block": 0}, "block is 0"),
    (NADE, {"activation": "sigmod"}, "did you mean 'sigmoid'"),
    (MADE, {"num_orderings": 0}, "num_orderings is 0"),
    (MADE, {"num_orderings": 4, "num_masks": 3}, "must divide"),
    (MADE, {"degrees": "evn"}, "did you mean 'even'"),
    (MADE, {"mask_seed": -1}, "mask_seed is -1"),
    (UntiedMLP, {"weight_init": "orthgonal"}, "did you mean 'orthogonal'"),
])
def test_settings_out_of_range_are_named(model, change, message):
  with pytest.raises(ConfigError, match=message):
    model(SPECS["binary"], **change)


@pytest.mark.parametrize(("change", "message"), [
    ({"hidden": (5, 0)}, r"network.hidden is \(5, 0\)"),
    ({"dropout": 1.0}, r"network.dropout is 1.0; it must be at least 0 and below 1"),
    ({"activation": "rleu"}, "did you mean 'relu'"),
    ({"weight_init": "orthgonal"}, "did you mean 'orthogonal'"),
])
def test_settings_of_a_masked_network_out_of_range_are_named(change, message):
  with pytest.raises(ConfigError, match=message):
    MaskedMLP(**change)


def test_completion_says_what_it_cannot_do():
  model, params, carry = build("nade", "blocks")
  x = jnp.zeros((2, 10), jnp.int32)
  known = np.zeros(10, bool)
  known[list(model.spec.blocks[model.layout.order[1]])] = True
  with pytest.raises(SpecError, match="beginning of the ordering"):
    model.complete(params, carry, KEY, x, known)
  with pytest.raises(SpecError, match=r"part of the block of dimensions \[0, 3, 4\]"):
    model.complete(params, carry, KEY, x, np.arange(10) == 3)
  with pytest.raises(SpecError, match=r"known has shape \(9,\)"):
    model.complete(params, carry, KEY, x, np.zeros(9, bool))
  ensemble, params, carry = build("made_orderings", "binary")
  with pytest.raises(SpecError, match="several orderings"):
    ensemble.complete(params, carry, KEY, jnp.zeros((2, 5, 2), jnp.int32), np.zeros((5, 2), bool))


@each_once
def test_sampling_says_what_it_cannot_do(name, spec):
  model, params, carry = build(name, spec)
  with pytest.raises(ConfigError, match="temperature is 0"):
    model.sample(params, carry, KEY, 3, temperature=0.0)
  with pytest.raises(SpecError, match="not conditional"):
    model.sample(params, carry, KEY, 3, condition=jnp.zeros(3, jnp.int32))
