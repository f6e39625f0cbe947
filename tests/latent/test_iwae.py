"""An IWAE is a VAE with another bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.latent.iwae import iwae
from gdm.runs.registry import build_model

SPEC = DataSpec((4,), 2)


@pytest.mark.slow
def test_its_objective_is_the_bound_of_its_draws():
  model = build_model({"name": "iwae", "num_samples": 7, "latent_dims": 2, "encoder": {"name": "mlp", "hidden": (6,)}},
                      SPEC)
  assert model.num_samples == 7 and model.encoder.hidden == (6,)
  batch = {"x": np.random.default_rng(0).integers(0, 2, (5, 4))}
  params, carry = model.init(jax.random.key(0), batch)
  keys = jax.random.split(jax.random.key(1), 600)
  losses = jax.jit(jax.vmap(lambda key: model.loss(params, carry, batch, key, jnp.zeros((), int)).loss))(keys)

  def score(key):
    return model.log_likelihood(params, carry, batch, key, num_samples=7).nats.mean()

  scores = jax.jit(jax.vmap(score))(keys)
  assert float(losses.mean()) == pytest.approx(-float(scores.mean()), abs=0.08)


def test_by_default_it_has_fifty_draws():
  assert iwae(SPEC).num_samples == 50 and iwae(SPEC).gradient == "doubly_reparametrized"
