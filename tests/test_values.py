"""Values that the spec does not allow are NaN, and so an error that names the example, in every model there is."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from helpers.small_models import COMPOSED, FAST, SMALL, SOLVED, small_batch, small_model, some_parameters

from gdm.dataspec import DataSpec
from gdm.errors import DataError, NotFiniteError
from gdm.evaluation.classification import evaluate_labels
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.model import HasAnomalyScore, HasLabelProbs, HasLogLikelihood, HasUnnormalized
from gdm.runs.registry import MODELS, build_model

KEY = jax.random.key(0)
BATCH = 6
# Models that are given the labels, and the spec that each takes.
CONDITIONAL = {
    "gated_pixelcnn": ({"network": {"width": 6, "num_layers": 1, "first_size": 3, "skip_width": 3}},
                       DataSpec((3, 3, 1), 3)),
    "maf": ({"num_layers": 1, "hidden": (4,)}, DataSpec((3,), 3)),
    "vdm": ({"network": {"name": "mlp", "hidden": (4,)}, "fourier": (1,), "log_snr_max": 3.0}, DataSpec((3,), None)),
}


def each(names):
  """Every name; the slow tier takes the trained ones that are not among the fast."""
  return pytest.mark.parametrize("name", [
      pytest.param(name, marks=[pytest.mark.slow] * (name in SMALL and name not in (*FAST, "ising", "jem")))
      for name in names])


def allowed(model, num=BATCH):
  """Some examples that the spec allows."""
  return {key: values[:num] for key, values in small_batch(model).items()}


def forbidden(spec):
  """A value at each place of which the spec allows none."""
  return [np.nan, np.inf, -np.inf] if spec.levels is None else [-1, spec.levels, spec.levels + 1000, 2**30]


def with_wrong(spec, x):
  """Examples in the widest type, every one but the first with a forbidden value at some place."""
  x = np.array(x, np.float32 if spec.levels is None else np.int32)
  flat, values = x.reshape(len(x), -1), forbidden(spec)
  for row in range(1, len(x)):
    flat[row, (3 * row) % flat.shape[1]] = values[row % len(values)]
  return x


@functools.cache
def built(name):
  model = small_model(name)
  return model, some_parameters(model, small_batch(model), scale=0.1)


def numbers_of(model):
  """What the model says of a batch, compiled: nats, or up to a constant, or of every label, or an anomaly score."""
  ways = {HasLogLikelihood: lambda *args: model.log_likelihood(*args, KEY).nats,
          HasUnnormalized: lambda *args: model.unnormalized_log_prob(*args),
          HasLabelProbs: lambda *args: model.log_label_probs(*args),
          HasAnomalyScore: lambda *args: model.anomaly_score(*args, KEY)}
  return [jax.jit(way) for protocol, way in ways.items() if isinstance(model, protocol)]


def test_every_model_is_among_them():
  assert {*SMALL, *SOLVED, *COMPOSED} == set(MODELS)


@pytest.mark.fast_cases("bayesian_network")
@each((*SMALL, *SOLVED, *COMPOSED))
def test_what_is_not_allowed_is_nan_and_the_rest_is_as_it_was(name):
  model, (params, carry) = built(name)
  good = allowed(model)
  bad = {**good, "x": with_wrong(model.spec, good["x"])}
  for number in numbers_of(model):
    before, after = (np.asarray(number(params, carry, batch)) for batch in (good, bad))
    assert np.isfinite(before).all()
    assert np.isnan(after[1:]).all()
    np.testing.assert_allclose(after[0], before[0], rtol=1e-5)


@pytest.mark.fast_cases("gaussian_mixture")
@pytest.mark.parametrize("name", ["independent", "markov", "made", "ising", "gaussian_mixture"])
def test_scoring_it_is_an_error_that_names_the_example(name):
  model, (params, carry) = built(name)
  good = allowed(model)
  evaluate_likelihood(model, params, carry, [good, good], key=KEY)
  bad = {**good, "x": with_wrong(model.spec, good["x"])}
  with pytest.raises(NotFiniteError, match=rf"of example {BATCH + 1} is nan"):
    evaluate_likelihood(model, params, carry, [good, bad], key=KEY)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "maf"))
                                  for name in CONDITIONAL])
def test_labels_that_there_are_none_of(name):
  settings, spec = CONDITIONAL[name]
  model = build_model({"name": name, "class_conditional": True, **settings}, dataclasses.replace(spec, num_classes=3))
  params, carry = some_parameters(model, small_batch(model), scale=0.1)
  batch = {**allowed(model, 4), "y": np.array([0, 3, -1, 2], np.int32)}
  found = jax.jit(lambda batch: model.log_likelihood(params, carry, batch, KEY))(batch)
  assert found.given == ("y",) and np.isnan(np.asarray(found.nats)).tolist() == [False, True, True, False]


def test_labels_of_a_classifier_that_there_are_none_of():
  model, (params, carry) = built("jem")
  good = {**allowed(model, 4), "y": np.array([0, 1, 1, 0], np.int32)}
  for wrong in (-1, model.spec.num_classes):
    bad = {**good, "y": np.array([0, 1, wrong, 0], np.int32)}
    found = np.asarray(jax.jit(model.log_label_probs)(params, carry, bad))
    assert np.isnan(found).all(axis=1).tolist() == [False, False, True, False]
    with pytest.raises(NotFiniteError, match=r"log p\(y | x\) of example 2 is nan"):
      evaluate_labels(model, params, carry, [bad])
  evaluate_labels(model, params, carry, [good])


@pytest.mark.parametrize("name", SOLVED)
def test_nothing_is_fitted_to_what_is_not_allowed(name):
  model = small_model(name)
  x = np.array(small_batch(model)["x"], np.float32 if model.spec.levels is None else np.int32)
  for wrong in forbidden(model.spec):
    bad = x.copy()
    bad[9, 1] = wrong
    with pytest.raises(DataError, match=r"the data to fit to: the value at index \[9, 1\] is"):
      model.solve(KEY, [{"x": bad}])
