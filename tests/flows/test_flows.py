"""What holds for every flow: densities that integrate to one, there and back, bounds that are bounds."""

import functools
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import states_of

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import Kind
from gdm.model import HasLatent, HasLogLikelihood, HasSample, Model
from gdm.runs.registry import build_model

KEY = jax.random.key(0)
PLANE = DataSpec((2,), None, num_classes=3)
PAIR = DataSpec((2,), 3)  # two numbers of three levels
SMALL = {
    "nice": {"num_layers": 3, "hidden": (8,)},
    "realnvp": {"num_layers": 3, "hidden": (8,)},
    "glow": {"num_steps": 2, "hidden": (8,)},
    "maf": {"num_layers": 2, "hidden": (8,)},
    "iaf": {"num_layers": 2, "hidden": (8,)},
    "spline_coupling": {"num_steps": 2, "num_bins": 4, "hidden": (8,)},
    "spline_autoregressive": {"num_layers": 2, "num_bins": 4, "hidden": (8,)},
    "flow_pp": {"num_steps": (1, 1, 1), "num_components": 3, "hidden": (8,), "dequantization": "uniform"},
    "residual_flow": {"num_blocks": 2, "hidden": (8,)},
    "ffjord": {"hidden": (8,), "tolerance": 1e-6},
}
OF_IMAGES = {
    "realnvp": {"num_scales": 1, "width": 4, "num_blocks": 1},
    "glow": {"num_scales": 2, "num_steps": 1, "width": 4, "dequantization": "variational", "dequantization_width": 4},
    "spline_coupling": {"num_scales": 1, "num_steps": 1, "num_bins": 4, "width": 4},
    "flow_pp": {"num_steps": (1, 1, 1), "num_components": 2, "width": 4, "num_blocks": 1, "num_heads": 2,
                "dequantization_width": 4},
    "ffjord": {"width": 4},
}
each_flow = pytest.mark.parametrize("name", SMALL)
# One with batch statistics and one of each kind of inverse; the others are of the same parts.
some_flows = pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in ("realnvp", "maf") else pytest.mark.slow) for name in SMALL])


def moved(model, batch, scale):
  """Parameters away from their start, where couplings are the identity."""
  params, carry = jax.jit(model.init)(KEY, batch)
  leaves, treedef = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return jax.tree.unflatten(treedef, [leaf + scale * jax.random.normal(key, leaf.shape)
                                      for leaf, key in zip(leaves, keys, strict=True)]), carry


@functools.lru_cache
def build(name, spec, scale=0.2, **fields):
  model = build_model({"name": name, **SMALL.get(name, {}), **fields}, spec)
  return model, *moved(model, some(spec, 50), scale)


def some(spec, num, seed=0):
  rng = np.random.default_rng(seed)
  shape = (num, *spec.event)
  x = rng.integers(0, spec.levels, shape).astype(np.uint8) if spec.is_discrete else rng.normal(size=shape)
  batch = {"x": x if spec.is_discrete else x.astype(np.float32)}
  return {**batch, "y": rng.integers(0, spec.num_classes, num)} if spec.num_classes else batch


@pytest.mark.fast_cases("glow")
@each_flow
def test_is_a_model_of_known_capabilities(name):
  for protocol in (Model, HasLogLikelihood, HasSample, HasLatent):
    assert isinstance(build(name, PLANE)[0], protocol)


@pytest.mark.fast_cases("nice-normal")
@pytest.mark.parametrize(("name", "base"), [*((name, "normal") for name in SMALL), ("maf", "mixture")])
def test_densities_of_the_plane_integrate_to_one(name, base):
  model, params, carry = build(name, PLANE, base=base)
  edge, num = 12.0, 480
  centres = (np.arange(num, dtype=np.float32) + 0.5) / num * 2 * edge - edge
  grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
  score = jax.jit(lambda x: model.log_likelihood(params, carry, {"x": x}, KEY).nats)
  nats = np.concatenate([np.asarray(score(part), np.float64) for part in np.split(grid, 9)])
  np.testing.assert_allclose(np.exp(nats).sum() * (2 * edge / num)**2, 1.0, atol=5e-3)


@pytest.mark.fast_cases("realnvp")
@some_flows
def test_samples_are_of_the_density(name):
  """The mean of exp(log q - log p) over samples of p is q's mass, for q a normal that p covers."""
  model, params, carry = build(name, PLANE)

  @jax.jit
  def weights(key):
    x = model.sample(params, carry, key, 40_000).x
    log_p = model.log_likelihood(params, carry, {"x": x}, key).nats
    centre = jnp.median(x, axis=0)
    log_q = jax.scipy.stats.norm.logpdf(x, centre, 0.5).sum(-1)
    return jnp.exp(log_q - log_p)

  found = np.asarray(weights(jax.random.key(3)), np.float64)
  error = found.std() / math.sqrt(len(found))
  assert abs(found.mean() - 1.0) < 4.5 * error and error < 0.1


@pytest.mark.fast_cases("True-realnvp", "True-nice", "True-glow", "True-iaf")
@each_flow
@pytest.mark.parametrize("conditional", [pytest.param(False, marks=pytest.mark.slow), True])
def test_encoding_and_decoding_undo_each_other(name, conditional):
  model, params, carry = build(name, PLANE, class_conditional=conditional)
  batch = some(PLANE, 20, seed=1)
  y = {"condition": jnp.asarray(batch["y"])} if conditional else {}
  encode = jax.jit(lambda batch: model.encode(params, carry, batch, KEY))
  z = encode(batch)
  back = jax.jit(lambda z: model.decode(params, carry, z, KEY, **y))(z)
  np.testing.assert_allclose(back, batch["x"], rtol=1e-4, atol=1e-4)
  other = encode({**batch, "y": (batch["y"] + 1) % 3})
  assert (np.abs(np.asarray(z) - np.asarray(other)).max() > 1e-3) == conditional


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "glow" else pytest.mark.slow)
                                  for name in OF_IMAGES])
def test_images_come_back_as_they_went(name):
  spec = DataSpec((4, 4, 1), 5)
  model, params, carry = build(name, spec, scale=0.05, **OF_IMAGES[name])  # couplings multiply what they scale
  batch = some(spec, 10, seed=2)

  @jax.jit
  def all_of(params):
    back = model.decode(params, carry, model.encode(params, carry, batch, KEY), KEY)
    return (back, model.log_likelihood(params, carry, batch, KEY, 2),
            model.sample(params, carry, KEY, 6, temperature=0.7).x)

  back, out, drawn = all_of(params)
  np.testing.assert_array_equal(back, batch["x"])
  assert out.kind is (Kind.ESTIMATE if name == "ffjord" else Kind.LOWER_BOUND) and np.isfinite(out.nats).all()
  assert drawn.shape == (6, *spec.event) and drawn.min() >= 0 and drawn.max() < spec.levels


@pytest.mark.slow
@pytest.mark.parametrize("dequantization", ["uniform", "variational"])
def test_bounds_are_below_what_they_bound(dequantization):
  """Against the integral of the density over each cell; more importance samples come nearer to it."""
  model, params, carry = build("maf", PAIR, dequantization=dequantization, dequantization_width=4)
  states, num = states_of(PAIR), 200
  inside = (np.arange(num) + 0.5) / num
  noise = np.stack(np.meshgrid(inside, inside), axis=-1).reshape(-1, 2).astype(np.float32)
  density = jax.jit(lambda x: model.log_prob(params, carry, x))
  exact = np.array([np.log(np.mean(np.exp(np.asarray(density(state + noise), np.float64)))) for state in states])
  bound = jax.jit(lambda key, num: model.log_likelihood(params, carry, {"x": states}, key, num).nats, static_argnums=1)

  def mean_bound(num):
    draws = np.array([bound(jax.random.key(i), num) for i in range(60)], np.float64)
    return draws.mean(axis=0), draws.std(axis=0, ddof=1) / math.sqrt(len(draws))

  (one, one_error), (many, many_error) = mean_bound(1), mean_bound(100)
  assert (one < exact + 4 * one_error).all() and (many < exact + 4 * many_error + 1e-4).all()
  assert (many > one - 4 * (one_error + many_error)).all()
  np.testing.assert_allclose(many, exact, atol=0.05)
  assert np.exp(exact).sum() <= 1.0 + 1e-3


def test_a_temperature_of_zero_gives_the_centre():
  model, params, carry = build("maf", PLANE)
  drawn = np.asarray(model.sample(params, carry, KEY, 5, temperature=0.0).x)
  np.testing.assert_allclose(drawn, drawn[:1].repeat(5, axis=0), rtol=1e-5)


def test_batch_statistics_move_in_training_alone():
  model, params, carry = build("realnvp", PLANE)
  batch = some(PLANE, 30, seed=4)
  out = jax.jit(lambda: model.loss(params, carry, batch, KEY, jnp.int32(0)))()
  before, after = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (carry, out.carry))
  assert before.shape == after.shape and (before != after).all()
  assert jax.tree.structure(carry) == jax.tree.structure(out.carry)


@each_flow
@pytest.mark.parametrize(("variant", "spec"), [("two_moons", DataSpec((2,), None)), ("red_wine", DataSpec((11,), None)),
                                               ("digits", DataSpec((8, 8, 1), 17)), ("npz", DataSpec((5,), None)),
                                               ("cifar10", DataSpec((32, 32, 3), 256))])
def test_config_names_all_fields(name, variant, spec):
  config = importlib.import_module(f"configs.flows.{name}")
  settings = config.get_config(variant).model.to_dict()
  assert settings["name"] == name
  assert {*settings} == {"name", *vars(build_model(settings, spec))} - {"spec"}
  with pytest.raises(ConfigError, match="did you mean 'digits'"):
    config.get_config("digit")


@pytest.mark.parametrize(("name", "spec", "fields", "error", "message"), [
    ("maf", PLANE, {"base": "norml"}, ConfigError, "base is 'norml'; did you mean 'normal'"),
    ("maf", PAIR, {"dequantization": "unifrom"}, ConfigError, "dequantization is 'unifrom'; did you mean 'uniform'"),
    ("maf", PLANE, {"normalization": "batches"}, ConfigError, "normalization is 'batches'; did you mean 'batch'"),
    ("maf", PLANE, {"num_layers": 0}, ConfigError, "num_layers is 0; it must be at least 1"),
    ("nice", PLANE, {"num_layers": 2}, ConfigError, "num_layers is 2; .* at least 3"),
    ("maf", DataSpec((2,), None), {"class_conditional": True}, SpecError, "class_conditional is True, but"),
    ("realnvp", DataSpec((5, 4, 1), 3), {}, SpecError, "height of the event .* is 5"),
    ("glow", DataSpec((4, 4, 1), 3), {"num_scales": 3}, SpecError, "height of the event .* is 1"),
    ("realnvp", DataSpec((1,), None), {}, SpecError, "a coupling needs at least 2 entries"),
    ("maf", PLANE, {"noise": -1.0}, ConfigError, "noise is -1.0; it must be at least 0"),
    ("maf", PAIR, {"noise": 1.0}, SpecError, "noise is 1.0, but the data is discrete"),
    ("maf", PAIR, {"alpha": 0.5}, ConfigError, "alpha of Logit is 0.5"),
])
def test_what_cannot_be(name, spec, fields, error, message):
  with pytest.raises(error, match=message):
    build_model({"name": name, **SMALL[name], **fields}, spec)


def test_labels_are_asked_for():
  model, params, carry = build("maf", PLANE, class_conditional=True)
  with pytest.raises(SpecError, match="must have labels y"):
    model.log_likelihood(params, carry, {"x": np.zeros((2, 2), np.float32)}, KEY)
  with pytest.raises(SpecError, match="condition must be labels"):
    model.sample(params, carry, KEY, 3)
  with pytest.raises(SpecError, match="condition must be None"):
    build("maf", PLANE)[0].sample(params, carry, KEY, 3, condition=jnp.zeros(3, int))
  with pytest.raises(ConfigError, match="temperature is -1"):
    build("maf", PLANE)[0].sample(params, carry, KEY, 3, temperature=-1.0)


def test_levels_that_cannot_be_are_no_number():
  model, params, carry = build("maf", PAIR)
  nats = model.log_likelihood(params, carry, {"x": np.array([[0, 1], [3, 0], [-1, 2]])}, KEY).nats
  np.testing.assert_array_equal(np.isfinite(nats), [True, False, False])


@pytest.mark.slow
def test_noise_of_recording_steps_is_of_training_alone():
  """Data recorded in steps of 0.5: at its values training sees a normal of that width, likelihoods the data itself."""
  batch = {"x": np.float32(0.5 * np.random.default_rng(0).integers(0, 6, (200, 2)))}
  plain, noisy = (build_model({"name": "maf", **SMALL["maf"], "noise": noise}, PLANE) for noise in (0.0, 1.0))
  params, carry = jax.jit(noisy.init)(KEY, batch)
  np.testing.assert_allclose(carry["statistics"]["recording_steps"], 0.5, rtol=1e-5)
  np.testing.assert_array_equal(noisy.log_likelihood(params, carry, batch, KEY).nats,
                                plain.log_likelihood(params, {}, batch, KEY).nats)
  losses = [float(noisy.loss(params, carry, batch, jax.random.key(i), jnp.int32(0)).loss) for i in range(2)]
  assert losses[0] != losses[1] and min(losses) > float(plain.loss(params, {}, batch, KEY, jnp.int32(0)).loss)
