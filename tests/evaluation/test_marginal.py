"""The sum over labels of a class-conditional model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.marginal import OverLabels, log_label_prior
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import HasLabelProbs

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])  # of x given y
PARAMS = {"probs": jnp.asarray(PROBS)}


@dataclasses.dataclass(frozen=True)
class Toy:
  kind: Kind = Kind.EXACT
  given: tuple[str, ...] = ("y",)
  unbiased: bool = False

  @property
  def spec(self):
    return DataSpec((1,), 3, num_classes=2)

  objectives = ()

  def init(self, key, batch):
    return {}, {}

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    return LogLikelihood.of(jnp.log(params["probs"])[batch["y"], batch["x"][:, 0]], 1, self.kind, self.given,
                            unbiased=self.unbiased)


def test_it_is_a_mixture_over_labels():
  prior = log_label_prior(np.array([0, 0, 0, 1, 1]), 2)
  np.testing.assert_allclose(np.exp(prior), [4 / 7, 3 / 7])
  batch = {"x": np.array([[0], [1], [2]]), "y": np.zeros(3, np.int32)}
  found = evaluate_likelihood(OverLabels(Toy(), prior), PARAMS, {}, [batch], key=jax.random.key(0))
  np.testing.assert_allclose(np.exp(found.nats), np.exp(prior) @ PROBS, rtol=1e-5)
  assert found.given == () and found.kind is Kind.EXACT


def test_it_tells_labels_by_bayes_rule():
  prior = log_label_prior(np.array([0, 0, 0, 1, 1]), 2)
  model = OverLabels(Toy(), prior)
  assert isinstance(model, HasLabelProbs)
  found = np.exp(model.log_label_probs(PARAMS, {}, {"x": jnp.array([[0], [1], [2]])}))
  joint = (np.exp(prior)[:, None] * np.asarray(PROBS)).T
  np.testing.assert_allclose(found, joint / joint.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.fast_cases("model1-lower_bound", "model2-lower_bound_of_sampler", "model3-estimate")
@pytest.mark.parametrize("model, kind", [
    (Toy(kind=Kind.LOWER_BOUND), Kind.ESTIMATE),
    (Toy(kind=Kind.LOWER_BOUND, unbiased=True), Kind.LOWER_BOUND),
    (Toy(kind=Kind.SAMPLER_BOUND, unbiased=True), Kind.SAMPLER_BOUND),
    (Toy(kind=Kind.ESTIMATE), Kind.ESTIMATE),
])
def test_a_sum_over_bounds_is_a_bound_where_their_exponentials_are_unbiased(model, kind):
  summed = OverLabels(model, log_label_prior(np.array([0, 1]), 2))
  found = summed.log_likelihood(PARAMS, {}, {"x": jnp.zeros((2, 1), int)}, jax.random.key(0))
  assert found.kind is kind and found.given == ()


def test_labels_that_do_not_occur_keep_a_chance():
  assert np.isfinite(log_label_prior(np.array([0, 0]), 3)).all()


def test_it_needs_a_model_that_is_given_labels():
  with pytest.raises(SpecError, match=r"Toy is given \(\); to sum over labels it must be given y"):
    OverLabels(Toy(given=()), (0.0,)).log_likelihood(PARAMS, {}, {"x": jnp.zeros((2, 1), int)}, jax.random.key(0))
