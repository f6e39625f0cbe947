"""The transformer: its attention and positions; what holds for all networks of sequences is in test_networks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.sequence_models import LONGER, build, dependence_on_vectors
from helpers.token_models import some, train

from gdm.autoregressive.sequences.attention import causal_attention
from gdm.dataspec import DataSpec
from gdm.networks.rotary import rotary
from gdm.runs.registry import build_model

KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "num_steps"), [("learned", 0), ("rotary", 0), ("rotary", 5)])
def test_logits_depend_on_the_tokens_before_and_on_nothing_else(case, num_steps):
  model, params, carry = build(case, LONGER)
  params = train(model, params, carry, num_steps)
  vectors = model.network.apply({"params": params["model"]}, model.previous(some(LONGER, 1)), jnp.arange(12),
                                method="embed")
  np.testing.assert_array_equal(dependence_on_vectors(model, params, vectors) > 0, np.tri(12, dtype=bool))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "other"])
def test_attention_is_that_of_its_definition(backend, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  q, k, v = jax.random.normal(KEY, (3, 2, 5, 3, 4))
  scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 2.0
  scores = np.where(np.tri(5, dtype=bool), scores, -np.inf)
  weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  np.testing.assert_allclose(causal_attention(q, k, v), np.einsum("bhqk,bkhd->bqhd", weights, v), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_rotary_products_depend_on_the_distance_alone():
  q, k = jax.random.normal(KEY, (2, 1, 1, 1, 8))
  at = jnp.arange(9)
  turned_q, turned_k = (rotary(jnp.broadcast_to(x, (1, 9, 1, 8)), at)[0, :, 0] for x in (q, k))
  products = np.asarray(turned_q @ turned_k.T)
  for distance in range(-8, 9):
    diagonal = np.diagonal(products, distance)
    np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(jnp.linalg.norm(turned_q, axis=1), jnp.linalg.norm(q), rtol=1e-5)


@pytest.mark.fast_cases("settings1")
@pytest.mark.parametrize("settings", [{"positions": "rotary", "dropout": 0.3}, {}])
def test_a_loop_over_blocks_computes_what_blocks_written_out_do(settings):
  """Scores, gradients with the draws of dropout, and the cache of a prompt; from the same parameters."""
  spec = DataSpec((6,), 5)
  plain, looped = (build_model({"name": "transformer", "network": {"num_layers": 3, "num_heads": 2, "width": 8,
                                                                   "scan_layers": scan, **settings}}, spec)
                   for scan in (False, True))
  batch, key = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 5, (4, 6)))}, jax.random.key(1)
  params, carry = plain.init(key, batch)
  assert jax.tree.structure(looped.init(key, batch)) == jax.tree.structure((params, carry))

  def gradients(model):
    loss = model.objectives[0].loss
    return jax.jit(jax.grad(lambda params: loss(params, carry, batch, key, jnp.int32(0)).loss))(params)

  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *map(gradients, (plain, looped)))
  caches = [model.prefill(params, model.init_cache(params, 4), batch["x"], jnp.int32(4)) for model in (plain, looped)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *caches)
