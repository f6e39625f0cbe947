"""Evaluation and sampling of a trained run: what they print, what they write, and that they change nothing else."""

import json
import shutil

import jax
import numpy as np
import pytest
from helpers.commands import ROOT, TINY

from gdm.evaluation.detection import Detection
from gdm.runs import load
from gdm.runs.load import load_run
from gdm.runs.workdir import Workdir


def report(workdir, split="test"):
  return json.loads((workdir / f"likelihood_{split}.json").read_text())


@pytest.fixture(scope="module")
def workdir(unbroken, tmp_path_factory):
  """A copy of a finished run, to write results into."""
  return shutil.copytree(unbroken("digits"), tmp_path_factory.mktemp("results") / "run")


def test_evaluation_scores_the_whole_split_by_the_recorded_model(commands, workdir):
  said = commands.good("evaluate", f"--workdir={workdir}", "--config.evaluation.batch_size=64")
  found = report(workdir)
  run = load_run(Workdir(workdir), {})
  x = run.dataset.split("test")["x"]
  nats = np.asarray(run.model.log_likelihood(run.params, run.carry, {"x": x}, jax.random.key(0)).nats, np.float64)
  np.testing.assert_allclose(found["nats_mean"], nats.mean(), rtol=1e-6)
  np.testing.assert_allclose(found["bits_per_dim"], -nats.mean() / 64 / np.log(2), rtol=1e-6)
  assert {name: found[name] for name in ("model", "dataset", "split", "kind", "num_examples", "num_dims", "parameters",
                                         "num_params", "given", "step")} == {
      "model": "fvsbn", "dataset": "digits+binarize", "split": "test", "kind": "exact", "num_examples": 300,
      "num_dims": 64, "parameters": "ema", "num_params": 64 * 65 // 2, "given": [], "step": run.step}
  assert found["data_fingerprint"] == run.dataset.fingerprint("test")
  assert found["evaluation"]["batch_size"] == 64 and found["train_seconds"] > 0
  assert said.count("\n") == 1 and f"{found['bits_per_dim']:.4f}" in said


def test_checkpoint_split_and_parameters_can_be_chosen(commands, workdir):
  seen = set()
  for args in (["--checkpoint=28"], ["--checkpoint=last"], ["--config.evaluation.parameters=live"]):
    commands.good("evaluate", f"--workdir={workdir}", "--split=valid", *args)
    found = report(workdir, "valid")
    assert found["num_examples"] == 200
    seen.add((found["step"], found["parameters"], found["nats_mean"]))
  assert {(step, parameters) for step, parameters, _ in seen} == {(28, "ema"), (30, "ema"), (30, "live")}
  assert len({nats for *_, nats in seen}) == 3
  best = json.loads((workdir / "finished.json").read_text())
  commands.good("evaluate", f"--workdir={workdir}", "--split=valid")
  np.testing.assert_allclose(report(workdir, "valid")["nats_mean"], best["best_nats"], rtol=1e-6)


@pytest.mark.slow
def test_samples_are_the_settings_own_and_written_whole(commands, workdir):
  said = commands.good("sample", f"--workdir={workdir}", "--num=6")
  assert said == f"6 samples in {workdir}/samples.npz and samples.png\n"
  first = np.load(workdir / "samples.npz")["x"]
  assert first.shape == (6, 8, 8, 1) and set(np.unique(first)) <= {0, 1}
  commands.good("sample", f"--workdir={workdir}", "--config.sampling.num=6")
  np.testing.assert_array_equal(np.load(workdir / "samples.npz")["x"], first)
  commands.good("sample", f"--workdir={workdir}", "--config.sampling.num=6", "--config.sampling.seed=1",
                "--config.sampling.temperature=0.01")
  assert (np.load(workdir / "samples.npz")["x"] != first).any()


@pytest.mark.fast_cases("0.0")
@pytest.mark.parametrize("known", [0.0, 0.25, 1.0])
def test_completions_keep_what_is_known(commands, workdir, known):
  commands.good("sample", f"--workdir={workdir}", "--num=3", "--complete", f"--known={known}")
  found = np.load(workdir / "completions.npz")
  assert found["known"].sum() == known * 64
  np.testing.assert_array_equal(found["x"][:, found["known"]], found["original"][:, found["known"]])
  assert known == 1.0 or (found["x"] != found["original"]).any()


def test_a_checkpoint_that_a_run_under_way_deletes_is_chosen_anew(workdir, monkeypatch):
  real, gone = load.choose_checkpoint, iter([("checkpoints", 26), ("best", 3)])
  monkeypatch.setattr(load, "choose_checkpoint", lambda *args: next(gone, None) or real(*args))
  assert load_run(Workdir(workdir), {}, "28").step == 28


@pytest.mark.slow
def test_a_set_without_images_has_no_pictures(commands, tmp_path):
  rng = np.random.default_rng(0)
  np.savez(tmp_path / "data.npz", **{name: rng.integers(0, 2, (40, 4), dtype=np.uint8)
                                     for name in ("train", "valid", "test")})
  commands.good("train", f"{TINY}:npz", f"--workdir={tmp_path}/run", f"--config.data.path={tmp_path / 'data.npz'}")
  assert commands.good("sample", f"--workdir={tmp_path}/run", "--num=5") == f"5 samples in {tmp_path}/run/samples.npz\n"
  assert not (tmp_path / "run" / "samples.png").exists()


@pytest.mark.slow
def test_the_data_may_have_moved_but_not_changed(commands, tmp_path):
  rng = np.random.default_rng(0)
  sets = {name: rng.integers(0, 2, (40, 4), dtype=np.uint8) for name in ("train", "valid", "test")}
  np.savez(tmp_path / "data.npz", **sets)
  commands.good("train", f"{TINY}:npz", f"--workdir={tmp_path}/run", f"--config.data.path={tmp_path / 'data.npz'}")
  (tmp_path / "data.npz").rename(tmp_path / "moved.npz")
  result = commands.run("evaluate", f"--workdir={tmp_path}/run")
  assert result.status == 2 and "data.npz' does not exist" in result.err
  commands.good("evaluate", f"--workdir={tmp_path}/run", f"--config.data.path={tmp_path / 'moved.npz'}")
  np.savez(tmp_path / "data.npz", **{**sets, "train": 1 - sets["train"]})
  result = commands.run("evaluate", f"--workdir={tmp_path}/run")
  assert result.status == 2 and "the train split is" in result.err


def test_any_family_is_compared(commands, workdir):
  said = commands.good("quality", f"--workdir={workdir}", "--num=200", "--split=valid").splitlines()
  assert said[0].startswith("fvsbn on digits+binarize · valid · 200 examples, 200 samples each")
  assert [line.split("  ")[0] for line in said[3:5]] == ["samples", "train data"]
  assert said[-1] == f"quality_valid.json and neighbours.png in {workdir}" and (workdir / "neighbours.png").exists()
  written = json.loads((workdir / "quality_valid.json").read_text())
  assert written["parameters"] == "ema" and written["rows"][0]["num"] == 200 and not (workdir / "nfe.png").exists()
  assert said[-2] == f"features: pixels (64 numbers); fingerprint of the data: {written['data_fingerprint']}"
  assert list(written["measures"]) == ["frechet", "manifolds", "memorization"]  # no classifier, and no known modes
  for name, floor in (("frechet", "train data"), ("manifolds", "train data"), ("memorization", "half of valid data")):
    assert list(written["measures"][name]["rows"]) == ["samples", floor]
  assert max(map(len, said[5:-1])) <= 80  # tables of kernels may be wider


def test_other_data_are_told_from_the_model_s(commands, workdir, tmp_path):
  np.savez(tmp_path / "bytes.npz", **{split: np.random.default_rng(0).integers(0, 256, (9, 12, 12, 3), dtype=np.uint8)
                                      for split in ("train", "valid", "test")})
  others = ("rotated", "shuffled", "patches")
  said = commands.good("outliers", f"--workdir={workdir}", f"--against={','.join(others)}",
                       f"--pictures={tmp_path / 'bytes.npz'}").splitlines()
  names = ["likelihood", "complexity corrected", "typicality of 1"]
  assert [line.split(":")[0] for line in said] == [f"{name} · {score}" for score in names[:2] for name in others] + [
      f"{name} · {names[2]}" for name in others]
  against = json.loads((workdir / "outliers.json").read_text())["against"]
  assert list(against["shuffled"]) == names and set(against["shuffled"]["likelihood"]) == set(Detection._fields)
  assert 0.5 < against["shuffled"]["likelihood"]["auroc"]["value"] <= 1.0 and (workdir / "outliers.png").exists()


@pytest.mark.parametrize(("args", "message"), [
    (("quality", "--samplers=ddim:20"), "fvsbn has one way to sample"),
    (("quality", "--num=1"), "--num is 1; it must be at least 4"),
    (("quality", "--split=tset"), "no split 'tset'"),
    (("quality", "--features=nowhere"), "--features is 'nowhere', and there is no such folder"),
    (("quality", "--classifier=nowhere"), "--classifier is 'nowhere', and there is no such folder"),
    (("quality", "--measures=lables"), "--measures is 'lables'; did you mean 'labels'"),
    (("quality", "--measures=labels"), "--measures has labels, which a classifier tells"),
    (("quality", "--measures=modes"), "--measures has modes, but digits+binarize is no mixture"),
    (("quality", "--measures=frechet", "--num=60"), "60 samples of 64 features are too few"),
    (("sample", "--frames=1"), "--frames is 1; it must be at least 2"),
    (("sample", "--frames=3", "--complete"), "only one of them can be asked for"),
    (("sample", "--denoise=-1"), "--denoise is -1.0; it must be positive"),
    (("sample", "--denoise=nan"), "--denoise is nan; it must be positive"),
    (("sample", "--known=0.3"), "--known is 0.3, but nothing is completed"),
    (("sample", "--denoise=1"), "fvsbn cannot take noise off examples"),
    (("outliers", "--against=patches"), "--pictures is empty"),
    (("outliers", "--against=toy2d:rings"), "binarize needs discrete data"),
    (("outliers", "--batches=0"), "--batches has '0'"),
    (("outliers", "--batches=200"), "size is 200; 300 examples must make at least two batches"),
    (("outliers", "--background=nowhere"), "--background is 'nowhere', and there is no such folder"),
    (("outliers", "--classifiers=."), "no config"),
    (("outliers", "--against=rotted"), "--against has 'rotted'; did you mean 'rotated'"),
    (("sample", "--frames=3"), "fvsbn draws samples in no steps from noise"),
    (("sample", "--config.sampling.sampler=ddim"), "sampling.sampler is 'ddim', but fvsbn has none"),
    (("sample", "--config.sampling.num_steps=-1"), "sampling.num_steps is -1; it must be at least 1, or 0"),
    (("sample", "--config.sampling.guidance=nan"), "sampling.guidance is nan"),
])
def test_requests_that_cannot_be(commands, workdir, args, message):
  binary, *rest = args
  result = commands.run(binary, f"--workdir={workdir}", *rest)
  assert result.status == 2 and message in result.err and result.err.count("error:") == 1


@pytest.mark.parametrize(("binary", "flag"), [("train", "--config"), ("evaluate", "--split"), ("sample", "--known")])
def test_help_tells_how_to_call_and_what_the_flags_are(commands, binary, flag):
  said = commands.run(binary, "--help").out
  assert f"python -m experiments.{binary} --" in said and flag in said and "--workdir" in said


def test_recorded_reals_are_told_with_the_probability_of_their_cells(commands, tmp_path):
  rng = np.random.default_rng(0)
  sets = {name: np.round(rng.normal(5.0, 1.0, (num, 2)), 1).astype(np.float32)
          for name, num in (("train", 300), ("valid", 40), ("test", 60))}
  np.savez(tmp_path / "data.npz", **sets)
  workdir = tmp_path / "run"
  commands.good("train", f"--config={ROOT}/configs/baselines/gaussian_mixture.py:npz", f"--workdir={workdir}",
                f"--config.data.path={tmp_path / 'data.npz'}", "--config.model.num_components=1")
  said = commands.good("evaluate", f"--workdir={workdir}")
  assert "of values repeat, so that densities have no upper bound, cells of the record ≥ -" in said
  found = report(workdir)
  recorded = found["recording"]
  # A density that is wide beside the cells: their probability is the density times their area.
  by_area = found["nats_mean"] + np.sum(np.log(recorded["step"]))
  np.testing.assert_allclose(recorded["cells"]["nats_mean"], by_area, atol=0.05)
  assert recorded["cells"]["kind"] == "lower_bound" and recorded["repeated_share"] > 0.9
  assert "cells" not in commands.good("evaluate", f"--workdir={workdir}", "--config.evaluation.cell_points=0")
