"""The leaderboard's command line: its tables on stdout, its errors as one line."""

import json
import re
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


@pytest.mark.fast_cases("args1")
@pytest.mark.parametrize("args", [[], ["/nowhere"]])
def test_errors_are_one_line_and_exit_code_2(args):
  result = leaderboard(*args)
  assert result.returncode == 2
  assert result.stdout == ""
  assert len(result.stderr.strip().splitlines()) == 1


def test_seeds_are_averaged_by_the_configs_beside_the_reports(commands, tmp_path):
  for seed, learning_rate in ((0, 0.1), (1, 0.1), (2, 0.1), (0, 0.2)):
    workdir = tmp_path / str(learning_rate) / f"seed_{seed}"
    write(workdir, "made", -80.0 - seed)
    (workdir / "config.json").write_text(json.dumps({
        "seed": seed, "model": {"name": "made"}, "optimizer": {"learning_rate": learning_rate},
        "sampling": {"num": seed + 1}}))  # which has no part in the training
  write(tmp_path / "foreign", "made", -70.0)
  (tmp_path / "foreign" / "config.json").write_text("{")
  assert "seed_*" not in commands.good("leaderboard", tmp_path)
  result = commands.run("leaderboard", tmp_path, "--seeds")
  assert result.status == 0
  assert result.err.startswith("WARNING: ") and "foreign/config.json" in result.err and result.err.count("\n") == 1
  means = [re.split("  +", line) for line in result.out.splitlines() if "  1 seed " in line or "mean of" in line]
  assert [(over, bits, run) for _, over, bits, *_, run in means] == [
      ("1 seed", "1.5909", "foreign"), ("1 seed", "1.8182", "0.2/seed_0"),
      ("mean of 3 seeds", "1.8409 ± 0.0565", "0.1/seed_*")]
