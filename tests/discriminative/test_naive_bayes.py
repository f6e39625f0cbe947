"""Naive Bayes equals scikit-learn's, and sums over what is missing; evidence that is said twice counts twice."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import naive_bayes as sklearn

from gdm.dataspec import DataSpec
from gdm.discriminative.naive_bayes import naive_bayes
from gdm.errors import ConfigError, DataError, SpecError
from gdm.evaluation.total_mass import total_mass
from gdm.likelihood import Kind
from gdm.model import HasClasses, HasComplete, HasLabelProbs, HasLogLikelihood, HasSample, HasSolve, Model

KEY = jax.random.key(0)
BITS, LEVELS, REALS = (DataSpec((4,), levels, num_classes=3) for levels in (2, 3, None))
CASES = [(BITS, "bernoulli"), (LEVELS, "categorical"), (LEVELS, "multinomial"), (REALS, "gaussian")]


def data(spec, num=90, seed=0):
  """Examples whose features lean on their labels."""
  rng = np.random.default_rng(seed)
  y = np.arange(num) % 3
  if spec.levels is None:
    return {"x": np.float32(rng.normal(size=(num, 4)) * (1 + y[:, None]) + y[:, None]), "y": y}
  share = np.array([0.2, 0.5, 0.7])[y, None]
  return {"x": rng.binomial(spec.levels - 1, share, (num, 4)).astype(np.uint8), "y": y}


def solved(spec, kind, **fields):
  model = naive_bayes(spec, kind=kind, **fields)
  return model, model.solve(KEY, [data(spec)])[0]


def space(spec):
  return np.array(list(itertools.product(range(spec.levels), repeat=4)), np.uint8)


@pytest.mark.parametrize("spec, kind", CASES)
def test_it_equals_scikit_learns(spec, kind):
  model, params = solved(spec, kind, alpha=0.7)
  theirs = {"bernoulli": sklearn.BernoulliNB(alpha=0.7), "categorical": sklearn.CategoricalNB(alpha=0.7),
            "multinomial": sklearn.MultinomialNB(alpha=0.7), "gaussian": sklearn.GaussianNB(var_smoothing=0)}[kind]
  train, test = data(spec), data(spec, seed=1)["x"]
  theirs.fit(train["x"].astype(np.float64), train["y"])
  expected = theirs.predict_log_proba(test.astype(np.float64))
  np.testing.assert_allclose(model.log_label_probs(params, {}, {"x": test}), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("spec, kind", CASES[:2])
def test_p_of_x_sums_to_one(spec, kind):
  model, params = solved(spec, kind)
  nats = model.log_likelihood(params, {}, {"x": space(spec)}, KEY).nats
  assert np.exp(nats).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("spec, kind", CASES)
def test_no_number_claims_more_than_it_is(spec, kind):
  """Of counts the sum over the levels is below one, so that the number is a bound."""
  small = dataclasses.replace(spec, event=(2,) if spec.levels is None else (3,))
  model = naive_bayes(small, kind=kind)
  mass = total_mass(model)
  assert mass.holds and mass.kind is (Kind.LOWER_BOUND if kind == "multinomial" else Kind.EXACT), mass
  assert (mass.total < 0.99) == (kind == "multinomial")


def test_p_of_counts_sums_to_the_share_of_totals_within_the_levels():
  """All counts of up to two units lie within three levels."""
  model, params = solved(LEVELS, "multinomial")
  x = np.array([each for each in space(LEVELS) if each.sum() <= 2])
  nats = model.log_likelihood(params, {}, {"x": x}, KEY).nats
  assert np.exp(nats).sum() == pytest.approx(np.exp(params["model"]["log_totals"][:3]).sum(), abs=1e-5)


@pytest.mark.parametrize("spec, kind", CASES[:2])
@pytest.mark.parametrize("known", [(1, 0, 0, 1), (0, 0, 1, 0), (0, 0, 0, 0), (1, 1, 1, 1)])
def test_missing_features_are_summed_over(spec, kind, known):
  model, params = solved(spec, kind)
  known = np.array(known, bool)
  every = space(spec)
  joint = np.asarray(model.log_label_probs(params, {}, {"x": every})) + np.asarray(
      model.log_likelihood(params, {}, {"x": every}, KEY).nats)[:, None]
  for x in every[::7]:
    agrees = (every[:, known] == x[known]).all(axis=1)
    expected = np.logaddexp.reduce(joint[agrees])
    np.testing.assert_allclose(model.known_log_label_probs(params, x[None], known)[0],
                               expected - np.logaddexp.reduce(expected), atol=1e-5)
    np.testing.assert_allclose(model.known_log_likelihood(params, x[None], known)[0], np.logaddexp.reduce(expected),
                               atol=1e-5)


@pytest.mark.parametrize("known", [(1, 0, 0, 1), (0, 0, 0, 0), (1, 1, 1, 1)])
def test_missing_counts_are_summed_over_with_the_totals(known):
  """Counts beyond the levels are among what is summed: the space here is of all counts up to the largest total."""
  model, params = solved(LEVELS, "multinomial")
  own, known = {name: np.asarray(value, np.float64) for name, value in params["model"].items()}, np.array(known, bool)
  every = np.array([x for x in itertools.product(range(9), repeat=4) if sum(x) <= 8])
  factorials = np.cumsum(np.log(np.maximum(np.arange(10), 1)))
  joint = (own["log_prior"] + every @ own["log_probs"].T
           + (factorials[every.sum(1)] - factorials[every].sum(1) + own["log_totals"][every.sum(1)])[:, None])
  x = np.array([2, 1, 0, 1], np.uint8)
  expected = np.logaddexp.reduce(joint[(every[:, known] == x[known]).all(axis=1)])
  found = model.known_log_label_probs(params, x[None], known)[0]
  np.testing.assert_allclose(found, expected - np.logaddexp.reduce(expected), atol=1e-5)
  np.testing.assert_allclose(model.known_log_likelihood(params, x[None], known)[0], np.logaddexp.reduce(expected),
                             atol=1e-5)


def test_missing_reals_leave_the_marginal_and_nan_may_stand_for_them():
  model, params = solved(REALS, "gaussian")
  x = data(REALS, seed=1)["x"][:5]
  own, known = params["model"], np.array([True, False, True, False])
  z = (x[:, None, known] - own["mean"][:, known]) / own["scale"][:, known]
  joint = np.asarray(own["log_prior"] - (0.5 * z**2 + np.log(own["scale"][:, known]) + 0.5 * np.log(2 * np.pi)).sum(2))
  holes = np.where(known, x, np.nan)
  np.testing.assert_allclose(model.known_log_likelihood(params, holes, known), np.logaddexp.reduce(joint, axis=1),
                             rtol=1e-5)
  each = np.array([known, ~known, known, known, known])
  found = np.asarray(model.known_log_label_probs(params, x, each))
  np.testing.assert_allclose(found[1:2], model.known_log_label_probs(params, x[1:2], ~known), rtol=1e-5)


def evidence(model, params, x):
  """log p(x | y) up to what all labels share."""
  joint = np.asarray(model.log_label_probs(params, {}, {"x": x})) - np.asarray(params["model"]["log_prior"])
  return joint - joint[:, :1]


@pytest.mark.parametrize("spec, kind", CASES)
def test_features_that_are_there_twice_double_the_evidence(spec, kind):
  twice = DataSpec((8,), spec.levels, num_classes=3)
  train, test = data(spec), data(spec, seed=1)["x"]
  one, two = naive_bayes(spec, kind=kind, alpha=1.0), naive_bayes(twice, kind=kind, alpha=1.0)
  first = one.solve(KEY, [train])[0]
  second = two.solve(KEY, [{"x": np.tile(train["x"], 2), "y": train["y"]}])[0]
  np.testing.assert_allclose(evidence(two, second, np.tile(test, 2)), 2.0 * evidence(one, first, test),
                             rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec, kind", [CASES[1], CASES[3]])
def test_draws_are_of_their_label_and_completions_keep_what_is_known(spec, kind):
  model, params = solved(spec, kind)
  for protocol in (Model, HasSolve, HasLabelProbs, HasLogLikelihood, HasSample, HasComplete, HasClasses):
    assert isinstance(model, protocol)
  x = np.asarray(model.sample(params, {}, KEY, 4000, jnp.array(2)).x)
  own = params["model"]
  mean = own["mean"][2] if spec.levels is None else np.exp(own["logits"][2]) @ np.arange(3)
  np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.25 if spec.levels is None else 0.05)
  known = np.array([True, False, False, True])
  test = data(spec, seed=1)["x"]
  made = np.asarray(model.complete(params, {}, KEY, test, known).x)
  np.testing.assert_array_equal(made[:, known], test[:, known])
  assert (made[:, ~known] != test[:, ~known]).any()
  with pytest.raises(SpecError, match="label 3"):
    model.sample(params, {}, KEY, 2, jnp.array([0, 3]))


def test_draws_without_labels_are_of_all_classes():
  model, params = solved(LEVELS, "categorical")
  x = np.asarray(model.sample(params, {}, KEY, 4000).x)
  share = np.exp(params["model"]["log_prior"]) @ np.exp(params["model"]["logits"][:, 0])
  np.testing.assert_allclose(np.bincount(x[:, 0], minlength=3) / 4000, share, atol=0.03)


def test_counts_have_no_draws():
  assert not isinstance(naive_bayes(LEVELS, kind="multinomial"), HasSample)


def test_a_feature_that_varies_in_no_example_is_refused_and_one_that_varies_not_within_a_class_has_a_floor():
  batch = data(REALS)
  fixed = batch["x"].copy()
  fixed[:, 2] = 7.5
  with pytest.raises(DataError, match=r"feature 2 is 7.5 in all 90 examples.*leave the feature out"):
    naive_bayes(REALS).solve(KEY, [{**batch, "x": fixed}])
  fixed[:, 2] = np.where(np.arange(90) % 2, np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1)))
  with pytest.raises(DataError, match=r"feature 2 is 0\.1 in all 90 examples to fit to, up to rounding"):
    naive_bayes(REALS).solve(KEY, [{**batch, "x": fixed}])
  fixed[:, 2] = batch["y"]
  params = naive_bayes(REALS, variance_floor=1e-4).solve(KEY, [{**batch, "x": fixed}])[0]
  np.testing.assert_allclose(params["model"]["scale"][:, 2], np.sqrt(1e-4 * np.var(batch["y"])), rtol=1e-5)


def test_labels_that_are_missing_or_of_one_class():
  batch = data(LEVELS)
  model = naive_bayes(LEVELS)
  with pytest.raises(SpecError, match="the batch must have labels y"):
    model.solve(KEY, [{"x": batch["x"]}])
  with pytest.raises(DataError, match="all 90 examples to fit to have the label 1"):
    model.solve(KEY, [{**batch, "y": np.ones(90, int)}])
  with pytest.raises(DataError, match=r"class 2 has no example.*prior_alpha"):
    model.solve(KEY, [{**batch, "y": batch["y"] % 2}])
  found, _ = naive_bayes(LEVELS, prior_alpha=1.0).solve(KEY, [{**batch, "y": batch["y"] % 2}])
  assert np.exp(found["model"]["log_prior"][2]) == pytest.approx(1 / 93)
  with pytest.raises(DataError, match="class 2 has no example to fit to, so that its Gaussians"):
    naive_bayes(REALS, prior_alpha=1.0).solve(KEY, [{**data(REALS), "y": batch["y"] % 2}])
  with pytest.raises(DataError, match="no batch"):
    model.solve(KEY, [])


@pytest.mark.parametrize("spec, fields, error, words", [
    (DataSpec((4,), 3), {}, SpecError, "tells labels, but the data has none"),
    (DataSpec((4,), 3, num_classes=1), {}, SpecError, "at least 2"),
    (LEVELS, {"kind": "poisson"}, ConfigError, "kind is 'poisson'"),
    (LEVELS, {"kind": "bernoulli"}, SpecError, "needs binary data"),
    (LEVELS, {"kind": "gaussian"}, SpecError, "needs continuous data"),
    (REALS, {"kind": "multinomial"}, SpecError, "needs discrete data"),
    (LEVELS, {"alpha": 0.0}, ConfigError, "alpha is 0.0"),
    (REALS, {"variance_floor": 0.0}, ConfigError, "variance_floor is 0.0"),
    (LEVELS, {"prior_alpha": -1.0}, ConfigError, "prior_alpha is -1.0"),
])
def test_what_it_cannot_be(spec, fields, error, words):
  with pytest.raises(error, match=words):
    naive_bayes(spec, **fields)


def test_a_mask_of_another_shape_is_refused():
  model, params = solved(LEVELS, "categorical")
  with pytest.raises(SpecError, match=r"known has shape \(3,\)"):
    model.known_log_likelihood(params, data(LEVELS)["x"], np.ones(3, bool))
