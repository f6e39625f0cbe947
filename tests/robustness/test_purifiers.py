"""Purifiers: what PixelDefend chooses, whom it leaves alone, and how attacks go through a purifier."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.attacked import KEY, LEVELS, linear

from gdm.autoregressive.images.gated_pixelcnn import GatedPixelCNN, gated_pixelcnn
from gdm.baselines.independent import Independent
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.model import Samples
from gdm.robustness.diffusion_purifier import DiffusionPurifier
from gdm.robustness.pixel_defend import PixelDefend, threshold_of
from gdm.robustness.target import AttackTarget

SPEC = DataSpec((3, 2, 1), 6)


def pixel_model(spec=SPEC):
  model = gated_pixelcnn(spec, GatedPixelCNN(width=4, num_layers=1, first_size=3, skip_width=4))
  params, carry = model.init(KEY, {"x": np.zeros((1, *spec.event), np.uint8)})
  keys = iter(jax.random.split(KEY, len(jax.tree.leaves(params))))
  return model, jax.tree.map(lambda leaf: leaf + 0.7 * jax.random.normal(next(keys), leaf.shape), params), carry


def images(num=5, spec=SPEC):
  return np.random.default_rng(0).integers(0, spec.levels, (num, *spec.event)).astype(np.uint8)


@pytest.mark.slow
def test_pixel_defend_takes_the_likeliest_value_within_reach_given_the_purified_ones_before():
  """Algorithm 1 by hand: the model's whole pass on what is purified so far."""
  model, params, carry = pixel_model()
  x = images()
  purified = np.asarray(jax.jit(PixelDefend(model, 2).purify)(params, carry, KEY, x))
  want = x.reshape(len(x), -1).astype(int)
  for i in range(SPEC.num_dims):
    logits = np.array(model.logits(params, jnp.asarray(want)))[:, i]
    logits[np.abs(np.arange(SPEC.levels) - x.reshape(len(x), -1)[:, i:i + 1]) > 2] = -np.inf
    want[:, i] = logits.argmax(axis=1)
  np.testing.assert_array_equal(purified.reshape(len(x), -1), want)
  assert np.abs(purified - x.astype(int)).max() <= 2 and np.any(purified != x)


def test_no_epsilon_no_purification_and_what_is_expected_is_left_alone():
  model, params, carry = pixel_model()
  x = images()
  np.testing.assert_array_equal(PixelDefend(model, 0).purify(params, carry, KEY, x), x)
  nats = model.log_likelihood(params, carry, {"x": x}, KEY).nats
  limit = threshold_of(nats, SPEC.num_dims, share=0.5)
  all_of_them = np.asarray(PixelDefend(model, 3).purify(params, carry, KEY, x))
  some = np.asarray(PixelDefend(model, 3, limit).purify(params, carry, KEY, x))
  expected = -np.asarray(nats) / (SPEC.num_dims * np.log(2)) <= limit
  assert 0 < expected.sum() < len(x)
  np.testing.assert_array_equal(some[expected], x[expected])
  np.testing.assert_array_equal(some[~expected], all_of_them[~expected])


@dataclasses.dataclass(frozen=True)
class Shift:
  """A purifier whose effect is known: it adds a level, or a draw of -1, 0 or 1."""

  spec: DataSpec = LEVELS
  draws: bool = False

  def purify(self, params: Any, carry: Any, key: Any, x: Any) -> Any:
    moved = jax.random.randint(key, x.shape, -1, 2) if self.draws else 1
    return jnp.clip(x + moved, 0, self.spec.levels - 1)


def test_behind_a_purifier_the_slope_is_that_at_the_purified_example():
  """BPDA: as if purification were the identity. The classifier itself is met through the purifier."""
  bare, batch = linear(LEVELS)
  behind = AttackTarget(bare.model, bare.params, bare.carry, Shift())
  x, y = jnp.asarray(batch["x"], jnp.int32), jnp.asarray(batch["y"])
  moved = Shift().purify({}, {}, KEY, x)
  np.testing.assert_allclose(behind.log_probs(KEY, x), bare.log_probs(KEY, moved), rtol=1e-6)
  for found, want in zip(behind.slope("margin", KEY, x, y), bare.slope("margin", KEY, moved, y), strict=True):
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_slopes_are_means_over_a_purifiers_draws():
  bare, batch = linear(LEVELS)
  behind = AttackTarget(bare.model, bare.params, bare.carry, Shift(draws=True), num_draws=3)
  x, y = jnp.asarray(batch["x"], jnp.int32), jnp.asarray(batch["y"])
  each = [bare.slope("cross_entropy", KEY, Shift(draws=True).purify({}, {}, key, x), y)[1]
          for key in jax.random.split(KEY, 3)]
  np.testing.assert_allclose(behind.slope("cross_entropy", KEY, x, y)[1], sum(each) / 3, rtol=1e-5, atol=1e-7)


@dataclasses.dataclass(frozen=True)
class Halves:
  """A denoiser whose answer is known: half of what it gets."""

  spec: DataSpec = LEVELS

  def denoise(self, params: Any, carry: Any, key: Any, x: Any, deviation: int | float) -> Samples:
    return Samples(x / 2.0, {})


def test_noise_then_denoise_gives_whole_levels_in_range():
  x = images(2000, LEVELS)
  found = np.asarray(DiffusionPurifier(Halves(), 4.0).purify({}, {}, KEY, jnp.asarray(x)))
  assert found.dtype == np.int32 and found.min() >= 0 and found.max() <= 31
  inside = x > 16  # where clipping at 0 plays no part
  np.testing.assert_allclose((found - x / 2.0)[inside].mean(), 0.0, atol=0.1)
  np.testing.assert_allclose((found - x / 2.0)[inside].std(), np.sqrt(2.0**2 + 1 / 12), rtol=0.05)


def test_purifiers_that_cannot_be_are_told():
  model = pixel_model()[0]
  with pytest.raises(ConfigError, match="epsilon is -1; it must be at least 0"):
    PixelDefend(model, -1)
  with pytest.raises(ConfigError, match="most_bits is 0"):
    PixelDefend(model, 1, 0.0)
  with pytest.raises(ConfigError, match="has no conditionals of its 4 values"):
    PixelDefend(Halves(), 1)
  with pytest.raises(SpecError, match="PixelDefend needs discrete data"):
    PixelDefend(Halves(DataSpec((3,), None)), 1)
  with pytest.raises(ConfigError, match="deviation is 0"):
    DiffusionPurifier(Halves(), 0.0)
  with pytest.raises(ConfigError, match="Independent has no `denoise`"):
    DiffusionPurifier(Independent(SPEC), 1.0)
  with pytest.raises(ConfigError, match="share is"):
    threshold_of(jnp.zeros(3), 2, 1.0)
  bare = linear(LEVELS)[0]
  with pytest.raises(SpecError, match=r"the purifier is of events \(3, 2, 1\) .* but the classifier of \(2, 2, 1\)"):
    AttackTarget(bare.model, bare.params, bare.carry, PixelDefend(model, 1))
  with pytest.raises(ConfigError, match="num_draws is 0"):
    AttackTarget(bare.model, bare.params, bare.carry, Shift(), num_draws=0)
