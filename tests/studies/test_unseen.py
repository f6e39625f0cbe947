"""Test rows that training has seen are told from those it has not; a table over folds runs each fold once."""

import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.studies.unseen import unseen_rows


def test_test_rows_that_training_or_validation_hold_are_seen(tmp_path):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(40, 3)).astype(np.float32)
  fold = np.repeat([1, 2, 3, 4], 10)
  x[:4] = x[[12, 25, 33, 38]]  # four rows of the first fold stand in others too
  x[5] = x[6]  # and one twice in the same
  np.savez(tmp_path / "rows.npz", x=x, fold=fold)
  dataset = load_dataset(f"npz:{tmp_path}/rows.npz#fold=1", transforms=("standardize",))
  np.testing.assert_array_equal(unseen_rows(dataset), [False] * 4 + [True] * 6)


@pytest.mark.slow
def test_a_table_over_folds_trains_each_fold_once(commands, tmp_path):
  result = commands.run("reproduce", "--table=wine", f"--workdir={tmp_path}", "--dry_run")
  assert result.status == 0, result.err
  made = [line for line in result.out.splitlines() if "experiments.train" in line and "made.py:red_wine" in line]
  assert len(made) == 10
  assert all(f"#fold={fold}'" in line and f"/fold_{fold} " in line for fold, line in enumerate(made, start=1))
