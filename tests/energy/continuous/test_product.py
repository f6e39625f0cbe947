"""Products of energies: of Gaussians the Gaussian of the summed precisions, whatever each is standardized by."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.baselines.independent import Independent
from gdm.dataspec import DataSpec
from gdm.energy.continuous.ebm import EBM
from gdm.energy.continuous.jem import JEM
from gdm.energy.continuous.networks import MLPEnergy, QuadraticEnergy
from gdm.energy.continuous.product import Product
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import Kind

KEY = jax.random.key(0)
PLANE, BITS = DataSpec((2,), None), DataSpec((2,), 2)
PART = EBM(PLANE, network=QuadraticEnergy(), reference=2.0, objective="cd")
WEIGHTS = (1.0, 0.5)
MATRICES = (np.array([[2.0, -1.2], [-1.2, 1.0]]), np.array([[0.5, 0.3], [0.3, 2.0]]))
VECTORS = (np.array([0.5, 0.0]), np.array([-0.3, 0.4]))


@functools.cache
def gaussians():
  """A product of two Gaussians, each set in units of its own, and the precision and mean it must have, in x."""
  model = Product(PLANE, components=(PART, PART), weights=WEIGHTS, num_temperatures=60)
  rng, parts, precision, pull = np.random.default_rng(0), [], 0.0, 0.0
  for weight, matrix, vector, (scale, shift) in zip(WEIGHTS, MATRICES, VECTORS, ((1.0, 0.3), (1.5, -0.5)), strict=True):
    x = (scale * rng.normal(size=(500, 2)) + shift).astype(np.float32)
    params, carry = PART.init(KEY, {"x": x})
    base = params["base"]
    network = {"matrix": jnp.asarray(matrix, jnp.float32), "vector": jnp.asarray(vector, jnp.float32)}
    parts.append(({**params, "model": {"network": network}}, carry))
    # -log f_i = u' A u / 2 + b' u of u = (x - c) / s
    units, a = np.diag(1.0 / np.asarray(base["scale"])), matrix + np.eye(2) / PART.reference**2
    precision = precision + weight * units @ a @ units
    pull = pull + weight * (units @ a @ units @ np.asarray(base["centre"]) - units @ vector)
  return model, *model.join(parts), precision, np.linalg.solve(precision, pull)


def test_the_density_is_the_gaussian_of_the_summed_precisions():
  model, params, carry, precision, mean = gaussians()
  x = np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)
  found = jax.jit(model.log_likelihood)(params, carry, {"x": x}, KEY)
  expected = (-0.5 * np.einsum("ni,ij,nj->n", x - mean, precision, x - mean)
              + 0.5 * np.linalg.slogdet(precision)[1] - math.log(2 * math.pi))
  assert found.kind is Kind.EXACT
  np.testing.assert_allclose(found.nats, expected, atol=1e-3)


@pytest.mark.slow
def test_samples_have_its_moments():
  model, params, carry, precision, mean = gaussians()
  drawn = model.sample(params, carry, KEY, 4000)
  assert float(drawn.info["divergent"]) == 0
  covariance = np.linalg.inv(precision)
  np.testing.assert_allclose(np.mean(drawn.x, axis=0), mean, atol=0.08)
  np.testing.assert_allclose(np.cov(np.asarray(drawn.x).T), covariance, atol=0.1)


@pytest.mark.slow
def test_annealing_agrees_with_the_grid():
  model, params, carry, _, _ = gaussians()
  exact, = model.log_normalizer(params, carry, KEY)
  by_chains = Product(PLANE, components=model.components, weights=WEIGHTS, normalizer="ais")
  found, = by_chains.log_normalizer(params, carry, KEY)
  assert abs(float(found.nats - exact.nats)) < 4 * float(found.stderr) < 0.2


def test_parameters_are_the_parts_and_a_base_between_theirs():
  model, params, carry, _, _ = gaussians()
  assert model.objectives == () and carry == {}
  assert set(params) == {"base", "0/model", "0/base", "1/model", "1/base"}
  like = jax.eval_shape(model.init, KEY, {"x": np.zeros((4, 2), np.float32)})
  assert jax.tree.map(jnp.shape, like) == jax.tree.map(jnp.shape, (params, carry))
  # The Gaussian whose log-density is the weighted mean of theirs: by moments, in the data's units.
  share, of_x = np.asarray(WEIGHTS) / sum(WEIGHTS), lambda base: (
      base["centre"] + base["scale"] * base["mean"], base["scale"] * base["deviation"])
  (mean_0, sigma_0), (mean_1, sigma_1), (mean, sigma) = (of_x(params[name]) for name in ("0/base", "1/base", "base"))
  precision = share[0] / sigma_0**2 + share[1] / sigma_1**2
  np.testing.assert_allclose(sigma, precision**-0.5, rtol=1e-5)
  np.testing.assert_allclose(mean, (share[0] * mean_0 / sigma_0**2 + share[1] * mean_1 / sigma_1**2) / precision,
                             rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_integers_get_noise_once_and_joint_models_can_be_parts():
  spec = DataSpec((3,), 4, num_classes=2)
  parts = EBM(spec, network=MLPEnergy((4,))), JEM(spec, network=MLPEnergy((4,)), objective="cd")
  model = Product(spec, components=parts, num_temperatures=10, num_chains=8)
  x = np.random.default_rng(0).integers(0, 4, (20, 3)).astype(np.uint8)
  params, carry = model.init(KEY, {"x": x, "y": np.zeros(20, np.int32)})
  assert "chains" not in carry  # of the first part
  found = model.unnormalized_log_prob(params, carry, {"x": x})
  real = np.asarray(x + jax.random.uniform(jax.random.key(0), x.shape))
  own = [part.energy(params_of, {})((real - params_of["base"]["centre"]) / params_of["base"]["scale"])
         for part, params_of in ((part, {group: params[f"{k}/{group}"] for group in ("model", "base")})
                                 for k, part in enumerate(parts))]
  np.testing.assert_allclose(found + own[0] + own[1], found[0] + own[0][0] + own[1][0], atol=1e-3)
  drawn = model.sample(params, carry, KEY, 5).x
  assert drawn.dtype == jnp.int32 and drawn.min() >= 0 and drawn.max() < 4


def test_what_cannot_be_multiplied_is_named():
  with pytest.raises(SpecError, match="components is empty"):
    Product(PLANE, components=())
  with pytest.raises(SpecError, match=r"components\[1\] is Independent, which has no energy"):
    Product(PLANE, components=(PART, Independent(BITS)))
  with pytest.raises(SpecError, match=r"components\[0\] models DataSpec\(event=\(2,\)"):
    Product(DataSpec((3,), None), components=(PART,))
  for weights in ((1.0, -1.0), (1.0,), (1.0, math.inf), (1.0, math.nan)):
    with pytest.raises(ConfigError, match="2 positive numbers: what is left of one energy"):
      Product(PLANE, components=(PART, PART), weights=weights)
  model, params, carry, _, _ = gaussians()
  with pytest.raises(ConfigError, match="of Product keeps none"):
    model.sample(params, carry, KEY, 1, start="chains")


@pytest.mark.parametrize("num_dims, scales, shifts, weights", [
    (1, (0.01, 10.0), (0.0, 0.0), ()),  # by the mean of the scales, 33.92 nats where the truth was 6.40
    pytest.param(1, (0.01, 10.0), (100.0, -5.0), (), marks=pytest.mark.slow),
    pytest.param(1, (0.01, 0.01), (0.0, 0.5), (), marks=pytest.mark.slow),  # between both, where neither is
    pytest.param(1, (1e-3, 100.0, 1.0), (1000.0, 900.0, 1001.0), (1.0, 0.5, 2.0), marks=pytest.mark.slow),
    pytest.param(2, (0.01, 10.0), (3.0, -5.0), (), marks=pytest.mark.slow),
    pytest.param(2, (1.0, 1.0), (0.0, 6.0), (2.0, 1.0), marks=pytest.mark.slow),
])
def test_parts_of_any_scales_and_places_have_the_density_of_their_product(num_dims, scales, shifts, weights):
  spec = DataSpec((num_dims,), None)
  part = EBM(spec, network=QuadraticEnergy(), objective="cd")
  model = Product(spec, components=(part,) * len(scales), weights=weights)
  rng, parts, precision, pull = np.random.default_rng(0), [], 0.0, 0.0
  for power, scale, shift in zip(model.powers, scales, shifts, strict=True):
    parts.append(part.init(KEY, {"x": (scale * rng.normal(size=(2000, num_dims)) + shift).astype(np.float32)}))
    base = {name: np.asarray(value, np.float64) for name, value in parts[-1][0]["base"].items()}
    precision = precision + power / base["scale"] ** 2
    pull = pull + power * base["centre"] / base["scale"] ** 2
  params, carry = model.join(parts)
  mean = pull / precision
  x = (mean + rng.normal(size=(50, num_dims)) / np.sqrt(precision)).astype(np.float32)
  truth = np.sum(-0.5 * precision * (x - mean) ** 2 + 0.5 * np.log(precision / (2 * math.pi)), axis=-1)
  found = jax.jit(model.log_likelihood)(params, carry, {"x": x}, KEY)
  exact, = model.log_normalizer(params, carry, KEY)
  by_log_z = model.unnormalized_log_prob(params, carry, {"x": x}) - exact.nats
  for nats, error in ((found.nats, found.error), (by_log_z, exact.stderr)):
    assert float(jnp.max(error)) < 2e-3
    np.testing.assert_allclose(nats, truth, atol=2e-3)
