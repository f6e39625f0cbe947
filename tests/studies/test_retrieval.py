"""Captions and examples found among candidates: each is looked for once, and found as the probabilities say."""

import dataclasses
import types

import numpy as np
import pytest

from gdm.data.dataset import Dataset
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.studies.retrieval import blocks, hits_of, retrieve


def test_every_example_is_looked_for_once():
  found = blocks(np.array([4, 2, 0, 1, 3]), 3)
  assert [len(block) for block, _ in found] == [3, 3] and all(len(set(block)) == 3 for block, _ in found)
  assert sorted(np.concatenate([block[new] for block, new in found])) == [0, 1, 2, 3, 4]


def test_hits_are_those_of_bayes_rule():
  # Example 1 is likely whatever the caption, so that every caption makes it likeliest; but it tells little of captions.
  nats = np.log([[0.2, 0.1, 0.1], [0.9, 0.8, 0.9], [0.1, 0.1, 0.3]])
  np.testing.assert_array_equal(hits_of(nats), [[1, 0, 1], [1, 1, 1]])


@dataclasses.dataclass(frozen=True)
class Guesser:
  """Knows the captions of the first half of the examples, and is blind to the others."""

  prefix_conditional: bool = True
  prefix_optional: bool = True


def stub(model):
  x = np.arange(20)[:, None].astype(np.int32)
  dataset = Dataset("numbers", DataSpec((1,), 20, prefix_steps=1, prefix_levels=21), {
      "test": {"x": x, "prefix": x + 1}})

  def log_likelihood(x, prefix, seed):
    knows = (x[:, 0] + 1 == prefix[:, 0]) & (x[:, 0] < 10)
    return types.SimpleNamespace(nats=np.where(prefix[:, 0] == 0, -2.0, np.where(knows, -1.0, -3.0)))

  return types.SimpleNamespace(model=model, dataset=dataset, log_likelihood=log_likelihood, name="guesser")


def test_a_model_that_knows_half_of_them():
  found = retrieve(stub(Guesser()), "test", 5, repeats=3)
  assert found.caption[0] == pytest.approx(0.5 + 0.5 / 5)  # by chance where it knows nothing
  assert found.gain[0] == pytest.approx(0.5 * 1.0 + 0.5 * -1.0)


@dataclasses.dataclass(frozen=True)
class Knower(Guesser):
  prefix_optional: bool = False


def test_a_model_that_finds_all_has_an_interval_all_the_same():
  run = stub(Knower())
  run.log_likelihood = lambda x, prefix, seed: types.SimpleNamespace(nats=-np.abs(x[:, 0] + 1.0 - prefix[:, 0]))
  found = retrieve(run, "test", 5, repeats=3)
  assert found.caption == found.example == (1.0, pytest.approx(1.0 - 0.025 ** (1 / 20)))  # Clopper and Pearson's of 20
  assert "100.0% ± 16.8%" in found.in_words
  assert (found.num_examples, found.num_candidates) == (20, 5)


def test_what_cannot_be_asked():
  with pytest.raises(ConfigError, match="guesser is not conditional on captions"):
    retrieve(stub(Guesser(prefix_conditional=False)), "test")
  with pytest.raises(ConfigError, match="--candidates is 21; it must be from 2 to 20"):
    retrieve(stub(Guesser()), "test", 21)
