"""Discrete diffusion given labels and contexts: a distribution for each, and draws that follow it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_models import some_parameters

from gdm.dataspec import DataSpec
from gdm.discrete_diffusion import ardm, d3pm, masked
from gdm.discrete_diffusion.networks.perceptron import Perceptron
from gdm.discrete_diffusion.networks.residual import Residual
from gdm.discrete_diffusion.networks.transformer import BidirectionalTransformer
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.coding.ways import way_of

SPEC = DataSpec((3,), 3, num_classes=2, context_dims=2)
NETWORK = Perceptron(hidden=(8,))
STATES = np.array(list(itertools.product(range(3), repeat=3)), np.uint8)
KEY = jax.random.key(0)
CONTEXT = np.array([0.5, -1.0], np.float32)


def given_label(label):
  return {"x": jnp.asarray(STATES), "y": jnp.full(27, label), "context": jnp.broadcast_to(CONTEXT, (27, 2))}


def exact(model, params, label):
  return np.asarray(model.scored_by("exact").log_likelihood(params, {}, given_label(label), KEY).nats)


def test_each_label_has_a_distribution_of_its_own_and_draws_follow_it():
  model = ardm(SPEC, network=NETWORK, class_conditional=True)
  params, carry = some_parameters(model, given_label(0), scale=0.5)
  probs = np.exp([exact(model, params, label) for label in (0, 1)])
  np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-5)
  assert np.abs(probs[0] - probs[1]).sum() > 0.1
  found = model.log_likelihood(params, carry, given_label(1), KEY)
  assert found.given == ("context", "y")
  drawn = model.sample(params, carry, KEY, 4000, {"y": 1, "context": CONTEXT}).x
  counts = np.bincount(drawn @ np.array([9, 3, 1]), minlength=27) / 4000
  assert np.abs(counts - probs[1]).sum() < 0.13
  known = np.array([False, True, False])
  filled = model.complete(params, carry, KEY, drawn[:4], known, condition={"y": 1, "context": CONTEXT}).x
  np.testing.assert_array_equal(filled[:, 1], drawn[:4, 1])


@pytest.mark.parametrize("make", [masked, pytest.param(d3pm, marks=pytest.mark.slow)])
def test_bounds_are_below_the_mass_of_one(make):
  """The sum over states of exp of the mean bound is at most one, given each label."""
  model = make(SPEC, network=NETWORK, class_conditional=True, num_noise_steps=4)
  params, carry = some_parameters(model, given_label(0), scale=0.5)
  bound = jax.jit(lambda label: model.log_likelihood(params, carry, given_label(label), KEY, num_samples=200).nats)
  sums = [np.exp(bound(label)).sum() for label in (0, 1)]
  assert min(sums) > 0.1 and max(sums) < 1.05
  assert model.sample(params, carry, KEY, 5, {"y": np.arange(5) % 2, "context": CONTEXT}).x.shape == (5, 3)


@pytest.mark.parametrize("network", [pytest.param(Residual(width=4, num_blocks=1, num_heads=2),
                                                  marks=pytest.mark.slow),
                                     BidirectionalTransformer(num_layers=1, num_heads=2, width=4)])
def test_networks_are_told_the_label(network):
  spec = DataSpec((2, 2, 1), 3, num_classes=2)
  model = ardm(spec, network=network, class_conditional=True)
  x = jnp.zeros((2, 2, 2, 1), jnp.int32)
  params, _ = some_parameters(model, {"x": x, "y": jnp.zeros(2, jnp.int32)})
  out = model.log_probs(params, jnp.full((2, 4), 3), None, jnp.eye(2))
  assert np.abs(out[0] - out[1]).max() > 1e-3


def test_what_is_refused():
  model = masked(SPEC, network=NETWORK, class_conditional=True)
  params, carry = some_parameters(model, given_label(0))
  with pytest.raises(SpecError, match="condition must be"):
    model.sample(params, carry, KEY, 2)
  with pytest.raises(SpecError, match="condition must be"):
    model.complete(params, carry, KEY, STATES[:2], np.array([True, False, False]))
  with pytest.raises(ConfigError, match="conditional on context and y, which a payload does not hold"):
    way_of(model)
  with pytest.raises((ConfigError, SpecError), match="class_conditional"):
    masked(DataSpec((3,), 3), network=NETWORK, class_conditional=True)
