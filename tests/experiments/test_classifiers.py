"""Classifiers by the commands: trained, their labels scored, ranked; what they have not is said."""

import json

import numpy as np
import pytest

from gdm.runs.load import load_run
from gdm.runs.workdir import Workdir

FEW = ("--config.training.num_steps=6", "--config.optimizer.warmup_steps=0", "--config.training.eval_every=3",
       "--config.training.log_every=3")


@pytest.fixture(scope="module")
def logistic(commands, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("classifiers") / "logistic"
  commands.good("train", "--config=configs/discriminative/logistic_regression.py:digits", f"--workdir={workdir}",
                "--config.model.l2=0.01")
  return workdir


def test_labels_are_scored_and_there_is_no_p_of_x(commands, logistic):
  said = commands.good("evaluate", f"--workdir={logistic}")
  report = json.loads((logistic / "labels_test.json").read_text())
  assert said.count("\n") == 1 and "of labels right" in said and said.endswith("no p(x))\n")
  assert not list(logistic.glob("likelihood_*")) and not (logistic / "samples.png").exists()
  run = load_run(Workdir(logistic), {})
  test = run.dataset.split("test")
  log_probs = np.asarray(run.model.log_label_probs(run.params, run.carry, {"x": test["x"][:]}), np.float64)
  y = test["y"][:]
  labels = report["labels"]
  assert labels["accuracy"] == np.mean(log_probs.argmax(axis=1) == y) > 0.9
  assert labels["nats_mean"] == pytest.approx(log_probs[np.arange(len(y)), y].mean(), rel=1e-4)
  assert labels["brier"] == pytest.approx(np.square(np.exp(log_probs) - np.eye(10)[y]).sum(axis=1).mean(), rel=1e-4)
  assert 0.0 <= labels["calibration_error"] < 0.2
  assert (logistic / "calibration_test.png").exists()
  board = commands.good("leaderboard", str(logistic))
  assert "p(y | x)" in board and f"{labels['accuracy']:.4f} [" in board
  assert commands.good("leaderboard", str(logistic), "--format=csv").splitlines()[1].startswith("digits,test,")


@pytest.mark.parametrize("command, args, message", [
    ("sample", (), "logistic_regression cannot sample"),
    ("outliers", ("--reconstruction=HERE",), "it must be a run that encodes and decodes"),
    ("outliers", ("--background=HERE",), "it must be a run with a density"),
    ("compress", ("--split=test",), ""),
    ("latent", (), "logistic_regression has no latents"),
])
def test_what_a_classifier_has_not_is_an_error_of_one_line(commands, logistic, command, args, message):
  result = commands.run(command, f"--workdir={logistic}", *(each.replace("HERE", str(logistic)) for each in args))
  assert result.status == 2 and message in result.err and result.err.count("\n") == 1


@pytest.mark.slow
def test_naive_bayes_has_both_and_shares_the_table_of_labels(commands, logistic):
  workdir = logistic.parent / "bayes"
  commands.good("train", "--config=configs/discriminative/naive_bayes.py:digits", f"--workdir={workdir}")
  said = commands.good("evaluate", f"--workdir={workdir}")
  assert "bits/dim" in said and "of labels right" in said
  assert (workdir / "samples.png").exists() and not list(workdir.glob("*over_labels*"))
  commands.good("evaluate", f"--workdir={logistic}")
  board = commands.good("leaderboard", str(logistic.parent), "--format=markdown")
  likelihoods, labels = board.split("p(y")
  assert "logistic_regression" not in likelihoods and "naive_bayes" in likelihoods
  assert labels.index("logistic_regression") < labels.index("naive_bayes")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp_classifier", "cnn_classifier"])
def test_networks_train_resume_and_are_scored(commands, tmp_path, name):
  args = (f"--config=configs/discriminative/{name}.py:digits", f"--workdir={tmp_path}", *FEW)
  said = commands.good("train", *args)
  assert "best valid" in said and "cross_entropy" in said
  assert "finished already" in commands.good("train", *args)
  assert "of labels right" in commands.good("evaluate", f"--workdir={tmp_path}")


def test_data_without_labels_or_with_one_class(commands, tmp_path):
  x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
  arrays = {name: x for name in ("train", "valid", "test")}
  np.savez(tmp_path / "none.npz", **arrays)
  np.savez(tmp_path / "one.npz", **arrays, **{f"{name}_label": np.zeros(20, int) for name in arrays})
  for file, message in (("none", "the data has none"), ("one", "there must be at least 2")):
    for name in ("naive_bayes", "logistic_regression", "mlp_classifier"):
      result = commands.run("train", f"--config=configs/discriminative/{name}.py:npz", f"--workdir={tmp_path / name}",
                            f"--config.data.path={tmp_path / file}.npz")
      assert result.status == 2 and message in result.err and result.err.count("\n") == 1
