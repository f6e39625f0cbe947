"""Ensembles of runs: the weights are the likeliest, and the mixture is a workdir like any other."""

import json

import numpy as np
import pytest
from helpers.commands import ROOT, TINY
from hypothesis import given
from hypothesis import strategies as st

from gdm.studies.mixing import fit_weights, mixture_nats


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


def bits(folder, name="bits", **changed):
  """An npz of random bits, the same at every call but for the splits that are given."""
  rng = np.random.default_rng(0)
  splits = {split: rng.integers(0, 2, (num, 12)).astype(np.uint8)
            for split, num in (("train", 200), ("valid", 50), ("test", 60))}
  folder.mkdir(parents=True, exist_ok=True)
  np.savez(folder / f"{name}.npz", **{**splits, **{split: change(splits) for split, change in changed.items()}})
  return folder / f"{name}.npz"


def train(commands, workdir, path, *args):
  commands.good("train", f"{TINY}:independent", f"--workdir={workdir}", "--config.data.name=npz",
                f"--config.data.path={path}", *args)
  return workdir


def refused(commands, workdir, words, binary, *args):
  """The command ends with one line that says so, and leaves no folder."""
  result = commands.start(binary, f"--workdir={workdir}", *map(str, args)).wait()
  assert result.status == 2 and result.err.startswith("error: ") and result.err.count("\n") == 1, result
  for word in words:
    assert word in result.err, result.err
  assert not workdir.exists()


# What is wrong with the other run's data, whose file has the same name -> splits that differ.
OTHER_DATA = {
    "trained on the test split": ({"train": lambda splits: splits["test"], "test": lambda splits: splits["train"]},
                                  ("train, test differ", "of the 60 test examples", "in the training split of")),
    "trained on some of it": ({"train": lambda splits: np.concatenate([splits["train"], splits["test"][:30]])},
                              ("splits train differ", "of the 60 test examples")),
    "another validation split": ({"valid": lambda splits: splits["valid"][:40]}, ("splits valid differ",)),
    "another test split": ({"test": lambda splits: splits["test"][::-1]}, ("splits test differ",)),
    "more levels": ({"train": lambda splits: splits["train"] * 3}, ("spec.levels is", "share their data's spec")),
}


@pytest.mark.slow
def test_runs_on_other_data_are_not_mixed_whatever_their_files_are_called(commands, tmp_path):
  ours = train(commands, tmp_path / "ours", bits(tmp_path / "data"))
  for number, (changed, words) in enumerate(OTHER_DATA.values()):
    path = bits(tmp_path / str(number), **changed)
    other = train(commands, tmp_path / f"other_{number}", path)
    refused(commands, tmp_path / "mixed", words, "ensemble", ours, other)


@pytest.mark.slow
def test_files_of_the_same_data_may_have_other_names_and_runs_any_order(commands, tmp_path):
  data = [bits(tmp_path / "data"), bits(tmp_path / "elsewhere", "renamed")]
  runs = [train(commands, tmp_path / f"run_{k}", path, f"--config.model.alpha={k + 1.0}")
          for k, path in enumerate(data)]
  reports = []
  for number, order in enumerate((runs, runs[::-1])):
    mixed = tmp_path / f"mixed_{number}"
    said = commands.good("ensemble", f"--workdir={mixed}", *map(str, order))
    assert "(exact)  the mixture, on the validation split" in said
    commands.good("evaluate", f"--workdir={mixed}", "--split=test")
    reports.append(json.loads((mixed / "likelihood_test.json").read_text()))
  assert reports[0]["kind"] == "exact" and reports[0]["nats_mean"] == reports[1]["nats_mean"]
  # The same command again says so; a workdir of something else is left as it is.
  again = commands.good("ensemble", f"--workdir={tmp_path / 'mixed_0'}", *map(str, runs))
  assert again.endswith("is finished already.\n")
  before = sorted((path, path.stat().st_mtime_ns) for path in runs[0].rglob("*"))
  for args, words in (((runs[0], runs[1]), "which is one of the runs"),
                      ((runs[1], tmp_path / "mixed_0"), "belongs to a run of independent")):
    result = commands.start("ensemble", f"--workdir={runs[0]}", *map(str, args)).wait()
    assert result.status == 2 and words in result.err, result
  assert sorted((path, path.stat().st_mtime_ns) for path in runs[0].rglob("*")) == before
  # One run twice is one run; one that is not finished is none.
  refused(commands, tmp_path / "mixed", ["1 workdirs are named"], "ensemble", runs[0], f"{runs[0]}/../run_0/")
  (runs[1] / "finished.json").unlink()
  refused(commands, tmp_path / "mixed", [str(runs[1]), "is not finished"], "ensemble", *runs)


@pytest.mark.slow
def test_seeds_of_data_drawn_anew_in_every_epoch_are_mixed(commands, tmp_path):
  runs = [tmp_path / str(seed) for seed in (0, 1)]
  for seed, run in enumerate(runs):
    commands.good("train", f"{TINY}:independent", f"--workdir={run}", f"--config.seed={seed}",
                  "--config.data.transforms=('binarize_dynamic',)")
  assert "(exact)" in commands.good("ensemble", f"--workdir={tmp_path / 'mixed'}", *map(str, runs))


@pytest.mark.slow
def test_models_given_labels_are_mixed_with_their_like_scored_and_sampled(commands, unbroken, tmp_path):
  labelled, flow, mixed = unbroken("labelled_flow"), unbroken("flow"), tmp_path / "mixed"
  refused(commands, mixed, ["of log p(x | y)", "conditional on the same"], "ensemble", labelled, flow)
  other = unbroken("labelled_flow", "--config.seed=1")
  assert "(lower bound)  the mixture" in commands.good("ensemble", f"--workdir={mixed}", str(labelled), str(other))
  commands.good("evaluate", f"--workdir={mixed}", "--split=test")
  given, over = (json.loads((mixed / f"likelihood_{name}.json").read_text()) for name in ("test", "test_over_labels"))
  assert (given["given"], given["kind"]) == (["y"], "lower_bound")
  assert (over["given"], over["kind"]) == ([], "lower_bound")
  commands.good("sample", f"--workdir={mixed}", "--num=20")
  assert np.load(mixed / "samples.npz")["x"].shape == (20, 8, 8, 1)


@pytest.mark.slow
def test_models_of_tokens_are_mixed_token_by_token_scored_sampled_and_coded(commands, unbroken, tmp_path):
  runs, mixed = [tmp_path / str(seed) for seed in (0, 1)], tmp_path / "mixed"
  for seed, run in enumerate(runs):
    commands.good("train", f"{TINY}:tokens", f"--workdir={run}", f"--config.seed={seed}")
  said = commands.good("ensemble", f"--workdir={mixed}", "--mix=tokens", "--min_weight=0",
                       *map(str, runs)).splitlines()
  nats = [float(line.split(" nats")[0].split()[-1]) for line in said[:3]]
  assert "(exact)  the mixture" in said[2] and nats[2] >= max(nats[:2])
  again = commands.good("ensemble", f"--workdir={mixed}", "--mix=tokens", "--min_weight=0", *map(str, runs))
  assert again.endswith("is finished already.\n")
  commands.good("evaluate", f"--workdir={mixed}", "--split=test")
  assert json.loads((mixed / "likelihood_test.json").read_text())["kind"] == "exact"
  commands.good("sample", f"--workdir={mixed}", "--num=4")
  commands.good("sample", f"--workdir={mixed}", "--num=4", "--complete")
  commands.good("compress", f"--workdir={mixed}", "--split=test", f"--out={tmp_path / 'coded.gdm'}")
  refused(commands, tmp_path / "other", ["model.components[1]", "does not go through its values in raster order"],
          "ensemble", runs[0], unbroken("digits"), "--mix=tokens")


STEPS = ("--config.optimizer.warmup_steps=0", "--config.training.num_steps=4", "--config.training.eval_every=4",
         "--config.training.checkpoint_every=4", "--config.training.log_every=4", "--config.training.steps_per_call=1")
VDM = ("--config.model.network.name=mlp", "--config.model.network.hidden=(8,)", *STEPS)


@pytest.mark.slow
def test_a_mixture_of_bounds_by_diffusion_is_an_estimate_also_within_another(commands, unbroken, tmp_path):
  runs = [tmp_path / f"vdm_{seed}" for seed in (0, 1)]
  for seed, run in enumerate(runs):
    commands.good("train", f"--config={ROOT}/configs/diffusion/vdm.py:digits", f"--workdir={run}",
                  f"--config.seed={seed}", *VDM)
  mixed, nested = tmp_path / "mixed", tmp_path / "nested"
  assert "(estimate)  the mixture" in commands.good("ensemble", f"--workdir={mixed}", *map(str, runs))
  assert "(estimate)  the mixture" in commands.good("ensemble", f"--workdir={nested}", str(mixed),
                                                    str(unbroken("flow")))
  for workdir in (mixed, nested):
    commands.good("evaluate", f"--workdir={workdir}", "--split=test")
    assert json.loads((workdir / "likelihood_test.json").read_text())["kind"] == "estimate"
    commands.good("sample", f"--workdir={workdir}", "--num=4")
  commands.good("sample", f"--workdir={mixed}", "--num=4", "--config.sampling.sampler=ddim",
                "--config.sampling.num_steps=3")


@pytest.mark.slow
def test_runs_scored_by_one_likelihood_of_several_are_mixed_by_it_and_others_named(commands, tmp_path):
  small = (*VDM, "--config.data.name=toy2d:two_moons#train=200", "--config.data.batch_size=50",
           "--config.evaluation.batch_size=1000", "--config.sampling.num=20")
  runs = {}
  for name, *args in (("ode_0", "--config.evaluation.likelihood=ode,tolerance=1e-2"),
                      ("ode_1", "--config.evaluation.likelihood=ode,tolerance=1e-2", "--config.seed=1"), ("bound",)):
    runs[name] = tmp_path / name
    commands.good("train", f"--config={ROOT}/configs/diffusion/flow_matching.py:two_moons",
                  f"--workdir={runs[name]}", *small, *args)
  mixed = tmp_path / "mixed"
  refused(commands, mixed, ["evaluation.likelihood is ", "'ode,tolerance=1e-2' in"], "ensemble", runs["ode_0"],
          runs["bound"])
  commands.good("ensemble", f"--workdir={mixed}", str(runs["ode_0"]), str(runs["ode_1"]))
  commands.good("evaluate", f"--workdir={mixed}", "--split=test")
  assert json.loads((mixed / "likelihood_test.json").read_text())["kind"] == "estimate"
  commands.good("sample", f"--workdir={mixed}")


@pytest.mark.slow
def test_texts_of_other_letters_are_not_mixed(commands, tmp_path):
  """Texts of one pattern in two alphabets are the same numbers, and not the same data."""
  rng, runs = np.random.default_rng(0), []
  pattern = rng.integers(0, 4, 4000)
  for name, letters in (("first", "abcd"), ("second", "efgh")):
    (tmp_path / f"{name}.txt").write_text("".join(letters[k] for k in pattern))
    runs.append(tmp_path / name)
    commands.good("train", f"--config={ROOT}/configs/autoregressive/recurrent.py:text", f"--workdir={runs[-1]}",
                  f"--config.data.path={tmp_path / name}.txt", "--config.model.network.width=8",
                  "--config.model.network.num_layers=1",
                  *STEPS)
  refused(commands, tmp_path / "mixed", ["their vocabularies differ"], "ensemble", *runs)
