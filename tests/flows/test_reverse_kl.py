"""Flows fitted to a density: a known target and its log Z are recovered, and weights tell what they can."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdm.errors import ConfigError
from gdm.flows import ActNorm, Affine, Alternate, Flow, MixtureOfNormals, Normal, ScaleShift, vector_coupling
from gdm.flows.reverse_kl import Importance, ReverseKL, importance
from gdm.model import Model
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

KEY = jax.random.key(0)
MEAN, SCALE = np.array([1.0, -0.5]), np.array([0.4, 2.0])


def target(x):
  """A curved Gaussian with Z = 2 pi 0.8 e^3: the second entry moves with the square of the first."""
  first = (x[:, 0] - MEAN[0]) / SCALE[0]
  return 3.0 - 0.5 * first**2 - 0.5 * ((x[:, 1] - MEAN[1] - first**2) / SCALE[1]) ** 2


def flow():
  layers = [vector_coupling(Alternate(flip=i % 2 == 1), Affine(), 2, (16,), activation="tanh") for i in range(4)]
  return Flow(Normal(), [ActNorm(), *layers], event=(2,))


@pytest.mark.slow
def test_a_known_density_and_its_normalizer_are_recovered():
  model = ReverseKL(flow(), target, num=128)
  assert isinstance(model, Model)
  optimizers = optimizers_for(model, optax.adam(1e-2))
  start = {"x": np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)}
  state = init_state(model, optimizers, KEY, start)
  step = jax.jit(make_train_step(model, optimizers))
  first = importance(model, state.params, state.carry, KEY, 4000)
  batch = {name: value[None] for name, value in start.items()}
  for _ in range(400):
    state, metrics = step(state, batch, KEY)
  draws = importance(model, state.params, state.carry, jax.random.key(1), 4000)
  assert draws.effective_sample_size > 0.9 * 4000 > 2 * first.effective_sample_size
  np.testing.assert_allclose(draws.log_z, np.log(2 * np.pi * SCALE.prod()) + 3.0, atol=0.02)
  weights = np.exp(draws.log_weights - draws.log_weights.max())
  np.testing.assert_allclose(weights @ np.asarray(draws.x) / weights.sum(), [MEAN[0], MEAN[1] + 1.0], atol=0.15)
  np.testing.assert_allclose(metrics["reverse_kl"].value, -draws.log_z, atol=0.1)  # KL is 0 then


@pytest.mark.slow
def test_the_density_of_draws_is_the_flows():
  model = ReverseKL(flow(), target)
  params, carry = model.init(KEY, {"x": jnp.ones((8, 2)) * jnp.arange(8.0)[:, None]})
  params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(KEY, a.shape), params)
  x, log_q = model.draw(params, carry, KEY, 50)
  np.testing.assert_allclose(log_q, model.flow.log_prob(params, carry, x), rtol=1e-4, atol=1e-4)


def test_thin_tails_are_seen_by_paretos_k():
  pytest.importorskip("arviz")
  rng = np.random.default_rng(0)
  wide, narrow = (scale * rng.normal(size=5000) for scale in (1.5, 0.25))
  found = [Importance(x, -0.5 * x**2 + 0.5 * (x / scale) ** 2, 0.0, 1.0).smoothed()[1]  # of a normal of variance one
           for x, scale in ((wide, 1.5), (narrow, 0.25))]
  assert found[0] < 0.1 and found[1] > 0.5


def test_refuses_no_draw():
  with pytest.raises(ConfigError, match="num is 0"):
    ReverseKL(flow(), target, num=0)


def test_gradients_of_a_mixtures_weights_are_those_of_the_divergence():
  """Without the score of the choice they were 0 on average, so that the weights were never learned."""
  flow = Flow(MixtureOfNormals(2), (ScaleShift(),), (1,))
  model = ReverseKL(flow, lambda x: jax.scipy.stats.norm.logpdf(x[:, 0], 1.0, 0.8), num=20_000)
  params, carry = model.init(KEY, {"x": np.zeros((2, 1), np.float32)})
  base = {"logits": jnp.array([0.3, -0.2]), "means": jnp.array([[-1.0], [1.5]]), "log_scales": jnp.zeros((2, 1))}

  def loss(logits):
    moved = {"model": {**params["model"], "base": {**base, "logits": logits}}}
    return model.loss(moved, carry, {}, KEY, jnp.zeros(())).loss

  points = np.linspace(-9.0, 10.0, 4000)

  def divergence(logits):
    log_q = flow.base.log_prob({**base, "logits": logits}, jnp.asarray(points, jnp.float32)[:, None])
    gap = log_q - jax.scipy.stats.norm.logpdf(points, 1.0, 0.8)
    return jnp.sum(jnp.exp(log_q) * gap) * (points[1] - points[0])

  np.testing.assert_allclose(jax.grad(loss)(base["logits"]), jax.grad(divergence)(base["logits"]), rtol=0.05)
