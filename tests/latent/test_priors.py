"""Priors integrate to one, sample themselves, and are any model by the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.latent.posteriors import Diagonal, InverseAutoregressive
from gdm.latent.priors import MixturePrior, ModelPrior, StandardNormal, VampPrior, prior_for
from gdm.runs.registry import build_model

SPEC = DataSpec((2,), None)
PRIORS = {
    "normal": StandardNormal(), "mixture": MixturePrior(3), "vamp": VampPrior(4),
    "flow": ModelPrior(build_model({"name": "maf", "num_layers": 1, "hidden": (4,)}, SPEC)),
}


def density_of(name):
  prior, inputs = PRIORS[name], jax.random.normal(jax.random.key(0), (6, 4))
  z = jax.random.normal(jax.random.key(1), (6, 2))
  groups = jax.jit(prior.init)(jax.random.key(2), inputs, z)
  moved = jax.tree.map(lambda leaf: leaf + 0.2 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), groups)
  return prior.density(moved, 2, Diagonal(), lambda inputs: 0.5 * inputs)


@pytest.mark.fast_cases("normal", "vamp")
@pytest.mark.parametrize("name", PRIORS)
def test_it_integrates_to_one_and_samples_itself(name):
  density, ends = density_of(name), np.linspace(-9.0, 9.0, 181)
  points = np.stack(np.meshgrid(ends, ends, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)
  mass = np.exp(np.asarray(jax.jit(density.log_prob)(points), np.float64)) * (ends[1] - ends[0]) ** 2
  np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-3)
  draws = np.asarray(jax.jit(density.sample, static_argnums=1)(jax.random.key(3), 20_000))
  assert draws.shape == (20_000, 2)
  np.testing.assert_allclose(draws.mean(0), mass @ points, atol=0.08)
  np.testing.assert_allclose(np.square(draws).mean(0), mass @ np.square(points), rtol=0.08, atol=0.05)


@pytest.mark.parametrize(("prior", "posterior", "conditional", "words"), [
    ("normal", Diagonal(), False, "must be normal, mixture, vamp, or a model"),
    (VampPrior(2), InverseAutoregressive(), False, "known for its own draws only"),
    (VampPrior(2), Diagonal(), True, "pseudo-inputs have no labels"),
    (PRIORS["flow"], Diagonal(), False, r"must be \(5,\)")])
def test_a_prior_that_cannot_be_is_refused(prior, posterior, conditional, words):
  with pytest.raises(ConfigError, match=words):
    prior_for(prior, posterior, 5, conditional)


@pytest.mark.parametrize(("model", "spec", "words"), [
    ({"name": "independent"}, DataSpec((2,), 3), "must model real vectors"),
    ({"name": "made"}, DataSpec((2,), 3), "must model real vectors")])
def test_a_model_of_other_data_is_no_prior(model, spec, words):
  with pytest.raises(ConfigError, match=words):
    ModelPrior(build_model(model, spec))


@pytest.mark.fast_cases("model1-carries statistics")
@pytest.mark.parametrize(("model", "words"), [
    ({"name": "realnvp", "normalization": "batch"}, "carries statistics"), ({"name": "vdm"}, "carries statistics")])
def test_a_model_with_a_carry_is_no_prior(model, words):
  prior = ModelPrior(build_model(model, SPEC))
  with pytest.raises(ConfigError, match=words):
    prior.init(jax.random.key(0), jnp.zeros((4, 3)), jax.random.normal(jax.random.key(1), (4, 2)))
