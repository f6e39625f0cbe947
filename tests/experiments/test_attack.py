"""Attacks and learning curves by the commands: what is printed, what is written, and what cannot be."""

import json

import numpy as np
import pytest

FEW = ("--config.training.num_steps=40", "--config.training.eval_every=40", "--config.training.checkpoint_every=40",
       "--config.training.log_every=40")


@pytest.fixture(scope="module")
def logistic(commands, tmp_path_factory):
  """A softmax regression of digits."""
  workdir = tmp_path_factory.mktemp("attacked") / "run"
  commands.good("train", "--config=configs/discriminative/logistic_regression.py:digits", f"--workdir={workdir}",
                "--config.model.num_iterations=2000")
  return workdir


def test_a_classifier_is_attacked(commands, logistic):
  said = commands.good("attack", f"--workdir={logistic}", "--num=40", "--epsilon=2", "--num_steps=5").splitlines()
  assert said[0] == "logistic_regression on digits · test · 40 examples · linf 2"
  assert [line.split(":")[0] for line in said[1:]] == ["clean", "fgsm", "iterated", "projected gradient"]
  found = json.loads((logistic / "attack_linf.json").read_text())
  right = {name: row["accuracy"]["value"] for name, row in found["rows"].items()}
  assert right["clean"] > 0.9 and right["fgsm"] < right["clean"] - 0.1 and right["projected gradient"] <= right["fgsm"]
  assert found["rows"]["iterated"]["num_slopes"] == 5 and found["attacks"]["fgsm"]["epsilon"] == 2.0
  assert (logistic / "attack_linf.png").exists()


@pytest.mark.parametrize(("args", "message"), [
    (("--epsilon=-1",), "epsilon is -1.0; it must be at least 0"), (("--norm=l1",), "norm is 'l1'"),
    (("--num_steps=0",), "num_steps is 0"), (("--purifier=nowhere",), "--purifier is 'nowhere', and there is no such"),
    (("--aware",), "--aware is set, but there is no purifier"), (("--keep=0.9",), "--keep is set, but there is no"),
    (("--num=-1",), "--num=-1"), (("--seed=-1",), "--seed=-1"),
    (("--purifier=HERE",), "has neither conditionals of its values nor a denoiser"), (("--split=tset",), "tset")])
def test_attacks_that_cannot_be(commands, logistic, args, message):
  result = commands.run("attack", f"--workdir={logistic}", *(each.replace("HERE", str(logistic)) for each in args))
  assert result.status == 2 and message in result.err and result.err.count("error:") == 1


def test_a_purifier_of_another_event_is_told(commands, logistic, unbroken):
  result = commands.run("attack", f"--workdir={logistic}", f"--purifier={unbroken('digits')}")
  assert result.status == 2 and "of another event" in result.err  # digits of two levels


def test_a_model_without_labels_or_gradients_is_told(commands, unbroken, tmp_path):
  result = commands.run("attack", f"--workdir={unbroken('digits')}")
  assert result.status == 2 and "tells no labels" in result.err
  commands.good("train", "--config=configs/discriminative/naive_bayes.py:digits", f"--workdir={tmp_path / 'bayes'}")
  result = commands.run("attack", f"--workdir={tmp_path / 'bayes'}")
  assert result.status == 2 and "tells labels of integers only" in result.err


@pytest.mark.slow
def test_an_attack_through_the_purifier_and_detection_by_its_density(commands, logistic, tmp_path):
  commands.good("train", "--config=configs/autoregressive/gated_pixelcnn.py:digits", f"--workdir={tmp_path}", *FEW,
                "--config.model.network.num_layers=2", "--config.model.network.width=8")
  said = commands.good("attack", f"--workdir={logistic}", f"--purifier={tmp_path}", "--num=30", "--epsilon=2",
                       "--aware", "--num_steps=3", "--purifier_epsilon=3", "--keep=0.5", "--norm=l2")
  assert "attacked through the purifier" in said and "AUROC of detection" in said
  rows = json.loads((logistic / "attack_l2.json").read_text())["rows"]
  assert rows["projected gradient"]["aware"] is not None and rows["fgsm"]["aware"] is None
  assert 0.0 <= rows["fgsm"]["alarms"] <= 1.0 and 0.0 <= rows["fgsm"]["noticed"]["auroc"]["value"] <= 1.0


def spam(path, num=120):
  rng = np.random.default_rng(0)
  label = rng.integers(0, 2, num)
  x = rng.normal(size=(num, 4)) + label[:, None]
  np.savez(path, x=x, label=label)
  return path


def test_learning_curves_of_a_generative_and_a_discriminative_model(commands, tmp_path):
  data = spam(tmp_path / "spam.npz")
  said = commands.good("learning_curve", f"--data={data}", f"--workdir={tmp_path / 'out'}", "--sizes=20,40",
                       "--folds=3", "--features=standardized").splitlines()
  assert said[0] == "120 examples, 120 distinct, in 3 folds; features: standardized"
  assert [line.split(":")[0] for line in said[1:4]] == ["20", "40", "all"] and len(said) == 5
  found = json.loads((tmp_path / "out" / "learning_curve_standardized.json").read_text())
  assert found["sizes"] == [20, 40, 80] and set(found["errors"]) == {"naive_bayes", "logistic_regression"}
  assert all(0.0 < point["value"] < 0.3 for points in found["errors"].values() for point in points)
  assert (tmp_path / "out" / "learning_curve_standardized.png").exists()


@pytest.mark.parametrize(("args", "message"), [
    (("--features=absence",), "--features is 'absence'"), (("--sizes=20,10",), "--sizes is '20,10'"),
    (("--sizes=500",), "--sizes has 500, but the other folds of one hold"), (("--folds=1",), "num_folds is 1"),
    (("--models=mlp_classifier", "--sizes=20"), "not a model of labels that is solved"),
    (("--draws=0",), "--draws is 0"),
    (("--sizes=2",), "size is 2; it must be at least 4"), (("--data=nowhere.npz",), "holds no labelled examples")])
def test_learning_curves_that_cannot_be(commands, tmp_path, args, message):
  data = spam(tmp_path / "spam.npz")
  result = commands.run("learning_curve", f"--data={data}", f"--workdir={tmp_path / 'out'}", *args)
  assert result.status == 2 and message in result.err and result.err.count("error:") == 1
