"""WaveNet: its receptive field and its rings; what holds for all networks of sequences is in test_networks.py."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.commands import Commands
from helpers.sequence_models import LONGER, build, cases_of, dependence_on_vectors
from helpers.token_models import some, train

from gdm.autoregressive.sequences.wavenet import WaveNet
from gdm.data.sources.audio import read_sound, write_wav
from gdm.dataspec import DataSpec

LONG = DataSpec((20,), 5)


@pytest.mark.fast_cases("gaps-0")
@pytest.mark.parametrize(("case", "num_steps"), [("two_taps", 0), ("three_taps", 0), ("gaps", 0), ("two_taps", 5)])
def test_logits_depend_on_the_receptive_field_and_on_nothing_else(case, num_steps):
  """Input position t holds token t - 1, so that these are the `receptive_field` tokens before each."""
  model, params, carry = build(case, LONGER)
  params = train(model, params, carry, num_steps)
  delay = np.arange(20)[:, None] - np.arange(20)
  assert model.network.receptive_field == {"two_taps": 7, "three_taps": 7, "gaps": 8}[case]
  vectors = model.network.apply({"params": params["model"]}, model.previous(some(LONG, 12)), method="embed")
  np.testing.assert_array_equal(dependence_on_vectors(model, params, vectors) > 0,
                                (delay >= 0) & (delay < model.network.receptive_field))


def test_receptive_field_is_the_papers():
  """Figure 3: dilations 1, 2, 4, 8 see 16 samples; 1 to 512 see 1,024, and each further stack 1,023 more."""
  assert WaveNet(num_layers=4, num_stacks=1).receptive_field == 16
  assert WaveNet(num_layers=10, num_stacks=3).receptive_field == 1024 + 2 * 1023


def test_the_cache_does_not_grow_with_what_is_generated():
  model, params, _ = build("two_taps", LONGER)
  assert [ring.shape for ring in model.init_cache(params, 2)] == [(2, 1, 6), (2, 2, 6)] * 2


@pytest.mark.fast_cases("three_taps")
@pytest.mark.parametrize("case", cases_of("wavenet"))
def test_prefill_leaves_the_cache_of_its_steps(case):
  model, params, _ = build(case, LONGER)
  x, cache = some(LONG, 2), model.init_cache(params, 2)
  step = jax.jit(lambda cache, previous, index: model.conditional_step(params, cache, previous, index)[0])
  prefill = jax.jit(lambda num: model.prefill(params, model.init_cache(params, 2), x, num))
  for index in range(20):
    cache = step(cache, x[:, index - 1], jnp.int32(index))
    filled = prefill(jnp.int32(index + 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), filled, cache)


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
  samples, rate = read_sound(workdir / "generated" / "000.wav")
  assert samples.shape == (2000,) and rate == 8000 and np.std(samples) > 0.05
