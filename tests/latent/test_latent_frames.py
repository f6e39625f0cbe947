"""Latent frames: bounds of probabilities given actions, dreams that are the model's, and a known system recovered."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.enumeration import states_of

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import Kind
from gdm.model import HasClosedLoop, HasLatent
from gdm.runs.registry import build_model

KEY = jax.random.key(0)
TINY = DataSpec((2, 1, 2, 1), 2, context_dims=2)  # two frames of two pixels, and a number given at each
MARKED = dataclasses.replace(TINY, num_classes=2)
SIZES = {"frame": {"name": "vae", "latent_dims": 2, "encoder": {"name": "mlp", "hidden": (6,)},
                   "decoder": {"name": "mlp", "hidden": (6,)}},
         "latents": {"name": "recurrent_frames", "network": {"cell": "gru", "width": 5},
                     "frame": {"name": "rnade", "hidden": 4, "mixture": {"size": 2}}}}


def moved(model, batch):
  """Parameters far from where training starts, but for the units, which training leaves alone. Posteriors are wider
  than what latents follow, so that weights have a variance."""
  rng = np.random.default_rng(0)
  params, carry = jax.jit(model.init)(KEY, batch)
  params = {group: jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(leaf.dtype), tree)
            if group in model.objectives[0].groups else tree for group, tree in params.items()}
  wide = jnp.repeat(jnp.array([0.0, 0.8]), model.latent_dims)  # the encoder's last layer: means, then log-scales

  def widened(leaf):
    if leaf.shape == (*wide.shape, 1):  # the biases
      return wide[:, None]
    return 0.1 * leaf if leaf.shape[-1:] == wide.shape else leaf

  return {**params, "frame_encoder": jax.tree.map(widened, params["frame_encoder"])}, carry


def built(spec, **more):
  return build_model({"name": "latent_frames", **SIZES, **more}, spec)


@functools.cache
def trained(spec):
  model = built(spec)
  x = states_of(TINY).astype(np.uint8)
  batch = {"x": x, "context": np.zeros((16, 2), np.float32), "y": np.arange(16) % 2}
  return model, *moved(model, batch)


def probabilities(model, params, carry, batch, num_samples=2000):
  nats = jax.jit(lambda batch: model.log_likelihood(params, carry, batch, KEY, num_samples).nats)(batch)
  return np.exp(np.asarray(nats, np.float64))


@pytest.mark.parametrize("actions", [(0.0, 0.0), (0.5, -2.0)])
def test_probabilities_given_actions_sum_to_one_with_many_draws_and_to_less_with_one(actions):
  model, params, carry = trained(TINY)
  batch = {"x": states_of(TINY), "context": np.tile(np.array(actions, np.float32), (16, 1))}
  probs = probabilities(model, params, carry, batch)
  np.testing.assert_allclose(probs.sum(), 1.0, atol=0.05)
  found = jax.jit(model.log_likelihood)(params, carry, batch, KEY)
  assert found.kind is Kind.LOWER_BOUND and found.given == ("context",) and found.unbiased
  np.testing.assert_allclose(found.nats, found.details["reconstruction"] - found.details["rate"], rtol=1e-4)
  keys = jax.random.split(KEY, 300)
  nats = jax.jit(lambda: jax.lax.map(lambda key: model.log_likelihood(params, carry, batch, key).nats, keys))()
  assert np.exp(np.asarray(nats, np.float64).mean(axis=0)).sum() < 0.99


def test_ends_are_modelled_with_the_frames():
  """Probabilities of the frames and whether they end sum to one together."""
  model, params, carry = trained(MARKED)
  assert model.marks_ends and model.latents.spec.event == (2, 3)
  batch = {"x": np.concatenate([states_of(TINY)] * 2), "y": np.repeat([0, 1], 16),
           "context": np.zeros((32, 2), np.float32)}
  nats = jax.jit(lambda: model.log_likelihood(params, carry, batch, KEY, 500).nats)()
  # Marks of two frames have four patterns, of which two are of no episode: it ends at its last frame or not at all.
  assert 0.0 < np.exp(np.asarray(nats, np.float64)).sum() < 1.0
  with pytest.raises(SpecError, match="models whether an episode ended; the batch must have labels y"):
    model.log_likelihood(params, carry, {name: batch[name] for name in ("x", "context")}, KEY)


def test_samples_are_as_frequent_as_they_are_likely():
  model, params, carry = trained(TINY)
  context = np.array([0.5, -2.0], np.float32)
  batch = {"x": states_of(TINY), "context": np.tile(context, (16, 1))}
  probs = probabilities(model, params, carry, batch, 4000)
  drawn = np.asarray(jax.jit(lambda: model.sample(params, carry, KEY, 20_000, context).x)())
  counts = np.bincount(drawn.reshape(-1, 4) @ np.array([8, 4, 2, 1]), minlength=16)
  order = states_of(TINY).reshape(16, 4) @ np.array([8, 4, 2, 1])
  np.testing.assert_allclose(counts[order] / 20_000, probs, atol=0.015)


def test_padding_is_no_data():
  spec = DataSpec((3, 1, 2, 1), 2, has_lengths=True)
  model = built(spec)
  x = np.random.default_rng(0).integers(0, 2, (8, *spec.event)).astype(np.uint8)
  length = np.arange(8, dtype=np.int32) % 3 + 1
  params, carry = moved(model, {"x": x, "length": length})
  score = jax.jit(lambda x, length: model.log_likelihood(params, carry, {"x": x, "length": length}, KEY))
  first = score(x, length)
  np.testing.assert_array_equal(first.num_dims, 2 * length)
  real = np.arange(3) < length[:, None]
  other = score(np.where(real[..., None, None, None], x, 77).astype(np.uint8), length)
  np.testing.assert_array_equal(first.nats, other.nats)
  assert np.isnan(score(x, np.array([0, 4, -1, 9, 0, 4, -1, 9], np.int32)).nats).all()


def test_a_dream_is_of_latents_and_decodes_to_frames():
  model, params, carry = trained(MARKED)
  assert isinstance(model, HasClosedLoop) and isinstance(model, HasLatent)

  def act(frames, step):  # the newest frame, then the one before: at first the same
    del step
    return frames[:, :1] - frames[:, 3:4]

  latents, actions = jax.jit(lambda: model.closed_loop(params, carry, KEY, 5, act, 6, 2))()
  assert latents.shape == (5, 6, 3) and not np.asarray(actions[:, :2]).any()
  np.testing.assert_allclose(actions[:, 2:, 0], latents[:, 1:-1, 0] - latents[:, :-2, 0], rtol=1e-5)
  frames = model.decode(params, carry, latents, KEY)
  assert frames.shape == (5, 6, 1, 2, 1) and float(frames.min()) >= 0 and float(frames.max()) <= 1
  x = states_of(TINY)
  assert model.encode(params, carry, {"x": x}, KEY).shape == (16, 2, 2)
  assert model.encode(params, carry, {"x": x[:1, :1]}, KEY).shape == (1, 1, 2)


@pytest.mark.slow
def test_a_known_system_is_recovered():
  """A lit pixel of four moves by the action, or with one chance in five stays: the entropy of that is the bound."""
  rng = np.random.default_rng(0)
  num, steps = 4096, 6
  actions = rng.integers(0, 2, (num, steps)) * 2 - 1
  place = np.zeros((num, steps), int)
  place[:, 0] = rng.integers(0, 4, num)
  for step in range(1, steps):
    place[:, step] = (place[:, step - 1] + actions[:, step] * (rng.random(num) < 0.8)) % 4
  x = np.eye(4, dtype=np.uint8)[place][:, :, None, :, None]
  batch = {"x": x, "context": actions.astype(np.float32)}
  sizes = {"frame": {**SIZES["frame"], "encoder": {"name": "mlp", "hidden": (32,)},
                     "decoder": {"name": "mlp", "hidden": (32,)}},
           "latents": {"name": "recurrent_frames", "network": {"cell": "gru", "width": 32},
                       "frame": {"name": "rnade", "hidden": 32, "mixture": {"size": 4}}}}
  model = built(DataSpec((steps, 1, 4, 1), 2, context_dims=steps), **sizes)
  train, held = ({name: rows[part] for name, rows in batch.items()} for part in (slice(1024, None), slice(1024)))
  params, carry = jax.jit(model.init)(KEY, train)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(5e-3, 1200)))
  groups = model.objectives[0].groups

  @jax.jit
  def train_step(params, state, key):
    rows = jax.random.randint(key, (256,), 0, num - 1024)
    part = {name: jnp.asarray(values)[rows] for name, values in train.items()}

    def loss(own):
      return model.loss({**params, **own}, carry, part, key, jnp.zeros(())).loss

    updates, state = optimizer.update(jax.grad(loss)({group: params[group] for group in groups}), state)
    return {**params, **optax.apply_updates({group: params[group] for group in groups}, updates)}, state

  state = optimizer.init({group: params[group] for group in groups})
  for index in range(1200):
    params, state = train_step(params, state, jax.random.fold_in(KEY, index))
  found = jax.jit(lambda: model.log_likelihood(params, carry, held, KEY, 16).nats)()
  entropy = np.log(4.0) + (steps - 1) * -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
  assert entropy - 0.1 < -float(found.mean()) < entropy + 0.6, (float(found.mean()), entropy)


def test_what_cannot_be_is_said():
  with pytest.raises(SpecError, match=r"needs examples \[steps, \*frame\], but spec.event is \(4,\)"):
    built(DataSpec((4,), 2))
  with pytest.raises(ConfigError, match=r"model.output is GaussianOutput; bits back codes discrete data"):
    built(DataSpec((4, 3), None))
  with pytest.raises(SpecError, match=r"spec\.num_classes is 5; labels of latent_frames say whether an episode ended"):
    built(dataclasses.replace(TINY, num_classes=5))
  with pytest.raises(ConfigError, match=r"model.frame is MADE; it must be a model of discrete frames with an encoder"):
    built(TINY, frame={"name": "made"})
  with pytest.raises(ConfigError, match=r"model.posterior is Full; bits back"):
    built(TINY, frame={**SIZES["frame"], "posterior": {"name": "full"}})
  with pytest.raises(ConfigError, match=r"model.latents is None; it must be a model of sequences of real numbers"):
    built(TINY, latents=None)
