"""Runs multiplied: the product is a workdir like any other, and what cannot be multiplied is named."""

import json

import numpy as np
import pytest
from helpers.commands import ROOT

TINY = ("--config.model.network.name=quadratic", "--config.model.objective=nce", "--config.training.num_steps=10",
        "--config.training.eval_every=0", "--config.training.checkpoint_every=10", "--config.training.log_every=10",
        "--config.model.num_temperatures=10", "--config.sampling.num=50", "--config.evaluation.batch_size=1000")


@pytest.mark.slow
def test_two_runs_on_different_data_are_multiplied_scored_and_sampled(commands, tmp_path):
  runs = [tmp_path / name for name in ("ring", "banana")]
  for run in runs:
    commands.good("train", f"--config={ROOT}/configs/energy/ebm.py:{run.name}", f"--workdir={run}", *TINY)
  both = tmp_path / "both"
  said = commands.good("compose", f"--workdir={both}", *map(str, runs), "--weights=1,0.5")
  assert said.splitlines() == [f"1  {runs[0]}", f"0.5  {runs[1]}"]
  config = json.loads((both / "config.json").read_text())
  assert config["model"]["name"] == "product" and config["model"]["num_temperatures"] == 10
  assert config["data"]["name"].startswith("toy2d:ring")
  commands.good("evaluate", f"--workdir={both}", "--split=test")
  report = json.loads((both / "likelihood_test.json").read_text())
  assert report["kind"] == "exact" and np.isfinite(report["nats_mean"])
  commands.good("sample", f"--workdir={both}")
  assert np.load(both / "samples.npz")["x"].shape == (50, 2)
  assert "product" in commands.good("leaderboard", str(both))


@pytest.mark.slow
def test_what_cannot_be_multiplied_is_named(commands, unbroken, tmp_path):
  run, plane = unbroken("digits"), unbroken("plane")
  for args, words in (((str(run),), "a product has two runs or more, but 1 are named"),
                      ((str(run), str(plane)), "runs made into one share their data's spec"),
                      ((str(plane), str(plane)), "components[0] is MAF, which has no energy of real numbers"),
                      ((str(plane), str(plane), "--weights=1,x"), "--weights is '1,x'; it must be 2 numbers")):
    result = commands.start("compose", f"--workdir={tmp_path / 'product'}", *args).wait()
    assert result.status == 2 and words in result.err, result
  assert not (tmp_path / "product").exists()
