"""Softmax regression ends where its gradient is zero, at scikit-learn's weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model

from gdm.dataspec import DataSpec
from gdm.discriminative.logistic_regression import LogisticRegression
from gdm.errors import ConfigError, DataError, SpecError
from gdm.model import HasLabelProbs, HasLogLikelihood, HasSample, HasSolve, HasValidation, Model

KEY = jax.random.key(0)
SPEC = DataSpec((5,), None, num_classes=3)


def data(num=300, seed=0):
  """Features of very different scales, whose classes overlap."""
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(num, 5))
  y = np.argmax(z @ np.random.default_rng(9).normal(size=(5, 3)) + rng.gumbel(size=(num, 3)), axis=1)
  return {"x": np.float32(z * [1.0, 2.0, 30.0, 0.1, 1.0] + [0.0, 1.0, 100.0, 0.0, 0.0]), "y": y}


def objective(params, batch, l2):
  """Mean cross-entropy + l2 / 2 |W|^2, in float64."""
  logits = jnp.asarray(batch["x"], jnp.float64) @ params["weights"] + params["bias"]
  fit = -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(batch["y"])[:, None], axis=1))
  return fit + 0.5 * l2 * jnp.sum(params["weights"]**2)


@pytest.fixture(scope="module")
def solved():
  model, reports = LogisticRegression(SPEC, l2=1e-2), []
  params, carry = model.solve(KEY, [data()], lambda iteration, metrics: reports.append((iteration, metrics)))
  return model, params, carry, reports


def test_its_gradient_is_zero(solved):
  _, params, carry, reports = solved
  assert carry == {} and reports[-1][1]["grad_norm"] <= 1e-6
  batch = data()
  scale = batch["x"].std(axis=0)[:, None]  # parameters are float32: a gradient by them is as large as x is
  with jax.enable_x64(True):
    grads = jax.grad(objective)(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params["model"]), batch, 1e-2)
    size = np.sqrt(np.sum((np.asarray(grads["weights"]) / scale)**2) + np.sum(np.asarray(grads["bias"])**2))
  assert size < 1e-5


def test_its_weights_are_scikit_learns(solved):
  model, params, _, _ = solved
  batch = data()
  theirs = linear_model.LogisticRegression(C=1.0 / (1e-2 * 300), tol=1e-10, max_iter=1000, solver="newton-cg")
  theirs.fit(batch["x"].astype(np.float64), batch["y"])
  np.testing.assert_allclose(params["model"]["weights"].T, theirs.coef_, atol=1e-5)
  np.testing.assert_allclose(params["model"]["bias"], theirs.intercept_, atol=1e-5)
  np.testing.assert_allclose(model.log_label_probs(params, {}, data(seed=1)),
                             theirs.predict_log_proba(data(seed=1)["x"].astype(np.float64)), atol=1e-4)


def test_a_feature_that_is_there_twice_leaves_the_odds():
  """Without a penalty; a penalty on weights is halved for a feature with two."""
  batch, test = data(), data(seed=1)["x"]
  twice = DataSpec((10,), None, num_classes=3)
  first = LogisticRegression(SPEC, l2=0.0)
  second = LogisticRegression(twice, l2=0.0)
  one = first.log_label_probs(first.solve(KEY, [batch])[0], {}, {"x": test})
  params = second.solve(KEY, [{**batch, "x": np.tile(batch["x"], 2)}])[0]
  np.testing.assert_allclose(second.log_label_probs(params, {}, {"x": np.tile(test, 2)}), one, atol=1e-4)


def test_order_and_batches_do_not_matter(solved):
  model, params, _, _ = solved
  batch = data()
  parts = [{name: value[i:i + 90] for name, value in batch.items()} for i in (180, 0, 270, 90)]
  padded = {**parts[2], "mask": np.ones(30)}
  padded = {name: np.concatenate([value, value[:5]]) for name, value in padded.items()}
  padded["mask"][30:] = 0.0
  found, _ = model.solve(KEY, [parts[0], parts[1], padded, parts[3]])
  np.testing.assert_allclose(found["model"]["weights"], params["model"]["weights"], atol=1e-5)


@pytest.mark.slow
def test_integers_are_points_between_minus_one_and_one():
  spec = DataSpec((2,), 9, num_classes=2)
  x = np.random.default_rng(0).integers(0, 9, (200, 2)).astype(np.uint8)
  y = (x[:, 0] + np.random.default_rng(1).integers(0, 9, 200) > 8).astype(int)
  params = LogisticRegression(spec).solve(KEY, [{"x": x, "y": y}])[0]
  reals = LogisticRegression(DataSpec((2,), None, num_classes=2))
  same = reals.solve(KEY, [{"x": np.float32(x / 4.0 - 1.0), "y": y}])[0]
  np.testing.assert_allclose(params["model"]["weights"], same["model"]["weights"], atol=1e-5)


def test_it_has_no_density(solved):
  model = solved[0]
  for protocol in (Model, HasSolve, HasLabelProbs, HasValidation):
    assert isinstance(model, protocol)
  for protocol in (HasLogLikelihood, HasSample):
    assert not isinstance(model, protocol)


def test_classes_that_a_plane_separates_have_no_optimum_without_a_penalty(caplog):
  x = np.float32([[-1.0], [-2.0], [1.0], [2.0]])
  model = LogisticRegression(DataSpec((1,), None, num_classes=2), l2=0.0, num_iterations=3, tolerance=1e-9)
  model.solve(KEY, [{"x": x, "y": np.array([0, 0, 1, 1])}])
  assert "set model.l2 above 0" in caplog.text


def test_bad_input():
  batch = data()
  with pytest.raises(SpecError, match="the batch must have labels y"):
    LogisticRegression(SPEC).solve(KEY, [{"x": batch["x"]}])
  with pytest.raises(DataError, match="have the label 2; there must be at least two"):
    LogisticRegression(SPEC).solve(KEY, [{**batch, "y": np.full(300, 2)}])
  with pytest.raises(SpecError, match="the data has none"):
    LogisticRegression(DataSpec((5,), None))
  with pytest.raises(ConfigError, match="l2 is -1"):
    LogisticRegression(SPEC, l2=-1.0)
