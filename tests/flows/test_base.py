"""Base distributions: densities that integrate to one, draws that follow them, temperature about the centre."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gdm.errors import ConfigError
from gdm.flows.base import Base, Logistic, MixtureOfNormals, Normal, Uniform

KEY = jax.random.key(0)
BASES = {"normal": Normal(), "logistic": Logistic(), "uniform": Uniform(-1.0, 2.0),
         "mixture": MixtureOfNormals(3, spread=2.0)}
each = pytest.mark.parametrize("name", BASES)


@pytest.mark.fast_cases("normal", "logistic", "uniform")
@each
def test_density_integrates_to_one_in_the_plane(name):
  base = BASES[name]
  assert isinstance(base, Base)
  params = base.init(KEY, (2,))
  edges = np.linspace(-18.0, 18.0, 721)
  middles = 0.5 * (edges[1:] + edges[:-1])
  grid = jnp.asarray(np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2), jnp.float32)
  density = np.exp(np.asarray(jax.jit(base.log_prob)(params, grid), np.float64))
  np.testing.assert_allclose(density.sum() * (edges[1] - edges[0])**2, 1.0, rtol=1e-4)


@pytest.mark.fast_cases("logistic")
@each
def test_draws_follow_the_density(name):
  base = BASES[name]
  params = base.init(KEY, ())
  draws = np.asarray(base.sample(params, jax.random.key(1), 2000, ()))
  assert draws.shape == (2000,)
  points = jnp.linspace(-40.0, 40.0, 80001)
  mass = np.cumsum(np.exp(np.asarray(base.log_prob(params, points), np.float64))) * 1e-3
  assert scipy.stats.kstest(draws, lambda x: np.interp(x, points, mass)).pvalue > 1e-3


@pytest.mark.fast_cases("logistic")
@each
def test_temperature_zero_gives_the_centre(name):
  base = BASES[name]
  params = base.init(KEY, (3, 2))
  draws = base.sample(params, jax.random.key(1), 5, (3, 2), 0.0)
  assert draws.shape == (5, 3, 2)
  if name == "mixture":
    assert all(np.any(np.all(params["means"] == draw, axis=(1, 2))) for draw in draws)
  else:
    np.testing.assert_allclose(draws, 0.5 if name == "uniform" else 0.0, atol=1e-6)


def test_log_probs_are_scipys_and_add_up_over_an_event():
  z = jax.random.normal(KEY, (4, 2, 3))
  for base, known in ((Normal(), scipy.stats.norm), (Logistic(), scipy.stats.logistic)):
    np.testing.assert_allclose(base.log_prob({}, z), known.logpdf(z).sum(axis=(1, 2)), rtol=1e-5)


@pytest.mark.slow
def test_density_far_out():
  far = jnp.array([[1e3], [-1e3]])
  assert all(np.all(np.isfinite(base.log_prob(base.init(KEY, (1,)), far)))
             for name, base in BASES.items() if name != "uniform")
  np.testing.assert_array_equal(Uniform().log_prob({}, jnp.array([[0.0], [1.0], [1.1], [-0.1]])),
                                [0.0, 0.0, -np.inf, -np.inf])


@pytest.mark.slow
def test_a_mixtures_components_differ():
  base = MixtureOfNormals(2)
  params = {"logits": jnp.log(jnp.array([0.25, 0.75])), "means": jnp.array([[0.0, 0.0], [2.0, -1.0]]),
            "log_scales": jnp.log(jnp.array([[1.0, 2.0], [0.5, 3.0]]))}
  z = jnp.array([[0.3, -0.4]])
  parts = [scipy.stats.norm.pdf(z[0], m, jnp.exp(s)).prod()
           for m, s in zip(params["means"], params["log_scales"], strict=True)]
  np.testing.assert_allclose(base.log_prob(params, z), np.log(0.25 * parts[0] + 0.75 * parts[1]), rtol=1e-5)


@pytest.mark.parametrize("build", [lambda: Uniform(1.0, 1.0), lambda: MixtureOfNormals(0)])
def test_what_cannot_be_is_refused(build):
  with pytest.raises(ConfigError):
    build()
