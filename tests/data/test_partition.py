"""Splits by the hash of each example: the order of rows never matters, and equal examples stay together."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.data.partition import repeats_in_words, split_rows
from gdm.data.sources.request import Request
from gdm.errors import ConfigError, DataError

SMALL = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=4, max_size=30).filter(
    lambda rows: len({x for x, _ in rows}) > 2)


def split(x, y=None, **options):
  rows = {"x": np.asarray(x), **({} if y is None else {"y": np.asarray(y)})}
  return split_rows(rows, Request("npy", "x.npy", {key: str(value) for key, value in options.items()}), "a set")[0]


def as_multiset(rows):
  return sorted(zip(rows["x"].ravel().tolist(), rows["y"].tolist(), strict=True))


@hypothesis.given(SMALL, st.randoms(use_true_random=False), st.sampled_from(["distinct", "rows"]))
def test_the_order_of_rows_does_not_matter(rows, random, by):
  shuffled = random.sample(rows, len(rows))
  ours, theirs = (split(np.array([[x] for x, _ in each]), [y for _, y in each], split=by) for each in (rows, shuffled))
  assert {name: as_multiset(part) for name, part in ours.items()} == {
      name: as_multiset(part) for name, part in theirs.items()}
  assert sorted(row for part in ours.values() for row in as_multiset(part)) == sorted(rows)


@hypothesis.given(SMALL)
def test_equal_examples_never_cross(rows):
  parts = split(np.array([[x] for x, _ in rows]), [y for _, y in rows])
  seen = [set(part["x"].ravel().tolist()) for part in parts.values()]
  assert all(seen) and not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_shares_are_as_asked_and_an_example_stays_when_others_come():
  x = np.random.default_rng(0).normal(size=(20_000, 2))
  parts = split(x, valid=0.2, test=0.05)
  for name, share in (("valid", 0.2), ("test", 0.05)):
    assert abs(len(parts[name]["x"]) / 20_000 - share) < 4 * np.sqrt(share * (1 - share) / 20_000)
  fewer = split(x[:500], valid=0.2, test=0.05)
  for name, part in parts.items():
    np.testing.assert_array_equal(part["x"][:len(fewer[name]["x"])], fewer[name]["x"])


def test_negative_zero_is_zero():
  x = np.array([[0.0], [-0.0], [1.0], [2.0]])
  assert sum(0.0 in part["x"] for part in split(x).values()) == 1


def test_rows_of_few_kinds_can_be_held_out_alike():
  x = np.arange(3000).reshape(-1, 1) % 3
  for part in split(x, split="rows").values():
    assert (np.bincount(part["x"].ravel()) > 60).all()
  _, rule = split_rows({"x": x}, Request("npy"), "a set")
  assert rule.endswith("; only 3 of 3000 examples are different, and none of them is in two splits (#split=rows)")


def test_the_fewest():
  assert {name: len(part["x"]) for name, part in split([[1], [2], [3]]).items()} == {"train": 1, "valid": 1, "test": 1}
  parts, rule = split_rows({"x": np.array([[1], [2], [1]])}, Request("npy"), "a set")
  assert sorted(parts) == ["train", "valid"] and "no test split, since only two examples are different" in rule
  assert sorted(split(np.arange(50).reshape(-1, 1), test=0)) == ["train", "valid"]
  with pytest.raises(DataError, match=r"a set has 4 example\(s\), all of them equal"):
    split([[1]] * 4)


@pytest.mark.parametrize(("options", "message"), [
    ({"valid": 0}, "option valid=0 of npy must be above 0 and below 1"),
    ({"valid": "x"}, "option valid='x' of npy must be a number"),
    ({"test": -0.1}, "option test=-0.1 of npy must be at least 0"),
    ({"valid": 0.5, "test": 0.5}, "valid \\+ test below 1"),
    ({"split": "row"}, "did you mean 'rows'"),
])
def test_shares_that_cannot_be(options, message):
  with pytest.raises(ConfigError, match=message):
    split(np.arange(50).reshape(-1, 1), **options)


def test_examples_in_two_splits_are_counted(tmp_path):
  x = np.arange(60).reshape(20, 3)
  np.savez(tmp_path / "leak.npz", train=x[:10], valid=x[8:12], test=np.concatenate([x[15:], x[:1]]), levels=60)
  dataset = load_dataset(f"npz:{tmp_path}/leak.npz")
  assert dataset.info["repeated"] == {"valid": 2, "test": 1}
  assert repeats_in_words(dataset) == "2 of 4 valid and 1 of 6 test examples are in the training split too."
  assert repeats_in_words(load_dataset("digits")) == ""
