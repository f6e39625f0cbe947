"""Hierarchical VAEs are bounds of a probability, whatever their layers, and their layers are Gaussians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from helpers.enumeration import assert_frequencies_match, states_of

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.latent.hierarchical_vae import HierarchicalVAE, kl_to_normal
from gdm.latent.networks.hierarchy import Hierarchy
from gdm.latent.posteriors import normal_log_prob

KEY = jax.random.key(0)
TINY = DataSpec((2, 3, 1), 2)
SMALL = Hierarchy(layers=(2,), widths=(4,), latents=(1,), top_latents=2, top_width=5)
STEP = jnp.zeros((), jnp.int32)


@functools.cache
def built(spec=TINY, network=SMALL, scale=0.3, **fields):
  """A model whose parameters are all moved, and a batch."""
  model = HierarchicalVAE(spec, network=network, **fields)
  rng = np.random.default_rng(0)
  batch = {"x": rng.integers(0, 2, (7, *spec.event)).astype(np.uint8), "y": np.arange(7) % (spec.num_classes or 1)}
  params, carry = jax.jit(model.init)(KEY, batch)
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [leaf + scale * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
  return model, jax.tree.unflatten(tree, moved), carry, batch


@functools.lru_cache
def _drawing(model):
  return jax.jit(lambda params, batch, noise: model.draw(
      params, {}, batch, model.infer(params, batch, None), noise, None))


def drawn(model, params, batch, noise):
  return _drawing(model)(params, {"x": batch["x"]}, noise)


@pytest.mark.slow
def test_the_bound_of_all_states_sums_to_one_from_below():
  """With more draws the sum over all images of exp(bound) rises to 1."""
  model, params, _, _ = built(scale=0.15)
  states, num = states_of(TINY).astype(np.uint8), 512
  noise = jax.random.normal(KEY, (num * len(states), model.noise_dims))
  log_weights = drawn(model, params, {"x": np.tile(states, (num, 1, 1, 1))}, noise).log_weight
  log_weights, totals = np.asarray(log_weights, np.float64).reshape(num, len(states)), []
  for k in (1, 32, 512):
    bounds = scipy.special.logsumexp(log_weights.reshape(-1, k, len(states)), axis=1) - np.log(k)
    totals.append(np.exp(bounds.mean(axis=0)).sum())
  assert totals[0] < totals[1] < totals[2] < 1.01
  assert totals[2] > 0.97


@pytest.mark.slow
def test_the_parts_of_a_draw_are_densities_in_the_latents_units():
  """log w = log p(x | z) + log N(zeta) - log q(zeta), with q's density from the noise it was made of."""
  model, params, _, batch = built()
  noise = jax.random.normal(KEY, (7, model.noise_dims))
  made = drawn(model, params, batch, noise)
  features, context = model.infer(params, batch, None)
  down = model._down(params, noise, features, context)
  first = tuple(each[:1] for each in features)
  jacobian = np.asarray(jax.jit(jax.jacfwd(lambda u: model._down(params, u[None], first, context).zeta[0]))(noise[0]),
                        np.float64)
  log_q = float(normal_log_prob(noise[:1])[0]) - np.linalg.slogdet(jacobian)[1]
  log_ratio = log_q - float(normal_log_prob(down.zeta[:1])[0])
  np.testing.assert_allclose(made.reconstruction[0] - made.log_weight[0], log_ratio, rtol=1e-3, atol=1e-3)


def test_the_divergence_of_each_layer_is_the_mean_of_its_log_ratio():
  model, params, _, batch = built()
  one = {name: np.repeat(value[:1], 4000, axis=0) for name, value in batch.items()}
  noise = jax.random.normal(KEY, (4000, model.noise_dims))
  made = drawn(model, params, one, noise)
  assert made.kl.shape == (4000, 3)
  ratios = np.asarray(made.reconstruction - made.log_weight, np.float64)
  kl = np.asarray(made.kl, np.float64).sum(axis=1)  # of lower layers it varies with the latents above
  gap = ratios - kl
  assert abs(gap.mean()) < 5 * gap.std() / 4000**0.5
  mean, log_scale = jnp.array([0.7, -1.0]), jnp.array([-0.5, 0.3])
  z = mean + jnp.exp(log_scale) * jax.random.normal(KEY, (200_000, 2))
  ratio = 0.5 * z**2 - 0.5 * ((z - mean) / jnp.exp(log_scale))**2 - log_scale
  np.testing.assert_allclose(kl_to_normal(mean, log_scale), ratio.mean(axis=0), atol=0.01)


def test_samples_are_of_what_is_decoded_from_the_prior():
  model, params, carry, _ = built()
  num = 8000
  x = np.asarray(jax.jit(lambda key: model.sample(params, carry, key, num).x)(KEY))
  states = states_of(TINY)
  zeta = jax.random.normal(jax.random.key(5), (4000, model.noise_dims))
  probs = np.asarray(jax.jit(lambda zeta: model.decode(params, carry, zeta, KEY))(zeta), np.float64)
  each = np.where(states[:, None] == 1, probs, 1.0 - probs).reshape(len(states), len(probs), -1).prod(axis=2)
  assert_frequencies_match(x.astype(np.int32), states, each.mean(axis=1), significance=1e-5)


def test_a_latent_that_is_encoded_decodes_as_the_pass_that_made_it():
  model, params, carry, batch = built()
  z = model.encode(params, carry, batch, KEY)
  features, context = model.infer(params, batch, None)
  made = model._down(params, jnp.zeros_like(z), features, context).outputs
  expected = model.output_distribution.mean(TINY, params["decoder"]["output"], made)
  np.testing.assert_allclose(model.decode(params, carry, z, KEY), expected, atol=1e-5)
  np.testing.assert_allclose(model.centre(params, (features, context)), z[:, :2], atol=1e-5)
  top = model.decode(params, carry, z[:, :2], KEY)
  np.testing.assert_allclose(top, model.decode(params, carry, z.at[:, 2:].set(0.0), KEY), atol=1e-6)


LAYOUTS = {"odd sides": (DataSpec((5, 7, 1), 2), Hierarchy(layers=(1, 1), widths=(3, 4), latents=(1, 2), top_width=4)),
           "no top": (TINY, Hierarchy(layers=(2,), widths=(3,), latents=(2,), top_layers=0, top_width=4)),
           "a size without latents": (DataSpec((4, 4, 3), 2), Hierarchy(layers=(0, 1), widths=(3, 4), latents=(1, 1),
                                                                      top_width=4)),
           "labels": (DataSpec((2, 3, 1), 2, num_classes=3), SMALL)}


@pytest.mark.parametrize("name", [name if name == "labels" else pytest.param(name, marks=pytest.mark.slow)
                                  for name in LAYOUTS])
def test_gradients_reach_every_parameter(name):
  spec, network = LAYOUTS[name]
  model, params, carry, batch = built(spec, network, class_conditional=name == "labels")
  grads = jax.jit(jax.grad(lambda params: model.loss(params, carry, batch, KEY, STEP).loss))(params)
  idle = [jax.tree_util.keystr(path) for path, grad in jax.tree_util.tree_leaves_with_path(grads)
          if not np.any(np.asarray(grad))]
  assert not idle
  given = {"condition": jnp.zeros(3, jnp.int32)} if name == "labels" else {}
  assert jax.eval_shape(lambda: model.sample(params, carry, KEY, 3, **given).x).shape == (3, *spec.event)


def test_free_bits_are_of_each_layer():
  """Layers below the floor cost exactly it."""
  model, params, carry, batch = built(free_bits=50.0)
  out = jax.jit(lambda params: model.loss(params, carry, batch, KEY, STEP))(params)
  plain = float(out.metrics["elbo"].value + out.metrics["kl"].value)  # the reconstruction
  assert float(out.loss) == pytest.approx(3 * 50.0 - plain, rel=1e-5)


def test_an_idle_top_alone_is_no_collapse():
  model, *_ = built()
  assert model.verdict({"active_units": 0.0, "kl": 30.0}) == ""
  assert "collapse" in model.verdict({"active_units": 0.0, "kl": 0.01})


@pytest.mark.parametrize("spec, network, error, words", [
    (DataSpec((8,), 2), Hierarchy(), SpecError, "needs images"),
    (DataSpec((3, 8, 1), 2), Hierarchy(), SpecError, "2 sizes.*images are 3 x 8; sides must be at least 4"),
])
def test_data_that_it_cannot_model_are_refused(spec, network, error, words):
  with pytest.raises(error, match=words):
    HierarchicalVAE(spec, network=network)


@pytest.mark.parametrize("fields, words", [
    ({"layers": (1,)}, r"network.layers is \(1,\), widths \(32, 48\) and latents \(2, 4\); they must be equally many"),
    ({"layers": (0, 0), "top_layers": 0}, "there must be at least one layer of latents"),
    ({"widths": (0, 4)}, r"network.widths is \(0, 4\)"),
    ({"num_blocks": 0}, "network.num_blocks is 0; it must be at least 1"),
    ({"activation": "reluu"}, "relu"),
])
def test_networks_that_cannot_be_are_refused(fields, words):
  with pytest.raises(ConfigError, match=words):
    Hierarchy(**fields)


def test_latents_of_another_shape_are_refused():
  model, params, carry, _ = built()
  with pytest.raises(SpecError, match=rf"latent has shape \(2, 3\); it must be \(batch, {model.noise_dims}\), or"):
    model.decode(params, carry, jnp.zeros((2, 3)), KEY)


def test_layers_one_by_one_are_those_of_a_whole_draw():
  """What bits back asks for, layer after layer, is the draw that the bound is of."""
  model, params, carry, batch = built()
  noise, x = jax.random.normal(KEY, (7, model.noise_dims)), jnp.asarray(batch["x"], jnp.int32)
  above, begin = (), 0
  for size in model.latent_layers():
    mean, deviation = model.posterior_moments(params, carry, x, above)
    assert mean.shape == (7, size)
    np.testing.assert_array_equal(model.prior_moments(params, carry, 7, above)[1], 1.0)
    above, begin = (*above, mean + deviation * noise[:, begin:begin + size]), begin + size
  features, _ = model.infer(params, batch, None)
  np.testing.assert_allclose(jnp.concatenate(above, axis=1), model._down(params, noise, features, None).zeta, rtol=1e-4)
  levels = model.level_log_probs(params, carry, above, x, 0)
  total = jnp.sum(jnp.take_along_axis(levels, x, axis=-1), axis=(1, 2, 3))
  np.testing.assert_allclose(total, drawn(model, params, batch, noise).reconstruction, rtol=1e-4)
