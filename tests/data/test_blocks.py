"""Groups of mutually exclusive columns."""

import pathlib

import numpy as np
import pytest

from gdm.data.blocks import find_blocks
from gdm.data.load import load_dataset

REAL = pathlib.Path(__file__).parents[3] / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real sets are not at {REAL}")


def one_hot(codes: np.ndarray, sizes: list[int]) -> np.ndarray:
  """Codes [N, variables], -1 for none, as one-hot columns side by side."""
  return np.concatenate([(codes[:, [i]] == np.arange(size)) for i, size in enumerate(sizes)], axis=1).astype(np.uint8)


def edges(sizes: list[int]) -> tuple[tuple[int, ...], ...]:
  ends = np.cumsum(sizes)
  return tuple(tuple(range(end - size, end)) for end, size in zip(ends.tolist(), sizes, strict=True))


def test_planted_variables_are_recovered():
  rng = np.random.default_rng(0)
  sizes = [3, 5, 2, 9, 2, 4, 12, 3]
  # correlated, of uneven frequencies, as real tables are
  hidden = rng.gamma(0.5, size=2000)
  codes = np.stack([np.minimum(hidden * rng.gamma(1.0, size=2000) * size, size - 1) for size in sizes], 1).astype(int)
  assert find_blocks([one_hot(codes, sizes)]) == edges(sizes)


def test_variables_with_a_value_none_are_recovered():
  rng = np.random.default_rng(1)
  sizes = [3] * 40  # as nucleotides: one of four letters has no column
  codes = rng.integers(-1, 3, (1400, 40))
  assert find_blocks([one_hot(codes, sizes)]) == edges(sizes)


def test_connect_four_is_recovered():
  rng = np.random.default_rng(2)
  sizes = [3] * 42
  filled = np.sort(rng.random((16_000, 7, 6)), axis=2) < rng.beta(1, 2, (16_000, 7, 1))  # columns fill from the bottom
  codes = np.where(filled, rng.integers(1, 3, filled.shape), 0).reshape(-1, 42)
  assert find_blocks([one_hot(codes, sizes)]) == edges(sizes)


@pytest.mark.parametrize("density", [0.003, 0.02, 0.2, 0.5])
def test_independent_columns_stay_alone(density):
  # at most a chance of 0.05 per set that any two are joined, so two joins in five sets hint at an error
  joins = sum(200 - len(find_blocks([(np.random.default_rng(seed).random((2000, 200)) < density).astype(np.uint8)]))
              for seed in range(5))
  assert joins <= 1


def test_a_column_that_is_never_one_stays_alone_unless_within_a_block():
  rng = np.random.default_rng(3)
  x = one_hot(rng.choice([0, 1, 3, 4], (500, 1)), [5])
  zero = np.zeros((500, 1), np.uint8)
  assert find_blocks([np.concatenate([zero, x, zero], axis=1)]) == ((0,), (1, 2, 3, 4, 5), (6,))
  assert find_blocks([np.zeros((10, 3), np.uint8)]) == ((0,), (1,), (2,))
  assert find_blocks([np.ones((10, 1), np.uint8)]) == ((0,),)


def test_chunks_of_rows_make_no_difference():
  x = one_hot(np.random.default_rng(4).integers(-1, 4, (1000, 10)), [4] * 10)
  assert find_blocks([x]) == find_blocks([x[:3], x[3:500], x[500:]])


def test_only_the_training_split_is_looked_at(tmp_path):
  rng = np.random.default_rng(5)
  train = one_hot(rng.integers(0, 3, (300, 2)), [3, 3])
  other = rng.integers(0, 2, (50, 6)).astype(np.uint8)
  np.savez(tmp_path / "x.npz", train=train, valid=other, test=other)
  dataset = load_dataset(f"npz:{tmp_path / 'x.npz'}", transforms=("blocks",))
  assert dataset.spec.blocks == edges([3, 3])
  assert dataset.name == "npz:x"  # the data is what it was


def test_data_of_more_levels_has_no_blocks_to_find():
  dataset = load_dataset("digits", transforms=("blocks",))
  assert dataset.spec == load_dataset("digits").spec


@needs_real
@pytest.mark.parametrize(("name", "sizes"), [
    ("adult", [5, 8, 5, 16, 5, 7, 14, 6, 5, 2, 2, 2, 5, 40, 1]),
    ("mushrooms", [6, 4, 10, 2, 9, 2, 2, 2, 12, 2, 4, 4, 9, 9, 1, 4, 3, 5, 9, 6, 7]),
    ("dna", [3] * 60),
    ("debd_nltcs", [1] * 16),
    ("debd_plants", [1] * 69),
])
def test_real_sets(name, sizes):
  dataset = load_dataset(f"npz:{REAL / name}.npz", transforms=("blocks",))
  assert dataset.spec.blocks == edges(sizes)
  for block in dataset.spec.blocks:
    # what excludes each other in training does so on rows never seen
    assert dataset.split("test")["x"][:, list(block)].sum(1).max() <= 1
