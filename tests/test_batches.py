"""What a spec promises of a batch: real dimensions and allowed values, on the device and on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.batches import (
  are_valid,
  check_rows,
  checked,
  dims_per_step,
  nan_unless_valid,
  num_real,
  padded_size,
  real_dims,
)
from gdm.dataspec import DataSpec
from gdm.errors import DataError
from gdm.likelihood import LogLikelihood

SEQUENCES = DataSpec((3, 2), 4, has_lengths=True)


def test_lengths_count_along_the_first_axis():
  batch = {"x": np.zeros((3, 3, 2), np.uint8), "length": np.array([1, 3, 2])}
  assert dims_per_step(SEQUENCES) == 2
  np.testing.assert_array_equal(num_real(SEQUENCES, batch), [2, 6, 4])
  np.testing.assert_array_equal(real_dims(SEQUENCES, batch).sum(axis=1), [2, 6, 4])
  assert np.asarray(real_dims(SEQUENCES, batch))[0].tolist() == [True, True, False, False, False, False]
  np.testing.assert_array_equal(num_real(SEQUENCES, {"x": batch["x"]}), [6, 6, 6])


@pytest.mark.fast_cases(
    "False-4-int64-wrong2", "False-256-int32-wrong5", "True-4-int32-wrong1", "True-4-int64-wrong2",
    "True-4-float32-wrong3", "True-300-uint16-wrong4", "True-256-int32-wrong5", "True-None-float32-wrong6")
@pytest.mark.parametrize(("levels", "dtype", "wrong"), [
    (4, np.uint8, [4, 255]), (4, np.int32, [-1, 4, 2**31 - 1]), (4, np.int64, [-1, 4, 2**32 + 1]),
    (4, np.float32, [-1.0, 4.0, 1.5, np.nan, np.inf]), (300, np.uint16, [300]), (256, np.int32, [256, -1]),
    (None, np.float32, [np.nan, np.inf, -np.inf]),
])
@pytest.mark.parametrize("jitted", [False, True])
def test_examples_with_values_outside_are_not_valid(levels, dtype, wrong, jitted):
  if jitted and dtype == np.int64:
    pytest.skip("compiled programs have no int64: what is read from disk or memory is checked before")
  spec = DataSpec((2, 2), levels)
  x = np.zeros((1 + len(wrong), 2, 2), dtype)
  x[1:, 1, 0] = wrong
  of = (jax.jit if jitted else lambda function: function)(lambda x: are_valid(spec, {"x": x}))
  assert np.asarray(of(x)).tolist() == [True] + [False] * len(wrong)


def test_every_allowed_value_is_valid():
  for levels, dtype in [(2, bool), (256, np.uint8), (17, np.int8), (65536, np.uint16), (3, np.float32)]:
    x = np.arange(min(levels, 256)).astype(dtype).reshape(-1, 1)
    assert np.asarray(are_valid(DataSpec((1,), levels), {"x": x})).all()
    check_rows(DataSpec((1,), levels), {"x": x}, "set")


def test_what_padding_holds_is_of_no_account():
  x = np.array([[0, 1, 9], [0, 9, 9], [9, 0, 0]], np.uint8)
  spec, batch = DataSpec((3,), 4, has_lengths=True), {"x": x, "length": np.array([2, 1, 3])}
  assert np.asarray(are_valid(spec, batch)).tolist() == [True, True, False]
  for length in (0, 4, -1):
    assert not np.asarray(are_valid(spec, {"x": x[:1], "length": np.array([length])})).any()
  check_rows(spec, {"x": x[:2], "length": np.array([2, 1])}, "set")
  with pytest.raises(DataError, match=r"set: the value at index \[2, 0\] is 9, but levels is 4"):
    check_rows(spec, batch, "set")


def test_labels_count_where_a_number_is_given_them():
  spec = DataSpec((1,), 2, num_classes=3)
  batch = {"x": np.zeros((4, 1), np.uint8), "y": np.array([0, 3, -1, 2])}
  assert np.asarray(are_valid(spec, batch)).all()
  assert np.asarray(are_valid(spec, batch, given=("y",))).tolist() == [True, False, False, True]
  with pytest.raises(DataError, match=r"labels: the value at index \[1\] is 3, but num_classes is 3"):
    check_rows(spec, batch, "set")


def test_a_log_likelihood_is_nan_for_what_is_not_valid_and_keeps_the_rest():
  spec, batch = DataSpec((1,), 2), {"x": jnp.array([[0], [5], [1]])}
  found = checked(spec, batch, LogLikelihood.of(jnp.array([-1.0, -2.0, -3.0]), 1))
  np.testing.assert_array_equal(found.nats, [-1.0, np.nan, -3.0])
  np.testing.assert_array_equal(nan_unless_valid(spec, batch, jnp.ones((3, 2)))[1], [np.nan, np.nan])
  with pytest.raises(DataError, match="the batch has lengths, but the spec says nothing of them"):
    checked(spec, {**batch, "length": jnp.ones(3, jnp.int32)}, found)


def test_errors_on_the_host_name_the_example_by_its_number():
  with pytest.raises(DataError, match=r"set: the value at index \[40, 1\] is nan, but every value must be finite"):
    check_rows(DataSpec((2,), None), {"x": np.array([[0.0, 1.0], [0.0, np.nan]])}, "set", np.array([7, 40]))
  with pytest.raises(DataError, match="the length of example 40 is 0"):
    check_rows(DataSpec((2,), 2), {"x": np.zeros((2, 2), int), "length": np.array([1, 0])}, "set", np.array([7, 40]))


def test_batches_that_are_filled_up_are_not_filled_far_above_the_data():
  """By the same seed noise is as before: sizes of up to 1,024 stay as they were asked for."""
  assert [padded_size(31, most) for most in (20, 500, 1024, 100_000)] == [20, 500, 1024, 1024]
  assert [padded_size(num, 100_000) for num in (0, 1024, 1025, 70_000)] == [1024, 1024, 2048, 100_000]
