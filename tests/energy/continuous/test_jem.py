"""The joint energy model: energies of examples and labels that agree, their moments given labels, both its losses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.special import logsumexp

from configs.energy.jem import VARIANTS, get_config
from gdm.dataspec import DataSpec
from gdm.energy.continuous.jem import JEM
from gdm.energy.continuous.network_energy import LOSSES
from gdm.energy.continuous.networks import ConvolutionalEnergy, MLPEnergy, QuadraticEnergy
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.classification import evaluate_labels
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.inference.quadrature import log_integral
from gdm.likelihood import Kind
from gdm.runs.registry import build_model
from gdm.runs.settings import check_settings
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

KEY = jax.random.key(0)
ZERO = jnp.zeros((), jnp.int32)
PLANE = DataSpec((2,), None, num_classes=3)
MODEL = JEM(PLANE, network=MLPEnergy((4,)), reference=1.5, chains_per_shard=8, num_temperatures=40, hmc_step_size=0.5)
SLOPES = np.array([[1.0, 0.0], [-0.5, 0.8], [0.0, -1.0]])  # of each class
CONSTANTS = np.array([0.3, 0.0, -0.7])
BATCH = {"x": (np.random.default_rng(0).normal(size=(60, 2)) * [1.0, 3.0] + [5.0, 0.0]).astype(np.float32),
         "y": np.random.default_rng(1).integers(0, 3, 60)}
MEANS = 1.5**2 * SLOPES
MASSES = np.log(2 * np.pi * 1.5**2) + CONSTANTS + 0.5 * 1.5**2 * np.sum(SLOPES**2, axis=1)  # log, of each class


CENTRE, SCALE = BATCH["x"].mean(0), BATCH["x"].std(0)
U = (BATCH["x"] - CENTRE) / SCALE
# Logits that are linear, so that every class is a Gaussian: silu(a) - silu(-a) = a.
PARAMS = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), {
    "model": {"network": {"hidden_0_kernel": np.concatenate([np.eye(2), -np.eye(2)], axis=1),
                          "hidden_0_bias": np.zeros(4),
                          "last": {"kernel": np.concatenate([SLOPES.T, -SLOPES.T]), "bias": CONSTANTS}}},
    "base": {"centre": CENTRE, "scale": SCALE, "mean": np.zeros(2), "deviation": np.ones(2), "low": U.min(),
             "high": U.max()}})


def test_fresh_parameters_are_of_these_shapes_and_know_no_label():
  params, carry = jax.jit(MODEL.init)(KEY, BATCH)
  shapes = [jax.tree.map(jnp.shape, jax.tree.map(jnp.asarray, dict(of))) for of in (params, PARAMS)]
  assert shapes[0] == shapes[1] and carry["chains"].shape == (8, 8, 2)
  assert not np.any(params["model"]["network"]["last"]["kernel"])
  log_probs = jax.jit(MODEL.log_label_probs)(params, carry, BATCH)
  np.testing.assert_allclose(log_probs, -np.log(3.0), rtol=1e-5)


def test_energies_of_examples_and_of_labels_agree():
  @jax.jit
  def energies(u):
    """-log f(u, y) [batch, classes] by the condition, no labels among them; and -log f(u)."""
    each = [MODEL.energy(PARAMS, {}, jnp.full(len(u), y))(u) for y in range(-1, 4)]
    return jnp.stack(each, axis=1), MODEL.energy(PARAMS, {})(u), MODEL.log_label_probs(PARAMS, {}, BATCH)

  found, marginal, log_probs = map(np.asarray, energies(U))
  both = found[:, 1:4]
  assert np.isnan(found[:, [0, 4]]).all()  # what is no label makes the loss no number, which ends a run
  np.testing.assert_allclose(both, -(U @ SLOPES.T + CONSTANTS) + 0.5 * np.sum(U**2, 1, keepdims=True) / 1.5**2,
                             rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(marginal, -logsumexp(-both, axis=1), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(np.exp(log_probs), np.exp(marginal[:, None] - both), atol=1e-5)


@pytest.mark.slow
def test_the_classes_integrals_sum_to_that_of_all():
  @jax.jit
  def integrals(params):
    half_width = 16.0 * MODEL.reference
    each = [log_integral(lambda u, y=y: -MODEL.energy(params, {}, jnp.full(len(u), y))(u), 2, half_width).nats
            for y in range(3)]
    return jnp.stack(each), MODEL.log_normalizer(params, {}, KEY)[0].nats

  each, whole = integrals(PARAMS)
  np.testing.assert_allclose(each, MASSES, atol=1e-3)
  np.testing.assert_allclose(whole, logsumexp(MASSES), atol=1e-3)
  np.testing.assert_allclose(integrals({**PARAMS, "model": jax.tree.map(jnp.zeros_like, PARAMS["model"])})[1],
                             MODEL.first_log_normalizer, atol=1e-3)


def standardized(x):
  return (np.asarray(x) - CENTRE) / SCALE


@pytest.mark.slow
def test_draws_given_labels_have_their_moments():
  y = jnp.arange(3000) % 3
  for temperature in (1.0, 0.25):
    found = MODEL.sample(PARAMS, {}, KEY, 3000, condition=y, temperature=temperature)
    assert found.info["divergent"] == 0
    for label in range(3):
      u = standardized(found.x)[y == label]
      np.testing.assert_allclose(u.mean(0), MEANS[label], atol=0.2)
      np.testing.assert_allclose(u.var(0), temperature * 1.5**2, rtol=0.2)


@pytest.mark.slow
def test_draws_of_no_label_are_of_all():
  u = standardized(MODEL.sample(PARAMS, {}, KEY, 4000, num_steps=20).x)
  np.testing.assert_allclose(u.mean(0), np.exp(MASSES - logsumexp(MASSES)) @ MEANS, atol=0.2)


@pytest.mark.parametrize("objective", ["nce", pytest.param("pcd", marks=pytest.mark.slow)])
def test_the_loss_is_that_of_examples_and_that_of_labels(objective):
  model = dataclasses.replace(MODEL, objective=objective, classifier_weight=0.3, num_steps=2)
  carry = MODEL.init(KEY, BATCH)[1] if objective == "pcd" else {}
  first = {**PARAMS["model"], **({"log_z": jnp.zeros(())} if objective == "nce" else {})}

  def of_labels(params):
    return -jnp.mean(model.log_label_probs(params, carry, BATCH)[jnp.arange(60), BATCH["y"]])

  @jax.jit
  def found(first):
    def gradient(loss):
      return jax.grad(lambda moved: loss({**PARAMS, "model": moved}))(first)

    both = gradient(lambda params: model.loss(params, carry, BATCH, KEY, ZERO).loss)
    of_examples = gradient(lambda params: model.energy_loss(params, carry, BATCH, KEY, ZERO).loss)
    params = {**PARAMS, "model": first}
    return (both, jax.tree.map(lambda a, b: a + 0.3 * b, of_examples, gradient(of_labels)),
            model.loss(params, carry, BATCH, KEY, ZERO).metrics, of_labels(params),
            jnp.mean(jnp.argmax(model.log_label_probs(params, carry, BATCH), axis=1) == BATCH["y"]))

  both, sum_of_parts, metrics, cross_entropy, right = found(first)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), both, sum_of_parts)
  np.testing.assert_allclose(metrics["cross_entropy"].value, cross_entropy, rtol=1e-5)
  np.testing.assert_allclose(metrics["class_accuracy"].value, right, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("objective", LOSSES)
@pytest.mark.parametrize("network", [MLPEnergy((8,)), ConvolutionalEnergy((8,))], ids=["mlp", "convolutional"])
def test_images_of_integers_are_learned_with_their_labels(objective, network):
  """Two classes, bright above and bright below: told apart after a few steps, scored and drawn."""
  spec, rng = DataSpec((4, 3, 1), 5, num_classes=2), np.random.default_rng(0)
  model = JEM(spec, network=network, objective=objective, spectral=True, num_steps=2, num_temperatures=20, num_chains=8)
  y = np.arange(64) % 2
  x = rng.integers(0, 3, (64, 4, 3, 1)).astype(np.uint8)
  x[y == 0, :2] += 2
  x[y == 1, 2:] += 2
  optimizers = optimizers_for(model, optax.adam(2e-2))
  start = state = init_state(model, optimizers, KEY, {"x": x, "y": y})
  step = jax.jit(make_train_step(model, optimizers))
  for _ in range(30):
    state, metrics = step(state, {"x": x[None], "y": y[None]}, KEY)
  assert all(np.isfinite(mean.value) for mean in metrics.values())
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), start.params["model"], state.params["model"])
  assert all(jax.tree.leaves(moved))  # the constants of the logits too: they are of the classes
  params, carry = jax.device_get((state.params, state.carry))
  told = evaluate_labels(model, params, carry, [{"x": x, "y": y}])
  assert told.accuracy.value > 0.9 and told.label_nats.value > -0.5
  report = evaluate_likelihood(model, params, carry, [{"x": x, "y": y}], key=KEY)
  assert report.given == () and report.kind is Kind.SAMPLER_BOUND
  drawn = model.sample(params, carry, KEY, 4, condition=jnp.asarray(1))
  assert drawn.x.shape == (4, 4, 3, 1) and drawn.x.dtype == jnp.int32
  assert model.complete(params, carry, KEY, jnp.asarray(x[:2]), jnp.arange(12).reshape(4, 3, 1) < 6).x.shape[0] == 2


@pytest.mark.parametrize("fields, message", [
    ({"network": QuadraticEnergy()}, "model.network is 'quadratic', which has no logits"),
    ({"classifier_weight": -1.0}, "model.classifier_weight is -1.0; it must be at least 0"),
])
def test_fields_that_cannot_be_used_are_named(fields, message):
  with pytest.raises(ConfigError, match=message):
    JEM(PLANE, **fields)


def test_what_is_no_label_is_said():
  with pytest.raises(SpecError, match=r"the data has none \(spec.num_classes is None\); choose ebm"):
    JEM(DataSpec((2,), None))
  with pytest.raises(SpecError, match="JEM is trained on labels; the batch must have labels y"):
    MODEL.loss(PARAMS, {}, {"x": BATCH["x"]}, KEY, ZERO)
  for condition, message in (([0, 3], r"label 3; labels must be in \[0, 3\)"), (-1, "label -1"),
                             ([0.0, 1.0], "dtype float32; it must be integer labels"),
                             ([0, 1, 2], r"shape \(3,\).* labels \[2\], or one for all")):
    with pytest.raises(SpecError, match=message):
      MODEL.sample(PARAMS, {}, KEY, 2, condition=jnp.asarray(condition))
  with pytest.raises(ConfigError, match="start is 'chains', but those of the buffer are of no class"):
    MODEL.sample(PARAMS, {}, KEY, 2, condition=jnp.asarray(1), start="chains")
  with pytest.raises(ConfigError, match=r"temperature is 0\.0; it must be finite"):
    MODEL.sample(PARAMS, {}, KEY, 2, temperature=0.0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_builds_its_model(variant):
  config = get_config(variant)
  check_settings(config)
  spec = {"digits": DataSpec((8, 8, 1), 17, num_classes=10)}.get(variant, PLANE)
  model = build_model(config.model.to_dict(), spec)
  params, carry = jax.eval_shape(model.init, KEY, {"x": jax.ShapeDtypeStruct((2, *spec.event), jnp.float32)})
  assert set(params) == {"model", "base"} and set(carry) == {"chains"}


def test_unknown_variants_are_named():
  with pytest.raises(ConfigError, match="has no variant 'npx'; did you mean 'npz'"):
    get_config("npx")
