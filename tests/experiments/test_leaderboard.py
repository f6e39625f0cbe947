"""The leaderboard's command line: its tables on stdout, its errors as one line."""

import json
import subprocess
import sys

import pytest


def leaderboard(*args):
  return subprocess.run([sys.executable, "-m", "experiments.leaderboard", *map(str, args)], capture_output=True,
                        text=True, check=False)


def write(workdir, model, nats):
  report = {"model": model, "dataset": "digits", "split": "test", "step": 5000, "kind": "exact", "given": [],
            "nats_mean": nats, "nats_stderr": 1.0, "nats_ci95": [nats - 1.96, nats + 1.96],
            "bits_per_dim": -nats / 44.0, "bits_per_dim_stderr": 0.02, "num_examples": 300, "num_dims": 64,
            "num_draws": 1, "data_fingerprint": "ab12", "parameters": "ema", "num_params": 12345,
            "train_seconds": 61.25}
  workdir.mkdir(parents=True)
  (workdir / "likelihood_test.json").write_text(json.dumps(report))


def test_it_ranks_the_runs_of_several_folders(tmp_path):
  write(tmp_path / "a", "independent", -100.0)
  write(tmp_path / "b", "made", -80.0)
  result = leaderboard(tmp_path / "a", tmp_path / "b", "--split=test", "--format=markdown")
  assert result.returncode == 0, result.stderr
  assert result.stdout.index("| made ") < result.stdout.index("| independent ")


@pytest.mark.parametrize("args", [[], ["/nowhere"]])
def test_errors_are_one_line_and_exit_code_2(args):
  result = leaderboard(*args)
  assert result.returncode == 2
  assert result.stdout == ""
  assert len(result.stderr.strip().splitlines()) == 1
