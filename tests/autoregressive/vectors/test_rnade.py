"""Densities of real data, by RNADE and by MADE: they integrate to one, are causal, and recover what they should."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from gdm.autoregressive.vectors.heads import MixtureSettings, make_head
from gdm.autoregressive.vectors.made import MADE, MaskedMLP
from gdm.autoregressive.vectors.rnade import RNADE
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import Kind
from gdm.model import HasComplete, HasLogLikelihood, HasSample, Model

SPEC = DataSpec((2, 2), None)
SHARED = {"ordering": "random", "ordering_seed": 1}
FREE, UNIFORM = ({**SHARED, "mixture": MixtureSettings(3, weights)} for weights in ("free", "uniform"))
SINGLE = {
    "rnade": functools.partial(RNADE, hidden=7, activation="tanh", **FREE),
    "rnade_logistic": functools.partial(RNADE, hidden=7, activation="sigmoid", heads="logistic", center=True,
                                        **UNIFORM),
    "rnade_blocked": functools.partial(RNADE, hidden=7, activation="tanh", rescale=False, block=3, **FREE),
    "made": functools.partial(MADE, network=MaskedMLP(hidden=(9, 7), activation="tanh", direct=True), **FREE),
    "made_uniform": functools.partial(MADE, network=MaskedMLP(hidden=(9,), activation="tanh"), heads="logistic",
                                      center=True, **UNIFORM),
}
BUILDERS = SINGLE | {"made_orderings": functools.partial(MADE, network=MaskedMLP(hidden=(11, 8), activation="tanh"),
                                                         num_orderings=3, **FREE)}
KEY = jax.random.key(0)


def data(num, dims, key=KEY):
  """Correlated, with a scale and a centre of its own in each dimension."""
  mix = jnp.eye(dims) + 0.5 * jnp.tri(dims, k=-1)
  return (jax.random.normal(key, (num, dims)) @ mix.T) * 10.0 ** jnp.arange(-1, dims - 1) + 5.0


@functools.lru_cache
def build(name, spec=SPEC):
  """A model and parameters away from their start, so that no property holds by a zero."""
  model = BUILDERS[name](spec)
  params, carry = jax.jit(model.init)(KEY, {"x": data(200, spec.num_dims).reshape(-1, *spec.event)})
  leaves, treedef = jax.tree.flatten(params["model"])
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
  return model, {**params, "model": jax.tree.unflatten(treedef, moved)}, carry


def quadrature(name, function):
  """The integral over the plane of function(log p), the values far out in every direction included."""
  model, params, carry = build(name, DataSpec((2,), None))
  # Even in the logistic's quantiles: fine in the middle, wide in all.
  u = 2.0 * scipy.stats.logistic.ppf(scipy.special.expit(np.linspace(-20, 20, 601)))
  u = np.sign(u) * np.abs(u) ** 1.5 / 4
  axes = [m + s * u for m, s in zip(params["units"]["mean"], params["units"]["std"], strict=True)]
  grid = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2), jnp.float32)
  nats = jax.jit(lambda x: model.log_likelihood(params, carry, {"x": x}, KEY).nats)(grid)
  values = function(np.asarray(nats, np.float64)).reshape(601, 601)
  return np.trapezoid(np.trapezoid(values, axes[1]), axes[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_densities_of_the_plane_integrate_to_one(name):
  np.testing.assert_allclose(quadrature(name, np.exp), 1.0, atol=5e-3)


@pytest.mark.fast_cases("rnade_blocked")
@pytest.mark.parametrize("name", SINGLE)
def test_outputs_depend_on_what_comes_before_and_on_nothing_else(name):
  model, params, _ = build(name)
  x = data(1, 4, jax.random.key(3))[0]

  def logits(x):
    return model.logits(params, model.encode(params, x[None]))[0].reshape(4, -1)

  jacobian = np.asarray(jax.jit(jax.jacrev(logits))(x))  # [output variable, logit, input]
  position = np.argsort(model.layout.order)
  before = position[None, :] < position[:, None]
  reads = np.any(jacobian != 0.0, axis=1)
  np.testing.assert_array_equal(reads, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_every_unmasked_parameter_moves_and_no_other(name):
  model, _, _ = build(name)
  x = data(60, 4).reshape(-1, 2, 2)
  params, carry = jax.jit(model.init)(KEY, {"x": x})
  optimizer = optax.adam(1e-2)

  def step(state, key):
    model_params, moments = state
    grads = jax.grad(lambda own: model.loss({**params, "model": own}, carry, {"x": x}, key, jnp.asarray(0)).loss)(
        model_params)
    updates, moments = optimizer.update(grads, moments)
    return (optax.apply_updates(model_params, updates), moments), None

  start = params["model"]
  (after, _), _ = jax.jit(lambda own: jax.lax.scan(step, (own, optimizer.init(own)), jax.random.split(KEY, 30)))(start)
  masks = model.parameter_masks()
  assert jax.tree.structure(masks) == jax.tree.structure(after)
  for (path, mask), before, now in zip(jax.tree.leaves_with_path(masks), jax.tree.leaves(start), jax.tree.leaves(after),
                                       strict=True):
    where = jax.tree_util.keystr(path)
    if where == "['W']":  # the last variable's weights feed nothing; NADE counts them all the same
      mask[-1] = False
    np.testing.assert_array_equal(np.asarray(before != now), mask, err_msg=where)


@pytest.mark.fast_cases("made")
@pytest.mark.parametrize("name", BUILDERS)
def test_steps_give_the_log_density_of_one_pass(name):
  model, params, carry = build(name)
  x = data(50, 4, jax.random.key(5)).reshape(-1, 2, 2)
  components = getattr(model, "num_components", 1)

  @jax.jit
  def by_steps(component):
    options = {"component": component} if components > 1 else {}
    order = jnp.asarray(model.components.orders)[component] if components > 1 else jnp.asarray(model.layout.order)
    values = model.head.split(x.reshape(50, 4))[order]
    cache, previous, total = model.init_cache(params, 50, **options), jnp.full((50, 1), 99.0), 0.0
    for index in range(4):
      cache, logits = model.conditional_step(params, cache, previous, jnp.asarray(index))
      total, previous = total + model.head.score(logits, values[index], order[index]), values[index]
    return total

  joint = jnp.stack([by_steps(jnp.asarray(component)) for component in range(components)])
  expected = jax.nn.logsumexp(joint, axis=0) - np.log(components)
  got = jax.jit(model.log_likelihood)(params, carry, {"x": x}, KEY).nats
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.fast_cases("made_uniform")
@pytest.mark.parametrize("name", BUILDERS)
def test_contract(name):
  model, params, carry = build(name)
  for protocol in (Model, HasLogLikelihood, HasSample, HasComplete):
    assert isinstance(model, protocol)
  assert hash(model) == hash(dataclasses.replace(model))
  batch = {"x": data(20, 4).reshape(-1, 2, 2)}
  scored = jax.jit(model.log_likelihood)(params, carry, batch, KEY)
  assert scored.kind is Kind.EXACT and scored.nats.shape == (20,)
  (objective,) = model.objectives
  output = jax.jit(objective.loss)(params, carry, batch, KEY, jnp.asarray(0))
  assert objective.groups == ("model",) and output.carry == {}  # "units" stay as they are
  if name in SINGLE:
    np.testing.assert_allclose(output.loss, -jnp.mean(scored.nats), rtol=1e-5)


@pytest.mark.fast_cases("made_orderings")
@pytest.mark.parametrize("name", BUILDERS)
def test_a_change_of_units_changes_the_density_by_its_jacobian(name):
  # Initialization looks at the data, so kilograms and grams give one model.
  model = BUILDERS[name](SPEC)
  x, factor = data(100, 4), jnp.asarray([3.0, 0.01, 200.0, 1.0])

  @jax.jit
  def score(x):
    params, carry = model.init(KEY, {"x": x.reshape(-1, 2, 2)})
    return model.log_likelihood(params, carry, {"x": x.reshape(-1, 2, 2)}, KEY).nats

  np.testing.assert_allclose(score(x * factor), score(x) - jnp.sum(jnp.log(factor)), atol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnade", "made"])
def test_a_correlated_gaussian_is_recovered(name):
  spec = DataSpec((3,), None)
  covariance = np.array([[1.0, 0.8, -0.3], [0.8, 2.0, 0.4], [-0.3, 0.4, 0.5]])
  truth = scipy.stats.multivariate_normal([1.0, -2.0, 0.5], covariance)
  x, test = (jnp.asarray(truth.rvs(num, random_state=seed), jnp.float32) for num, seed in ((8000, 0), (4000, 1)))
  one = MixtureSettings(size=1)
  model = {"rnade": RNADE(spec, hidden=12, mixture=one),
           "made": MADE(spec, network=MaskedMLP(hidden=(24,)), mixture=one)}[name]
  params, carry = jax.jit(model.init)(KEY, {"x": x[:2000]})
  optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 1000))

  def step(state, key):
    own, moments = state
    batch = {"x": x[jax.random.randint(key, (200,), 0, len(x))]}
    grads = jax.grad(lambda own: model.loss({**params, "model": own}, carry, batch, key, jnp.asarray(0)).loss)(own)
    updates, moments = optimizer.update(grads, moments)
    return (optax.apply_updates(own, updates), moments), None

  own = params["model"]
  (own, _), _ = jax.jit(lambda own: jax.lax.scan(step, (own, optimizer.init(own)), jax.random.split(KEY, 1000)))(own)
  params = {**params, "model": own}
  nats = jax.jit(model.log_likelihood)(params, carry, {"x": test}, KEY).nats
  assert abs(float(jnp.mean(nats)) - truth.logpdf(np.asarray(test)).mean()) < 0.02
  draws = np.asarray(model.sample(params, carry, KEY, 20_000).x)
  np.testing.assert_allclose(draws.mean(axis=0), truth.mean, atol=0.1)
  np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnade_logistic", "made_orderings"])
def test_samples_follow_the_density(name):
  # The mean log p of a model's own samples is minus its entropy.
  model, params, carry = build(name, DataSpec((2,), None))
  draws = model.sample(params, carry, KEY, 20_000).x
  own = np.asarray(jax.jit(model.log_likelihood)(params, carry, {"x": draws}, KEY).nats, np.float64)
  negative_entropy = quadrature(name, lambda nats: np.exp(nats) * nats)
  assert abs(own.mean() - negative_entropy) < 5 * own.std() / np.sqrt(len(own)) + 5e-3


@pytest.mark.fast_cases("rnade_blocked")
@pytest.mark.parametrize("name", SINGLE)
def test_completions_keep_what_is_known_and_draw_the_rest_in_the_datas_units(name):
  model, params, carry = build(name)
  x = data(300, 4, jax.random.key(8)).reshape(-1, 2, 2)
  known = np.zeros(4, bool)
  known[model.layout.order[:2]] = True
  known = known.reshape(2, 2)
  drawn = np.asarray(model.complete(params, carry, KEY, x, known).x)
  np.testing.assert_array_equal(drawn[:, known], np.asarray(x)[:, known])
  assert np.all(drawn[:, ~known] != np.asarray(x)[:, ~known]) and drawn.dtype == np.float32
  with pytest.raises(SpecError, match="beginning of the ordering"):
    model.complete(params, carry, KEY, x, ~known)


@pytest.mark.fast_cases("rnade_blocked")
@pytest.mark.parametrize("name", SINGLE)
def test_towards_zero_temperature_samples_are_means(name):
  model, params, carry = build(name, DataSpec((2,), None))
  draws = np.asarray(model.sample(params, carry, KEY, 200, temperature=1e-7).x)
  # One path through the heaviest components; through all of them where their weights are equal.
  most = 9 if model.mixture.weights == "uniform" else 1
  assert len(np.unique(np.round(draws, 3), axis=0)) == most
  with pytest.raises(ConfigError, match="temperature is 0"):
    model.sample(params, carry, KEY, 2, temperature=0.0)


@pytest.mark.fast_cases("made_uniform")
@pytest.mark.parametrize("name", BUILDERS)
def test_no_scale_falls_below_the_floor(name):
  spec = DataSpec((2,), None)
  model = BUILDERS[name](spec)
  model = dataclasses.replace(model, mixture=dataclasses.replace(model.mixture, floor=2.0))
  x = jnp.round(data(500, 2), 1)
  params, _ = jax.jit(model.init)(KEY, {"x": x})
  outputs = jnp.full((1, 2, model.head.width), -100.0)  # asks for no scale at all
  logits = model.head.in_units(params["units"], outputs, jnp.arange(2))
  *_, log_scales = jnp.split(logits, model.head.width // 3, axis=-1)
  np.testing.assert_allclose(np.exp(log_scales[0, 0]), 0.2, rtol=1e-3)
  # So a value that fills all of the data is worth no more than the peak of that scale.
  peak = {"gaussian": scipy.stats.norm.pdf(0), "logistic": 0.25}[model.head.family] / 0.2
  assert np.exp(model.head.score(logits, jnp.full((1, 2, 1), -1e3), jnp.arange(2))).max() <= peak * 1.001


@pytest.mark.slow
def test_output_biases_start_at_the_datas_marginals():
  x = data(2000, 4)
  model = RNADE(DataSpec((4,), None), mixture=MixtureSettings(20), weight_init="glorot_uniform")
  params, carry = jax.jit(model.init)(KEY, {"x": x})
  params["model"]["V"] = jnp.zeros_like(params["model"]["V"])
  draws = np.asarray(model.sample(params, carry, KEY, 4000).x)
  np.testing.assert_allclose((draws.mean(axis=0) - np.mean(x, axis=0)) / np.std(x, axis=0), 0.0, atol=0.1)
  ratio = draws.std(axis=0) / np.std(x, axis=0)
  assert np.all((ratio > 0.95) & (ratio < 1.3))  # the kernels widen it a little


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"spec": DataSpec((3,), 2)}, SpecError, "needs continuous data"),
    ({"spec": DataSpec((3,), 256)}, SpecError, "has 256 levels"),
    ({"heads": "logstic"}, ConfigError, "did you mean 'logistic'"),
    ({"heads": "binary"}, SpecError, "needs discrete data"),
    ({"hidden": 0}, ConfigError, "hidden is 0"),
    ({"block": 0}, ConfigError, "block is 0"),
    ({"dropout": 1.0}, ConfigError, "dropout is 1.0"),
    ({"activation": "rleu"}, ConfigError, "did you mean 'relu'"),
    ({"ordering_seed": -1}, ConfigError, "ordering_seed is -1"),
])
def test_choices_that_cannot_be_used_are_named(change, error, message):
  with pytest.raises(error, match=message):
    RNADE(**{"spec": SPEC, **change})


def test_mixtures_are_of_real_data():
  with pytest.raises(SpecError, match="needs continuous data"):
    MADE(DataSpec((3,), 2), heads="gaussian")
  with pytest.raises(SpecError, match="discrete data"):
    make_head(SPEC, "auto", 1e-5, True)


@pytest.mark.parametrize(("change", "message"), [
    ({"size": 0}, "mixture.size is 0"),
    ({"weights": "unifrm"}, "mixture.weights is 'unifrm'; did you mean 'uniform'"),
    ({"floor": 0.0}, "mixture.floor is 0.0; .* or densities are unbounded"),
])
def test_mixtures_that_cannot_be_used_are_named(change, message):
  with pytest.raises(ConfigError, match=message):
    MixtureSettings(**change)
