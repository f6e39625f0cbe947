"""Ensembles of runs: the weights are the likeliest, and the mixture is a workdir like any other."""

import json

import numpy as np
from commands import ROOT
from hypothesis import given
from hypothesis import strategies as st

from experiments.ensemble import fit_weights, mixture_nats


@given(seed=st.integers(0, 1000), models=st.integers(2, 5))
def test_fitted_weights_are_a_distribution_and_beat_equal_ones_and_every_model(seed, models):
  nats = np.random.default_rng(seed).normal(-5.0, 1.5, (models, 200))
  weights = fit_weights(nats)
  score = mixture_nats(nats, weights).mean()
  np.testing.assert_allclose(weights.sum(), 1.0, atol=1e-9)
  assert score >= mixture_nats(nats, np.full(models, 1 / models)).mean() - 1e-9
  assert score >= nats.mean(axis=1).max() - 1e-6
  # At the optimum no model's mean responsibility ratio is above 1 (the Karush-Kuhn-Tucker conditions).
  assert np.exp(nats - mixture_nats(nats, weights)).mean(axis=1).max() < 1.01


def test_the_true_weights_are_found():
  rng = np.random.default_rng(0)
  x = np.where(rng.random(20_000) < 0.3, rng.normal(-2, 1, 20_000), rng.normal(2, 1, 20_000))
  nats = np.stack([-0.5 * (x + 2) ** 2, -0.5 * (x - 2) ** 2]) - 0.5 * np.log(2 * np.pi)
  np.testing.assert_allclose(fit_weights(nats), [0.3, 0.7], atol=0.02)


def test_two_runs_are_mixed_and_scored(commands, tmp_path):
  runs = [tmp_path / "independent", tmp_path / "chow_liu"]
  for run in runs:
    result = commands.run("train", f"--config={ROOT}/configs/baselines/{run.name}.py:digits", f"--workdir={run}")
    assert result.status == 0, result.err
  mixed = tmp_path / "mixed"
  result = commands.start("ensemble", f"--workdir={mixed}", *map(str, runs)).wait()
  assert result.status == 0, result.err
  for workdir in (*runs, mixed):
    assert commands.start("evaluate", f"--workdir={workdir}", "--split=valid").wait().status == 0
  nats = [json.loads((workdir / "likelihood_valid.json").read_text())["nats_mean"] for workdir in (*runs, mixed)]
  assert nats[2] >= max(nats[:2]) - 1e-6
