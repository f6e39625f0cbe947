"""Classifiers: batch statistics in training, running ones in evaluation; cross-entropy; what they are not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdm.dataspec import DataSpec
from gdm.discriminative.classifier import Classifier
from gdm.discriminative.cnn_classifier import cnn_classifier
from gdm.discriminative.mlp_classifier import mlp_classifier
from gdm.discriminative.networks.convolutional import Convolutional
from gdm.discriminative.networks.mlp import ClassifierPerceptron
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.criteria import evaluate_criteria
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.model import HasFeatures, HasLabelProbs, HasLogLikelihood, HasSample, HasValidation, Model
from gdm.networks import normalization
from gdm.training.state import count_parameters, init_state, optimizers_for
from gdm.training.step import make_train_step
from gdm.training.summary import parameter_table

KEY, STEP = jax.random.key(0), jnp.zeros((), jnp.int32)
SPEC, IMAGES = DataSpec((3,), None, num_classes=3), DataSpec((5, 5, 1), 4, num_classes=3)
NORMALIZED = ClassifierPerceptron((6,), batch_norm=True, momentum=0.9, dropout=0.0)
SMALL = Convolutional((3, 4), hidden=6, momentum=0.9)


def data(spec, num=12, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(num, *spec.event)).astype(np.float32) if spec.levels is None else (
      rng.integers(0, spec.levels, (num, *spec.event)).astype(np.uint8))
  return {"x": x, "y": rng.integers(0, spec.num_classes, num)}


def built(spec=SPEC, network=NORMALIZED, **fields):
  model = Classifier(spec, network, **fields)
  return model, *jax.jit(model.init)(KEY, data(spec))


def trained(model, batch, num_steps, rate=0.0):
  optimizers = optimizers_for(model, optax.sgd(rate))
  state = init_state(model, optimizers, KEY, batch)
  step = jax.jit(make_train_step(model, optimizers))
  for _ in range(num_steps):
    state, metrics = step(state, jax.tree.map(lambda leaf: leaf[None], batch), KEY)
  return state, metrics


def test_after_training_on_the_same_batch_the_running_statistics_are_the_batchs():
  """With weights that do not move, hidden sums of a batch are x W: mean and variance are known."""
  model, batch = built()[0], data(SPEC, 64)
  state, _ = trained(model, batch, num_steps=300)
  sums = batch["x"].astype(np.float64) @ np.asarray(state.params["model"]["hidden_0"]["kernel"], np.float64)
  found = state.carry["statistics"]["norm_0"]
  np.testing.assert_allclose(found["mean"], sums.mean(axis=0), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(found["var"], sums.var(axis=0), rtol=1e-4)


def test_after_training_on_constant_data_the_running_mean_is_the_datas():
  model = built()[0]
  x = np.tile(np.float32([1.0, -2.0, 50.0]), (8, 1))
  state, _ = trained(model, {"x": x, "y": np.arange(8) % 3}, num_steps=300)
  sums = x[0].astype(np.float64) @ np.asarray(state.params["model"]["hidden_0"]["kernel"], np.float64)
  found = state.carry["statistics"]["norm_0"]
  np.testing.assert_allclose(found["mean"], sums, rtol=1e-4)
  np.testing.assert_allclose(found["var"], 0.0, atol=1e-6)


@pytest.mark.parametrize("spec, network", [(SPEC, NORMALIZED), pytest.param(IMAGES, SMALL, marks=pytest.mark.slow)])
def test_in_evaluation_no_example_depends_on_another(spec, network):
  model, batch = Classifier(spec, network), data(spec)
  state, _ = trained(model, batch, num_steps=3, rate=0.1)
  whole = jax.jit(model.log_label_probs)(state.params, state.carry, batch)
  features = model.features(state.params, state.carry, batch)
  other = {"x": np.concatenate([batch["x"][:1], batch["x"][1:][::-1]])[:5]}
  np.testing.assert_allclose(model.log_label_probs(state.params, state.carry, other)[0], whole[0], atol=1e-5)
  np.testing.assert_allclose(model.features(state.params, state.carry, other)[0], features[0], atol=1e-5)
  np.testing.assert_allclose(np.exp(whole).sum(axis=1), 1.0, rtol=1e-5)


def test_in_training_every_example_depends_on_the_batch_and_the_key():
  model, params, carry = built(network=ClassifierPerceptron((6,), batch_norm=True, dropout=0.5))
  batch = data(SPEC)
  other = {**batch, "x": np.concatenate([batch["x"][:6], batch["x"][6:] + 3.0])}

  def logits_of_first(batch, seed):
    """Logits of the first example in training."""
    variables = normalization.variables_of(params["model"], carry)
    network, rngs = model.network.clone(outputs=3), {"dropout": jax.random.key(seed)}
    out, _ = network.apply(variables, jnp.asarray(batch["x"]), train=True, mutable=["batch_stats"], rngs=rngs)
    return np.asarray(out.logits[0])

  assert np.abs(logits_of_first(batch, 0) - logits_of_first(batch, 1)).max() > 1e-3
  assert np.abs(logits_of_first(batch, 0) - logits_of_first(other, 0)).max() > 1e-3


def test_the_loss_is_the_cross_entropy_of_smoothed_labels():
  model, params, carry = built(network=ClassifierPerceptron((6,), dropout=0.0), label_smoothing=0.3)
  batch = data(SPEC)
  assert carry == {}
  log_probs = np.asarray(model.log_label_probs(params, carry, batch))
  target = 0.7 * np.eye(3)[batch["y"]] + 0.1
  out = model.loss(params, carry, batch, KEY, STEP)
  np.testing.assert_allclose(out.loss, -(target * log_probs).sum(axis=1).mean(), rtol=1e-5)
  np.testing.assert_allclose(out.metrics["accuracy"].value, np.mean(log_probs.argmax(axis=1) == batch["y"]), rtol=1e-6)
  cross_entropy = -log_probs[np.arange(12), batch["y"]].mean()
  np.testing.assert_allclose(out.metrics["cross_entropy"].value, cross_entropy, rtol=1e-5)


def test_validation_is_cross_entropy_and_error():
  model, params, carry = built()
  batch = data(SPEC)
  found = evaluate_criteria(model, params, carry, [batch], key=KEY)
  log_probs = np.asarray(model.log_label_probs(params, carry, batch))
  assert found["cross_entropy"] == pytest.approx(-log_probs[np.arange(12), batch["y"]].mean(), rel=1e-5)
  assert found["error"] == pytest.approx(np.mean(log_probs.argmax(axis=1) != batch["y"]))
  assert model.criterion in found


def test_features_are_the_last_hidden_layer():
  model, params, carry = built(network=ClassifierPerceptron((7, 6)))
  batch = data(SPEC)
  last = params["model"]["last"]
  logits = np.asarray(model.features(params, carry, batch)) @ last["kernel"] + last["bias"]
  np.testing.assert_allclose(jax.nn.log_softmax(logits), model.log_label_probs(params, carry, batch), rtol=1e-5)


def test_it_learns_what_a_line_cannot_tell():
  rng = np.random.default_rng(0)
  x = np.float32(rng.uniform(-1, 1, (400, 3)))
  y = ((x[:, 0] > 0) != (x[:, 1] > 0)).astype(int)
  model = Classifier(DataSpec((3,), None, num_classes=2), ClassifierPerceptron((32,), batch_norm=True, dropout=0.0))
  _, metrics = trained(model, {"x": x, "y": y}, num_steps=300, rate=1.0)
  assert metrics["accuracy"].value > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("event", [(1, 1, 1), (4, 4, 3), (7, 5, 1)])
def test_images_of_any_size(event):
  spec = DataSpec(event, 4, num_classes=3)
  model = cnn_classifier(spec, network=SMALL)
  batch = data(spec)
  params, carry = jax.jit(model.init)(KEY, batch)
  out = jax.jit(model.loss)(params, carry, batch, KEY, STEP)
  assert np.isfinite(out.loss) and model.features(params, carry, batch).shape == (12, 6)


def test_ten_filters_of_4x4x3_have_490_parameters():
  spec = DataSpec((8, 8, 3), 4, num_classes=3)
  model = cnn_classifier(spec, network=Convolutional((10,), size=4, hidden=2))
  shapes, carry = jax.eval_shape(model.init, KEY, data(spec))
  assert count_parameters(shapes["model"]["convolution_0_0"]) == 490
  rows = parameter_table(shapes).splitlines()
  assert any("convolution_0_0/kernel" in row and "4x4x3x10" in row and " 480 " in row for row in rows)
  assert set(carry["statistics"]) == {"norm_0_0", "norm_hidden"}


def test_it_has_labels_and_features_and_no_density():
  model, params, carry = built()
  for protocol in (Model, HasLabelProbs, HasFeatures, HasValidation):
    assert isinstance(model, protocol)
  for protocol in (HasLogLikelihood, HasSample):
    assert not isinstance(model, protocol)
  with pytest.raises(ConfigError, match=r"Classifier has no likelihood.*p\(y \| x\) \(experiments.evaluate\)"):
    evaluate_likelihood(model, params, carry, [data(SPEC)], key=KEY)


def test_micro_batches_would_normalize_otherwise():
  assert "whole minibatch" in built()[0].objectives[0].whole_batch
  assert built(network=ClassifierPerceptron((6,)))[0].objectives[0].whole_batch == ""
  with pytest.raises(ConfigError, match="accumulate is 2, but batch normalization"):
    make_train_step(built()[0], optimizers_for(built()[0], optax.sgd(0.1)), accumulate=2)


@pytest.mark.parametrize("build, error, words", [
    (lambda: mlp_classifier(DataSpec((3,), None)), SpecError, "the data has none"),
    (lambda: mlp_classifier(DataSpec((3,), None, num_classes=1)), SpecError, "there must be at least 2"),
    (lambda: cnn_classifier(SPEC), SpecError, r"cnn_classifier needs images.*\(3,\)"),
    (lambda: mlp_classifier(SPEC, label_smoothing=1.0), ConfigError, "label_smoothing is 1.0"),
    (lambda: ClassifierPerceptron((0,)), ConfigError, "network.hidden"),
    (lambda: ClassifierPerceptron(dropout=1.0), ConfigError, "network.dropout is 1.0"),
    (lambda: Convolutional(()), ConfigError, "network.widths"),
    (lambda: Convolutional(convolutions=0), ConfigError, "network.convolutions is 0"),
])
def test_what_it_cannot_be(build, error, words):
  with pytest.raises(error, match=words):
    build()


def test_labels_that_are_missing_and_batches_of_one():
  model, params, carry = built()
  x = data(SPEC)["x"]
  for call in (lambda: model.loss(params, carry, {"x": x}, KEY, STEP),
               lambda: model.validate(params, carry, {"x": x}, KEY)):
    with pytest.raises(SpecError, match="the batch must have labels y"):
      call()
  one = data(SPEC, 1)
  with pytest.raises(ConfigError, match="needs at least 2"):
    model.loss(params, carry, one, KEY, STEP)
  with pytest.raises(SpecError, match=r"network\.name=mlp"):
    Classifier(SPEC, Convolutional()).init(KEY, data(SPEC))


@pytest.mark.slow
def test_a_classifier_of_noised_examples_learns_bayess_rule_at_every_noise():
  """Two normal classes in the line: log-odds of x + deviation * noise are linear in x, and known."""
  spec = DataSpec((1,), None, num_classes=2)
  model = Classifier(spec, ClassifierPerceptron((24,), batch_norm=False, dropout=0.0), noise=5.0)
  rng = np.random.default_rng(0)
  y = rng.integers(0, 2, 1024)
  x = (2.0 * y - 1.0 + 0.5 * rng.normal(size=1024))[:, None].astype(np.float32)
  optimizers = optimizers_for(model, optax.adam(1e-2))
  state = init_state(model, optimizers, KEY, {"x": x, "y": y})
  step = jax.jit(make_train_step(model, optimizers))
  batch = {"x": jnp.asarray(x)[None], "y": jnp.asarray(y)[None]}
  for _ in range(400):
    state, _ = step(state, batch, KEY)
  seen = jnp.linspace(-2.0, 2.0, 9)[:, None]
  for deviation in (0.3, 1.0, 3.0):
    found = model.noised_log_label_probs(state.params, state.carry, seen, jnp.asarray(deviation))
    odds = 2.0 * seen[:, 0] / (0.25 + deviation**2)
    assert np.mean(np.abs(jnp.exp(found[:, 1]) - jax.nn.sigmoid(odds))) < 0.05, deviation


def test_noise_is_needed_to_tell_labels_of_noised_examples():
  model, params, carry = built()
  with pytest.raises(ConfigError, match=r"model\.noise is 0: .* train it with --config\.model\.noise=80"):
    model.noised_log_label_probs(params, carry, jnp.zeros((2, 3)), jnp.ones(()))
  with pytest.raises(ConfigError, match=r"noise is -1.0; it must be above 0\.01, or 0 for none"):
    Classifier(SPEC, NORMALIZED, noise=-1.0)
