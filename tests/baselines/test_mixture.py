import jax
import numpy as np
import scipy.optimize
import scipy.special
from helpers.enumeration import Batches, all_states, log_probs

from gdm.baselines.independent import Independent
from gdm.baselines.mixture import Mixture
from gdm.dataspec import DataSpec


def planted(levels, num, seed=0):
  rng = np.random.default_rng(seed)
  weights, probs = np.array([0.5, 0.3, 0.2]), rng.dirichlet(np.full(levels, 0.2), size=(3, 15))
  component = rng.choice(3, size=num, p=weights)
  x = (rng.random((num, 15, 1)) > np.cumsum(probs, axis=-1)[component]).sum(axis=-1)
  return weights, probs, np.minimum(x, levels - 1)


def test_recovers_a_planted_mixture():
  weights, probs, x = planted(3, 4000)
  model = Mixture(DataSpec((15,), 3), num_components=3, alpha=0.1)
  params, _ = model.solve(jax.random.key(0), Batches(x, size=1000))
  found = np.exp(np.asarray(params["model"]["logits"], np.float64))
  distance = np.abs(probs[:, None] - found[None]).mean(axis=(2, 3))
  true, ours = scipy.optimize.linear_sum_assignment(distance)
  assert distance[true, ours].max() < 0.01
  np.testing.assert_allclose(np.exp(params["model"]["log_weights"])[ours], weights[true], atol=0.03)


def test_likelihood_is_the_sum_over_components():
  _, _, x = planted(3, 500)
  model = Mixture(DataSpec((15,), 3), num_components=4, num_iterations=5)
  params, carry = model.solve(jax.random.key(0), Batches(x))
  logits = np.asarray(params["model"]["logits"], np.float64)
  per_component = np.stack([logits[:, d, x[:, d]] for d in range(15)]).sum(axis=0).T
  expected = scipy.special.logsumexp(per_component + np.asarray(params["model"]["log_weights"]), axis=1)
  np.testing.assert_allclose(log_probs(model, params, carry, x), expected, rtol=1e-5)


def test_one_component_is_the_independent_model():
  _, _, x = planted(2, 300)
  spec, states = DataSpec((15,), 2), all_states(2, 15)[::999]
  one, alone = Mixture(spec, num_components=1, alpha=1e-4), Independent(spec, alpha=1e-4)
  found, expected = (log_probs(m, *m.solve(jax.random.key(0), Batches(x)), states) for m in (one, alone))
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_fewer_examples_than_components():
  model = Mixture(DataSpec((4,), 2), num_components=10)
  x = np.array([[0, 1, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]])
  params, carry = model.solve(jax.random.key(0), Batches(x))
  np.testing.assert_allclose(np.exp(log_probs(model, params, carry, all_states(2, 4))).sum(), 1.0, rtol=1e-5)
