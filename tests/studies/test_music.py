"""Filling in music: which entries a region keeps, and that what is drawn follows the enumerated conditional."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import all_states, assert_frequencies_match

from gdm.data.dataset import Dataset
from gdm.data.music import Music
from gdm.dataspec import DataSpec
from gdm.discrete_diffusion import ardm
from gdm.discrete_diffusion.networks.network import LogitsNetwork
from gdm.errors import ConfigError
from gdm.runs import defaults
from gdm.runs.sampling import complete
from gdm.runs.trained import TrainedRun
from gdm.studies.music import harmonize, region

STEPS, VOICES = 3, 2
STATES = all_states(2, STEPS * VOICES)
JOINT = np.random.default_rng(0).dirichlet(np.full(len(STATES), 0.5))  # of all 2^6 pieces


def test_voices_or_all_bars_but_some_are_kept():
  known = region("soprano,bass", 32, 4, 4)
  assert known.all(axis=0).tolist() == [True, False, False, True] and known.sum() == 64
  known = region("bars:2", 40, 4, 4)
  assert known[:16].all() and not known[16:32].any() and known[32:].all()
  assert not region("bars:1-3", 40, 4, 4).any() and not region("", 40, 4, 4).any()


@pytest.mark.parametrize("keep", ["descant", "bars:0-1", "bars:2-4", "bars:3-2", "bars:x"])
def test_other_regions_are_refused(keep):
  with pytest.raises(ConfigError, match=r"--keep is"):
    region(keep, 40, 4, 4)


class Exact(LogitsNetwork):
  """The conditionals of `JOINT` given what is not masked, by summing over all pieces."""

  @nn.compact
  def __call__(self, x, time=None):
    flat = x.reshape(len(x), 1, -1)
    fits = jnp.all((flat == self.levels) | (flat == STATES), axis=-1)
    self.param("none", jax.nn.initializers.zeros, ())
    mass = jnp.stack([(fits * JOINT) @ (value == STATES) for value in range(self.levels)], axis=-1)
    return jnp.log(mass + 1e-30).reshape(*x.shape, self.levels)


def run_of(model, params, pieces, has_lengths=True):
  config = defaults.get_config()
  config.model.name, config.evaluation.batch_size = "ardm", 10_000
  rows = {"x": pieces.astype(np.uint8), **({"length": np.full(len(pieces), STEPS)} if has_lengths else {})}
  info = {"music": dataclasses.asdict(Music("voices", 1))}
  spec = dataclasses.replace(model.spec, has_lengths=has_lengths)
  dataset = Dataset("pieces", spec, {"train": rows, "test": rows}, info)
  return TrainedRun.of(config, dataset, model, params, {})


def conditional(known, piece):
  """All pieces that agree with one where known, and their probabilities given that."""
  fits = np.all(STATES[:, known] == piece[known], axis=1)
  return STATES[fits], JOINT[fits] / JOINT[fits].sum()


def test_any_region_of_a_piece_follows_the_enumerated_conditional():
  model = ardm(DataSpec((STEPS, VOICES), 2), network=Exact())
  params, _ = model.init(jax.random.key(0), {})
  num = 8000
  run = run_of(model, params, np.repeat(STATES[:1], 4, axis=0).reshape(4, STEPS, VOICES))
  for seed, known in enumerate(([1, 1, 0, 0, 1, 1], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 0])):
    known, piece = np.array(known, bool), STATES[(11 * seed + 5) % len(STATES)]
    x = np.broadcast_to(piece, (num, STEPS * VOICES)).reshape(num, STEPS, VOICES)
    drawn = np.asarray(complete(run, x, known.reshape(STEPS, VOICES), seed).x).reshape(num, -1)
    np.testing.assert_array_equal(drawn[:, known], np.broadcast_to(piece[known], (num, known.sum())))
    states, probs = conditional(known, piece)
    assert_frequencies_match(drawn, states, probs)
    found = np.array([(drawn == state).all(axis=1).mean() for state in states])
    assert 0.5 * np.abs(found - probs).sum() < 0.05  # total variation


def test_pieces_of_one_length_need_none():
  model = ardm(DataSpec((STEPS, VOICES), 2), network=Exact())
  params, _ = model.init(jax.random.key(0), {})
  pieces = STATES[:5].reshape(-1, STEPS, VOICES)
  found = harmonize(run_of(model, params, pieces, has_lengths=False), "alto", 3, 0)
  np.testing.assert_array_equal(found.x[:, :, 1], pieces[[0, 2, 4], :, 1])
  assert found.lengths.tolist() == [STEPS] * 3


def test_harmonizations_of_each_soprano_are_drawn_as_they_are_probable():
  model = ardm(DataSpec((STEPS, VOICES), 2), network=Exact())
  params, _ = model.init(jax.random.key(0), {})
  soprano = np.arange(STEPS * VOICES) % VOICES == 0
  sung = STATES[~STATES[:, ~soprano].any(axis=1)]  # each soprano once
  each = 2000
  found = harmonize(run_of(model, params, np.repeat(sung, each, axis=0).reshape(-1, STEPS, VOICES)), "soprano",
                    len(sung) * each, 3)
  np.testing.assert_array_equal(found.x[:, :, 0], found.original[:, :, 0])
  for number, piece in enumerate(sung):
    states, probs = conditional(soprano, piece)
    assert_frequencies_match(found.x[number * each:(number + 1) * each], states, probs)
