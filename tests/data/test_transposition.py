"""Transposition: notes keep their distances, none is lost, and only what training draws is moved."""

import numpy as np
import pytest

from gdm.data.dataset import Dataset
from gdm.data.transforms import apply_transforms
from gdm.dataspec import DataSpec
from gdm.errors import SpecError

EXAMPLES = np.arange(40)


def rolls():
  x = np.zeros((40, 5, 88), np.uint8)
  rng = np.random.default_rng(0)
  for row in x:
    row[np.arange(5), rng.integers(30, 60, 5)] = 1
  x[0, 0, [25, 70]] = 1  # the ends, between which all notes stay
  return Dataset("rolls", DataSpec((5, 88), 2), {name: {"x": x} for name in ("train", "valid")})


def voices():
  x = np.random.default_rng(1).integers(40, 60, (40, 5, 4)).astype(np.uint8)
  x[:, 2, 1] = 0  # a rest
  x[0, 0, :2] = 36, 81
  return Dataset("voices", DataSpec((5, 4), 82), {name: {"x": x} for name in ("train", "valid")})


def pitches(x):
  return np.argwhere(x)[:, -1] if x.max() == 1 else x[x > 0].astype(int)


@pytest.mark.parametrize("make", [rolls, voices])
def test_every_note_moves_by_the_same_number_of_semitones(make):
  plain = make()
  moved = apply_transforms(plain, ("transpose:3",), 0)
  assert moved.name.endswith("+transpose:3")
  before, after = plain.split("train")["x"], moved.split("train").draw(EXAMPLES, 0)["x"]
  assert after.dtype == before.dtype and after.shape == before.shape
  shifts = []
  for old, new in zip(before, after, strict=True):
    difference = pitches(new) - pitches(old)
    assert (difference == difference[0]).all() and pitches(new).min() >= (25 if make is rolls else 36)
    shifts.append(int(difference[0]))
  assert set(shifts) == set(range(-3, 4)) and shifts[0] == 0  # the first spans all pitches


def test_only_training_is_moved_and_anew_in_every_epoch():
  plain = rolls()
  moved = apply_transforms(plain, ("transpose:3",), 0)
  for name in ("train", "valid"):
    np.testing.assert_array_equal(moved.split(name)["x"], plain.split(name)["x"])
    assert moved.fingerprint(name) == plain.fingerprint(name)
  np.testing.assert_array_equal(moved.split("valid").draw(EXAMPLES, 1)["x"], plain.split("valid")["x"])
  first, again, second = (moved.split("train").draw(EXAMPLES, epoch)["x"] for epoch in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert (first != second).any()


def test_other_data_are_refused():
  for spec, x in ((DataSpec((4,), 2), np.zeros((3, 4), np.uint8)), (DataSpec((2, 3), None), np.zeros((3, 2, 3)))):
    with pytest.raises(SpecError, match="transpose needs piano rolls"):
      apply_transforms(Dataset("other", spec, {"train": {"x": x}}), ("transpose:3",), 0)
