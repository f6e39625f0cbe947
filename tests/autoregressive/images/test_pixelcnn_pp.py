"""PixelCNN++: exact, causal without a blind spot, and the same in one pass or pixel by pixel, at every resolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_sums_to_one, log_probs, states_of
from helpers.image_models import COLOUR, GREY, image_model
from helpers.token_models import by_steps, in_one_pass, some, train

from gdm.autoregressive.images.pixel_codes import image_codes
from gdm.autoregressive.images.pixels import MIN_LOG_SCALE
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError

KEY = jax.random.key(0)
LARGER = DataSpec((4, 4, 1), 5)
LARGER_COLOUR = DataSpec((4, 6, 3), 3)
names = ["grey", "colour at two scales"]
each_space = pytest.mark.parametrize(("spec", "num_scales"), [(GREY, 1), (COLOUR, 2)], ids=names)
each_image = pytest.mark.parametrize(("spec", "num_scales"), [(LARGER, 1), (LARGER_COLOUR, 2)], ids=names)


@functools.lru_cache
def build(spec, num_scales=1, **fields):
  """A model, and parameters far from their start, so that no property holds by a zero."""
  model = image_model("pixelcnn_pp", spec, num_scales=num_scales, **fields)
  shapes, carry = jax.eval_shape(model.init, KEY, {"x": some(spec)})
  rng = np.random.default_rng(1)

  def drawn(leaf):
    scale = 1.0 / np.sqrt(leaf.shape[0]) if leaf.ndim == 2 else 0.2
    return jnp.asarray(rng.normal(0.0, scale, leaf.shape), jnp.float32)

  return model, jax.tree.map(drawn, shapes), carry


@functools.lru_cache
def trained(spec, num_scales):
  """The same after a few steps."""
  model, params, carry = build(spec, num_scales)
  return model, train(model, params, carry, 3), carry


@pytest.mark.slow
@each_space
def test_sums_to_one_and_its_steps_are_the_chain_of_it(spec, num_scales):
  model, params, carry = build(spec, num_scales)
  states = jnp.asarray(states_of(spec))
  joint = log_probs(model, params, carry, states)
  assert_sums_to_one(model, params, carry)
  steps = np.asarray(by_steps(model, params, states))
  np.testing.assert_allclose(np.exp(steps).sum(-1), 1.0, rtol=1e-4)
  chosen = np.take_along_axis(steps, np.asarray(states).reshape(len(states), -1, 1), -1)[..., 0]
  np.testing.assert_allclose(chosen.sum(-1), joint, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@each_image
def test_steps_give_the_logits_of_one_pass(spec, num_scales):
  model, params, _ = build(spec, num_scales)
  x = some(spec)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_three_scales_and_larger_kernels_step_alike():
  model, params, _ = build(DataSpec((8, 12, 1), 3), 3, num_blocks=2, first_size=5, kernel_size=5)
  x = some(model.spec)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_pixels_depend_on_everything_that_comes_before_and_on_nothing_else():
  """By the gradient of each pixel's outputs with respect to each pixel's codes, also after training."""
  model, params, _ = build(LARGER_COLOUR, 2)
  height, columns, _ = model.spec.event
  codes = image_codes(some(model.spec, 6), model.levels)

  @jax.jit
  def dependence(params):
    def of_pixels(codes):
      outputs = model.network.apply({"params": params["model"]}, codes[None], method="outputs_from_codes")
      return outputs.reshape(height * columns, -1)[:, ::2].sum(axis=1)

    return jnp.abs(jax.vmap(jax.jacrev(of_pixels))(codes)).max(axis=(0, 4)).reshape(height * columns, -1)

  for each in (params, trained(LARGER_COLOUR, 2)[1]):
    np.testing.assert_array_equal(dependence(each) > 0, np.tri(height * columns, k=-1, dtype=bool))


@pytest.mark.fast_cases("grey")
@pytest.mark.parametrize(("made", "spec", "num_scales"), [
    (build, LARGER, 1), (build, LARGER_COLOUR, 2), (trained, LARGER_COLOUR, 2)], ids=[*names, "trained"])
def test_values_depend_on_every_value_before_them_and_on_nothing_else(made, spec, num_scales):
  """By changing one value at a time, channels of a pixel included."""
  model, params, _ = made(spec, num_scales)
  x, steps = np.asarray(some(spec)).reshape(16, -1), spec.num_dims
  before = np.asarray(in_one_pass(model, params, x.reshape(16, *spec.event)))
  seen = np.zeros((steps, steps), bool)
  for index in range(steps):
    changed = x.copy()
    changed[:, index] = (changed[:, index] + 1) % spec.levels
    seen[:, index] = (in_one_pass(model, params, changed.reshape(16, *spec.event)) != before).any(axis=(0, 2))
  np.testing.assert_array_equal(seen, np.tri(steps, k=-1, dtype=bool))


@pytest.mark.slow
def test_every_parameter_moves():
  _, before, _ = build(LARGER_COLOUR, 2)
  _, after, _ = trained(LARGER_COLOUR, 2)
  for path, old in jax.tree_util.tree_leaves_with_path(before):
    new = functools.reduce(lambda tree, key: tree[key.key], path, after)
    moved = (np.asarray(old) != np.asarray(new)).mean()
    assert moved > 0.99, f"{jax.tree_util.keystr(path)} moves in {moved} of its entries alone"


@pytest.mark.slow
def test_mixtures_as_narrow_and_as_wide_as_can_be_have_finite_probabilities():
  model, params, carry = build(COLOUR, 2)
  x = states_of(COLOUR)
  for scale in (0.0, 10.0, 100.0):
    scaled = jax.tree.map(functools.partial(jnp.multiply, scale), params)
    assert np.isfinite(log_probs(model, scaled, carry, x)).all()
  assert model.pixels.mixture(jnp.full(model.network.outputs, -1e3), 3).log_scales.min() == MIN_LOG_SCALE
  assert np.isnan(log_probs(model, params, carry, np.full_like(x, 2))).all()


def test_a_mixture_has_a_component():
  with pytest.raises(ConfigError, match=r"pixels\.mixture_size is 0; it must be at least 1"):
    image_model("pixelcnn_pp", GREY, {"pixels": {"mixture_size": 0}})
