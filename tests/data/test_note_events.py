"""Notes as tokens: one string for each roll, and a likelihood of rolls that sums to at most one."""

import itertools

import jax
import numpy as np
import pytest
from helpers.enumeration import all_states

from gdm.data.load import load_dataset
from gdm.data.music import Music
from gdm.data.note_events import from_events, num_frames, to_events
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.runs.registry import build_model

ROLLS = all_states(2, 6).reshape(-1, 3, 2)  # three frames of two keys


def save(tmp_path, seed=0):
  rng = np.random.default_rng(seed)
  arrays = {}
  for name, lengths in (("train", [5, 3]), ("valid", [4]), ("test", [2, 6])):
    arrays[name] = (rng.random((sum(lengths), 88)) < 0.04).astype(np.uint8)
    arrays[name][:, [0, 87]] = 0
    arrays[f"{name}_length"] = np.array(lengths)
  np.savez(tmp_path / "rolls.npz", **arrays)
  return f"npz:{tmp_path / 'rolls.npz'}#music=roll:2", arrays


def test_each_roll_is_one_string_and_no_string_begins_another():
  strings = [tuple(to_events(roll)) for roll in ROLLS]
  assert tuple(to_events(np.array([[1, 0, 1], [0, 0, 0]]))) == (3, 1, 0, 0)
  for roll, string in zip(ROLLS, strings, strict=True):
    np.testing.assert_array_equal(from_events(np.array(string), 2), roll)
    assert len(string) == roll.sum() + 3
  assert len(set(strings)) == len(ROLLS)
  assert not any(a == b[:len(a)] for a, b in itertools.permutations(strings, 2))
  # Other strings read as rolls too, so that likelihoods of strings are lower bounds.
  np.testing.assert_array_equal(from_events(np.array([1, 2, 1, 0, 2]), 2), [[1, 1]])


def test_a_model_of_tokens_is_one_of_rolls_with_at_most_all_mass():
  steps = max(len(to_events(roll)) for roll in ROLLS)
  spec = DataSpec((steps,), 3, has_lengths=True)
  model = build_model({"name": "transformer", "network": {"num_layers": 1, "num_heads": 1, "width": 8}}, spec)
  params, carry = jax.jit(model.init)(jax.random.key(0), {})
  params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape), params)
  strings = [to_events(roll) for roll in ROLLS]
  batch = {"x": np.stack([np.pad(each, (0, steps - len(each))) for each in strings]),
           "length": np.array([len(each) for each in strings])}
  nats = jax.jit(model.log_likelihood)(params, carry, batch, jax.random.key(2)).nats
  assert 0.05 < np.exp(np.asarray(nats, np.float64)).sum() < 1.0
  # A model that knows the rule, by equal shares among the tokens that may come next, sums to one.
  total = 0.0
  for string in strings:
    log_p, last = 0.0, 3
    for token in string:
      log_p -= np.log(last)  # keys below the last one, and the end of the frame
      last = int(token) if token else 3
    total += np.exp(log_p)
  assert total == pytest.approx(1.0)


def test_rolls_are_served_as_tokens_in_any_key(tmp_path):
  name, arrays = save(tmp_path)
  dataset = load_dataset(name, transforms=("transpose:6", "events"))
  lengths = {split: arrays[split].sum() + arrays[f"{split}_length"].sum() for split in ("train", "valid", "test")}
  assert dataset.spec.levels == 89 and dataset.spec.has_lengths and len(dataset.spec.event) == 1
  assert Music.of(dataset.info) == Music("events", 2)
  for split in lengths:
    rows = dataset.split(split)
    assert rows["length"].sum() == lengths[split]
    rolls = [from_events(x[:length], 88) for x, length in zip(rows["x"], rows["length"], strict=True)]
    np.testing.assert_array_equal(np.concatenate(rolls), arrays[split])
    assert num_frames(rows["x"], rows["length"]) == arrays[f"{split}_length"].sum()
  drawn = [dataset.split("train").draw(np.arange(2), epoch) for epoch in range(6)]
  rolls = [from_events(each["x"][1][:each["length"][1]], 88) for each in drawn]
  assert len({roll.tobytes() for roll in rolls}) > 1  # transposed anew
  own = arrays["train"][5:]
  assert all(roll.sum() == own.sum() for roll in rolls)


def test_what_is_no_roll_is_refused(tmp_path):
  name, _ = save(tmp_path)
  with pytest.raises(SpecError, match=r"events needs piano rolls with lengths.*#music=roll:1"):
    load_dataset(name.partition("#")[0], transforms=("events",))
  with pytest.raises(SpecError, match="events needs piano rolls"):
    load_dataset("digits", transforms=("events",))
