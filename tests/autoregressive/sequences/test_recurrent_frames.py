"""Recurrent frames: sums over all rolls, draws and completions by enumeration, padding, contexts by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.enumeration import (
  assert_completions_match,
  assert_frequencies_match,
  assert_samples_match,
  assert_sums_to_one,
  states_of,
)

from gdm.autoregressive.sequences.recurrent_frames import FrameNetwork, RecurrentFrames
from gdm.autoregressive.vectors.heads import MixtureSettings
from gdm.autoregressive.vectors.made import MADE, MaskedMLP
from gdm.autoregressive.vectors.mlp import UntiedMLP
from gdm.autoregressive.vectors.nade import NADE
from gdm.autoregressive.vectors.rnade import RNADE
from gdm.dataspec import DataSpec
from gdm.energy.discrete.conditional_rbm import ConditionalRBM
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import Kind

KEY = jax.random.key(0)
ROLL = DataSpec((3, 2), 2)
WIDTH = 5


def frame(spec, **more):
  return DataSpec(spec.event[1:], spec.levels, context_dims=WIDTH, **more)


def nade(spec):
  return NADE(frame(spec), hidden=4)


def made(spec):
  return MADE(frame(spec), network=MaskedMLP((6,)), num_orderings=2)


def rbm(spec):
  return ConditionalRBM(frame(spec), num_hidden=3, normalizer="exact", num_temperatures=30)


def model_of(frames, spec=ROLL, cell="lstm", num_layers=1, **more):
  return RecurrentFrames(spec, FrameNetwork(cell, num_layers, WIDTH, **more), frames(spec),
                         "own" if frames is rbm else "likelihood")


def moved(model, seed=1, batch=None):
  """Parameters far from where training starts, so that no part of the model is without effect."""
  x = np.random.default_rng(seed).integers(0, model.spec.levels, (8, *model.spec.event)).astype(np.uint8)
  params, carry = model.init(KEY, batch or {"x": x})
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return jax.tree.unflatten(tree, [leaf + 0.7 * jax.random.normal(key, leaf.shape)
                                   for leaf, key in zip(leaves, keys, strict=True)]), carry


@pytest.mark.parametrize("frames", [nade, pytest.param(made, marks=pytest.mark.slow),
                                    pytest.param(rbm, marks=pytest.mark.slow)])
def test_all_rolls_sum_to_one_and_draws_are_from_them(frames):
  model = model_of(frames)
  params, carry = moved(model)
  assert_sums_to_one(model, params, carry)
  assert_samples_match(model, params, carry, KEY)


@pytest.mark.slow
def test_a_beginning_is_completed_by_its_conditional():
  model = model_of(nade, cell="gru", num_layers=2)
  params, carry = moved(model)
  known = np.array([[1, 1], [0, 0], [0, 0]], bool)
  assert_completions_match(model, params, carry, KEY, np.array([[1, 0], [0, 0], [0, 0]]), known)
  with pytest.raises(SpecError, match="frame 0 is not known whole"):
    model.complete(params, carry, KEY, np.zeros((1, 3, 2), np.int32), ~known)


def test_padding_counts_for_nothing_and_every_real_frame_does():
  spec = DataSpec((3, 2), 2, has_lengths=True)
  model = model_of(nade, spec)
  whole = model_of(nade)
  params, carry = moved(model)
  x = states_of(ROLL)[::7]
  length = np.arange(len(x)) % 3 + 1
  score = jax.jit(model.log_likelihood)
  found = score(params, carry, {"x": x, "length": length}, KEY)
  for steps in (1, 3):
    rows = length == steps
    short = DataSpec((steps, 2), 2)
    alone = jax.jit(RecurrentFrames(short, whole.network, whole.frame).log_likelihood)(
        params, carry, {"x": x[rows, :steps]}, KEY)
    np.testing.assert_allclose(found.nats[rows], alone.nats, rtol=1e-5)
    assert (np.asarray(found.num_dims)[rows] == 2 * steps).all()
  other = np.where(np.arange(3)[:, None] < length[:, None, None], x, 7)
  np.testing.assert_array_equal(score(params, carry, {"x": other, "length": length}, KEY).nats, found.nats)
  loss = jax.jit(model.loss)(params, carry, {"x": other, "length": length}, KEY, jnp.zeros(()))
  np.testing.assert_allclose(loss.loss, -jnp.sum(found.nats) / (3 * len(x)), rtol=1e-5)
  np.testing.assert_allclose(loss.metrics["nats_per_frame"].value, -jnp.sum(found.nats) / length.sum(), rtol=1e-5)


def test_marginals_of_the_first_batch_are_those_of_real_frames():
  spec = DataSpec((4, 2), 2, has_lengths=True)
  model = model_of(nade, spec)
  x = np.zeros((8, 4, 2), np.uint8)
  x[:, :2, 0] = 1  # in every real frame the first note sounds
  params, _ = model.init(KEY, {"x": x, "length": np.full(8, 2)})
  assert params["frame_model"]["bias"][0] > 2 and params["frame_model"]["bias"][1] < -2


@pytest.mark.slow
def test_what_is_given_at_a_step_changes_no_frame_before_it():
  spec = DataSpec((3, 2), 2, context_dims=6)
  model = model_of(nade, spec)
  assert model.context_conditional
  context = np.zeros((64, 6), np.float32)
  x = states_of(ROLL)
  params, carry = moved(model, batch={"x": x[:8].astype(np.uint8), "context": context[:8]})
  context = np.tile(np.array([[0.3, -1.0, 2.0, 0.5, -0.7, 1.5]], np.float32), (64, 1))
  found = jax.jit(model.log_likelihood)(params, carry, {"x": x, "context": context}, KEY)
  assert found.given == ("context",) and found.kind is Kind.EXACT
  np.testing.assert_allclose(jnp.exp(found.nats).sum(), 1.0, rtol=1e-4)
  x = jnp.asarray(x)
  states = model.states(params, x, jnp.asarray(context))
  later = context.copy()
  later[:, 2:4] = 5.0  # what is given at the second step
  moved_states = model.states(params, x, jnp.asarray(later))
  np.testing.assert_array_equal(states[:, 0], moved_states[:, 0])
  assert (jnp.abs(states[:, 1:] - moved_states[:, 1:]).max(axis=(0, 2)) > 1e-3).all()
  drawn = model.sample(params, carry, KEY, 20_000, context[0]).x
  assert_frequencies_match(np.asarray(drawn), states_of(ROLL), np.exp(np.asarray(found.nats, np.float64)))


@pytest.mark.slow
def test_a_closed_loop_draws_frames_given_actions_that_follow_from_the_frame_before():
  spec = DataSpec((3, 2), 2, context_dims=3)
  model = model_of(nade, spec)
  x = states_of(ROLL)
  params, carry = moved(model, batch={"x": x[:8].astype(np.uint8), "context": np.zeros((8, 3), np.float32)})
  done = np.concatenate([np.zeros((64, 1)), 2.0 * x[:, :2, 0] - x[:, :2, 1]], axis=1).astype(np.float32)
  nats = jax.jit(model.log_likelihood)(params, carry, {"x": x, "context": done}, KEY).nats
  probs = np.exp(np.asarray(nats, np.float64))
  np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-4)

  def act(frame, step):
    del step
    return 2.0 * frame[:, :1] - frame[:, 1:]

  frames, actions = model.closed_loop(params, carry, KEY, 20_000, act)
  assert_frequencies_match(np.asarray(frames), x, probs)
  np.testing.assert_array_equal(actions[:, 1:, 0], 2.0 * frames[:, :2, 0] - frames[:, :2, 1])
  assert not np.asarray(actions[:, 0]).any()
  with pytest.raises(SpecError, match="closed_loop needs frames"):
    model_of(nade).closed_loop(params, carry, KEY, 2, act)


@pytest.mark.slow
def test_a_mixture_density_network_recovers_a_known_system():
  """s' = 0.8 s + a + noise, and with one chance in four the noise pushes 3 further: two modes given an action."""
  rng = np.random.default_rng(0)
  num, steps, stddev = 3072, 8, 0.3
  actions = rng.normal(size=(num, steps))
  noise = stddev * rng.normal(size=(num, steps)) + 3.0 * (rng.random((num, steps)) < 0.25)
  x = np.zeros((num, steps, 1), np.float32)
  for step in range(steps):
    x[:, step, 0] = 0.8 * (x[:, step - 1, 0] if step else 0.0) + actions[:, step] + noise[:, step]
  spec = DataSpec((steps, 1), None, context_dims=steps)
  mixture = RNADE(DataSpec((1,), None, context_dims=16), hidden=8, mixture=MixtureSettings(3))
  model = RecurrentFrames(spec, FrameNetwork("gru", 1, 16), mixture)
  held, batch = ({"x": x[part], "context": actions[part].astype(np.float32)}
                 for part in (slice(1024), slice(1024, None)))
  params, carry = model.init(KEY, batch)
  optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 700))

  @jax.jit
  def train(params, state, key):
    grads = jax.grad(lambda params: model.loss(params, carry, batch, key, jnp.zeros(())).loss)(params)
    updates, state = optimizer.update(grads, state)
    moved = optax.apply_updates(params, updates)
    return {**moved, "frame_units": params["frame_units"]}, state

  state = optimizer.init(params)
  for index in range(700):
    params, state = train(params, state, jax.random.fold_in(KEY, index))
  # The entropy of the noise is what no model can go below; a single Gaussian is far above it.
  grid = np.linspace(-3, 6, 20_001)
  density = (0.75 * np.exp(-0.5 * (grid / stddev) ** 2) + 0.25 * np.exp(-0.5 * ((grid - 3) / stddev) ** 2)) / (
      stddev * np.sqrt(2 * np.pi))
  entropy = -np.trapezoid(density * np.log(density), grid)
  nats = -float(model.log_likelihood(params, carry, held, KEY).nats.mean()) / steps
  assert abs(nats - entropy) < 0.12, (nats, entropy)
  given = np.zeros((4000, steps), np.float32)
  drawn = np.asarray(model.sample(params, carry, KEY, 4000, given).x)
  pushed = drawn[:, 1:, 0] - 0.8 * drawn[:, :-1, 0]
  np.testing.assert_allclose((pushed > 1.5).mean(), 0.25, atol=0.03)
  np.testing.assert_allclose(pushed[pushed < 1.5].std(), stddev, rtol=0.15)


def test_what_cannot_be_is_said():
  with pytest.raises(ConfigError, match=r"model.frame is UntiedMLP, which takes no context"):
    RecurrentFrames(ROLL, FrameNetwork(width=WIDTH), UntiedMLP(DataSpec((2,), 2)))
  with pytest.raises(ConfigError, match=r"model.frame is None"):
    RecurrentFrames(ROLL)
  with pytest.raises(SpecError, match="context of recurrent_frames is of 3 steps"):
    model_of(nade, DataSpec((3, 2), 2, context_dims=4))
  with pytest.raises(ConfigError, match=r"network\.cell is 'grue'"):
    FrameNetwork("grue")
  with pytest.raises(ConfigError, match=r"model\.objective is 'mine'"):
    RecurrentFrames(ROLL, FrameNetwork(width=WIDTH), nade(ROLL), objective="mine")
