"""WaveNet: exact, causal to the edge of its receptive field, and the same whether in one pass or step by step."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.commands import Commands
from helpers.enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one, log_probs, states_of
from helpers.token_models import (
  assert_samples_are_the_naive_ones,
  by_steps,
  in_one_pass,
  moved_from_start,
  token_model,
  train,
)

from gdm.autoregressive.sequences.wavenet import WaveNet
from gdm.autoregressive.token_model import token_log_prob
from gdm.data.sources.audio import read_wav, write_wav
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.model import HasPrefill

KEY = jax.random.key(0)
SMALL = DataSpec((3,), 3)
LONGER = DataSpec((12,), 5)
FIELDS = {
    "two_taps": {"num_layers": 2, "num_stacks": 2, "width": 6, "skip_width": 8},  # sees 7 tokens
    "three_taps": {"num_layers": 1, "num_stacks": 3, "width": 6, "skip_width": 5, "kernel_size": 3,
                   "tie_embeddings": True},  # sees 7 tokens
    "gaps": {"num_layers": 3, "num_stacks": 1, "width": 8, "skip_width": 8},  # sees 8 tokens
}
each = pytest.mark.parametrize("name", ["two_taps", "three_taps"])


@functools.lru_cache
def build(name, spec=SMALL, scale=0.3):
  model = token_model("wavenet", spec, **FIELDS[name])
  return model, *moved_from_start(model, scale)


def some(num_steps=12, num=16, seed=0):
  return jnp.asarray(np.random.default_rng(seed).integers(0, 5, (num, num_steps)))


@pytest.mark.slow
@each
def test_sums_to_one_and_samples_match(name):
  assert_sums_to_one(*build(name))
  assert_samples_match(*build(name), jax.random.key(2), num=10_000)


def test_each_conditional_sums_to_one_and_their_product_is_the_joint():
  model, params, carry = build("two_taps")
  states = jnp.asarray(states_of(SMALL))
  steps = np.asarray(jax.nn.log_softmax(by_steps(model, params, states)))
  np.testing.assert_allclose(np.exp(steps).sum(-1), 1.0, rtol=1e-5)
  joint = np.take_along_axis(steps, np.asarray(states)[..., None], -1)[..., 0].sum(-1)
  np.testing.assert_allclose(joint, log_probs(model, params, carry, states), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@each
def test_completions_match_the_enumerated_conditionals(name):
  assert_completions_match(*build(name), jax.random.key(3), np.array([2, 0, 0]), np.array([True, False, False]), 5000)


@pytest.mark.fast_cases("40-gaps")
@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("num_steps", [5, 12, 40])
def test_steps_give_the_logits_of_one_pass(name, num_steps):
  """Within the receptive field, beyond it, and beyond the examples."""
  model, params, _ = build(name, LONGER)
  x = some(num_steps)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-5, atol=1e-5)


def jacobian(model, params, x):
  """How strongly the logits at each position [output] depend on the vector of each input position [input].

  The strongest of several sequences.
  """
  variables, network = {"params": params["model"]}, model.network

  @jax.jit
  @jax.vmap
  @jax.jacrev
  def dependence(vectors):
    return network.apply(variables, vectors[None], method=lambda net, x: net.logits(net.run(x)[0]))[0]

  vectors = network.apply(variables, model.previous(x), method="embed")
  return np.abs(np.asarray(dependence(vectors))).max(axis=(0, 2, 4))


@pytest.mark.fast_cases("gaps-0")
@pytest.mark.parametrize(("name", "num_steps"), [("two_taps", 0), ("three_taps", 0), ("gaps", 0), ("two_taps", 5)])
def test_logits_depend_on_the_receptive_field_and_on_nothing_else(name, num_steps):
  """Input position t holds token t - 1, so that these are the `receptive_field` tokens before each."""
  model, params, carry = build(name, LONGER)
  params = train(model, params, carry, num_steps)
  delay = np.arange(20)[:, None] - np.arange(20)
  assert model.network.receptive_field == {"two_taps": 7, "three_taps": 7, "gaps": 8}[name]
  np.testing.assert_array_equal(jacobian(model, params, some(20, 12)) > 0,
                                (delay >= 0) & (delay < model.network.receptive_field))


def test_receptive_field_is_the_papers():
  """Figure 3: dilations 1, 2, 4, 8 see 16 samples; 1 to 512 see 1,024, and each further stack 1,023 more."""
  assert WaveNet(num_layers=4, num_stacks=1).receptive_field == 16
  assert WaveNet(num_layers=10, num_stacks=3).receptive_field == 1024 + 2 * 1023


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_every_parameter_moves(name):
  model = token_model("wavenet", LONGER, dropout=0.1, **FIELDS[name])
  params, carry = jax.jit(model.init)(KEY, {"x": some()})
  moved = train(model, params, carry, 2)
  for path, before in jax.tree_util.tree_leaves_with_path(params):
    after = functools.reduce(lambda tree, key: tree[key.key], path, moved)
    changed = np.asarray(before) != np.asarray(after)
    if "table" in jax.tree_util.keystr(path):
      assert changed.any(axis=1).all(), f"{path} has rows that never move"
    else:
      assert changed.mean() > 0.8, f"{path} does not move"


@pytest.mark.slow
def test_dropout_is_of_training_alone():
  model, params, carry = build("two_taps", LONGER)
  noisy = token_model("wavenet", LONGER, dropout=0.5, **FIELDS["two_taps"])
  loss = jax.jit(lambda key: noisy.loss(params, carry, {"x": some()}, key, jnp.int32(0)).loss)
  assert loss(jax.random.key(0)) != loss(jax.random.key(1))
  np.testing.assert_array_equal(*(log_probs(m, params, carry, some()) for m in (noisy, model)))


@functools.partial(jax.jit, static_argnums=0)
def score(model, params, x, length):
  return model.log_likelihood(params, {}, {"x": x, "length": length}, KEY)


@pytest.mark.slow
@each
def test_padding_never_changes_a_likelihood(name):
  model, params, _ = build(name, LONGER)
  x, length = np.asarray(some(num=30)), np.random.default_rng(1).integers(1, 13, 30)
  first = score(model, params, x, length)
  np.testing.assert_array_equal(first.num_dims, length)
  for other in (0, 4, 99, -1):
    padded = np.where(np.arange(12) < length[:, None], x, other)
    np.testing.assert_array_equal(score(model, params, padded, length).nats, first.nats)
  for size in (4, 40):  # examples of another size hold the same sequences
    rows = length <= size
    cut = np.pad(x, ((0, 0), (0, 28)))[rows, :size]
    out = score(token_model("wavenet", DataSpec((size,), 5), **FIELDS[name]), params, cut, length[rows])
    np.testing.assert_allclose(out.nats, np.asarray(first.nats)[rows], rtol=1e-5)


@pytest.mark.fast_cases("three_taps")
@each
def test_cached_samples_are_those_of_the_naive_path(name):
  assert_samples_are_the_naive_ones(*build(name, LONGER))


@pytest.mark.slow
@each
def test_generation_of_any_length_is_that_of_the_naive_path(name):
  model, params, _ = build(name, LONGER)
  assert isinstance(model, HasPrefill) and model.context is None
  prompt, lengths = np.pad(some(16, 3), ((0, 0), (0, 2))), np.array([16, 9, 11])
  keys = jax.random.split(jax.random.key(8), 3)
  out = model.generate(params, keys, prompt=prompt, prompt_length=lengths, max_length=30, with_log_probs=True)
  for row, length in enumerate(lengths):
    x = jnp.zeros((1, 30), jnp.int32).at[0, :length].set(prompt[row, :length])
    for index in range(length, 30):
      logits = in_one_pass(model, params, x)[:, index]
      x = x.at[:, index].set(jax.random.categorical(jax.random.fold_in(keys[row], index), logits[0]))
    np.testing.assert_array_equal(out.tokens[row], x[0])
    scores = token_log_prob(in_one_pass(model, params, x), x)[0]
    np.testing.assert_allclose(out.log_probs[row], np.where(np.arange(30) < length, 0, scores), rtol=1e-4, atol=1e-5)
  alone = model.generate(params, keys[1:2], prompt=prompt[1:2, :9], max_length=30)
  np.testing.assert_array_equal(alone.tokens[0], out.tokens[1])


def test_the_cache_does_not_grow_with_what_is_generated():
  model, params, _ = build("two_taps", LONGER)
  assert [ring.shape for ring in model.init_cache(params, 2)] == [(2, 1, 6), (2, 2, 6)] * 2


@pytest.mark.fast_cases("three_taps")
@pytest.mark.parametrize("name", FIELDS)
def test_prefill_leaves_the_cache_of_its_steps(name):
  model, params, _ = build(name, LONGER)
  x, cache = some(20, 2), model.init_cache(params, 2)
  step = jax.jit(lambda cache, previous, index: model.conditional_step(params, cache, previous, index)[0])
  prefill = jax.jit(lambda num: model.prefill(params, model.init_cache(params, 2), x, num))
  for index in range(20):
    cache = step(cache, x[:, index - 1], jnp.int32(index))
    filled = prefill(jnp.int32(index + 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), filled, cache)


def test_images_are_sequences_in_raster_order():
  spec = DataSpec((2, 3, 2), 5)
  (model, params, carry), x = build("two_taps", spec), some()
  flat = token_model("wavenet", LONGER, **FIELDS["two_taps"])
  np.testing.assert_allclose(log_probs(model, params, carry, x.reshape(-1, 2, 3, 2)),
                             log_probs(flat, params, carry, x), rtol=1e-6)
  assert jax.eval_shape(lambda: model.sample(params, carry, KEY, 3).x).shape == (3, 2, 3, 2)


@pytest.mark.parametrize(("fields", "message"), [
    ({"num_layers": 0}, "num_layers is 0; it must be at least 1"),
    ({"kernel_size": 1}, "kernel_size is 1; it must be at least 2"),
    ({"num_layers": 5}, "whose last reaches 16 tokens back, but examples have 12; take num_layers of at most 4"),
    ({"num_layers": 1, "kernel_size": 20}, "reaches 19 tokens back.* take a smaller kernel_size"),
    ({"dropout": 1.0}, r"network.dropout is 1.0; it must be at least 0 and below 1"),
])
def test_fields_that_cannot_be(fields, message):
  with pytest.raises(ConfigError, match=message):
    token_model("wavenet", LONGER, **fields)


@pytest.mark.slow
def test_sound_from_a_file_to_a_file(tmp_path):
  """Two tones: a few steps of training leave far less than the 8 bits that a level takes."""
  time = np.arange(8000) / 8000
  write_wav(tmp_path / "tones.wav", 0.4 * np.sin(2 * np.pi * 440 * time) + 0.4 * np.sin(2 * np.pi * 660 * time), 8000)
  commands, workdir = Commands(tmp_path), tmp_path / "run"
  try:
    commands.good("train", "--config=configs/autoregressive/wavenet.py:audio", f"--workdir={workdir}",
                  f"--config.data.path={tmp_path / 'tones.wav'}#context=128", "--config.model.network.num_layers=5",
                  "--config.model.network.num_stacks=1", "--config.model.network.width=16",
                  "--config.model.network.skip_width=32",
                  "--config.optimizer.warmup_steps=10", "--config.optimizer.learning_rate=0.01",
                  *(f"--config.training.{name}=60" for name in ("num_steps", "eval_every", "checkpoint_every")),
                  "--config.training.ema_decay=0.0")
    commands.good("evaluate", f"--workdir={workdir}", "--split=test")
    report = json.loads((workdir / "likelihood_test.json").read_text())
    assert report["bits_per_dim"] < 6.0
    commands.good("generate", f"--workdir={workdir}", "--num=1", "--length=2000")
  finally:
    commands.close()
  samples, rate = read_wav(workdir / "generated" / "000.wav")
  assert samples.shape == (2000,) and rate == 8000 and np.std(samples) > 0.05
