"""Editing by the command: what is printed, what is written, and what cannot be."""

import numpy as np
import pytest
from helpers.commands import ROOT

FEW = ("--config.training.num_steps=4", "--config.training.eval_every=4", "--config.training.checkpoint_every=4")


@pytest.mark.slow
def test_digits_are_edited_in_every_way(commands, unbroken, tmp_path):
  workdir = unbroken("denoiser", *FEW)
  guide = tmp_path / "guide.npy"
  np.save(guide, np.full((4, 8, 8, 1), 8))
  said = commands.good("edit", f"--workdir={workdir}", "--strength=0,0.5,1", "--num_steps=4", "--num=2",
                       f"--guide={guide}", "--label=3", "--guidance=2").splitlines()
  assert [line.split(":")[0] for line in said] == [f"sdedit, strength {each}" for each in ("0", "0.5", "1")]
  with np.load(workdir / "edited_sdedit.npz") as found:
    assert found["x_0.5"].shape == (2, 4, 8, 8, 1) and found["x_0.5"].max() <= 16
  assert (workdir / "edited_sdedit.png").exists() and (workdir / "edited_sdedit_strengths.png").exists()
  for args in (("--mode=relabel", "--label=1", "--strength=0.6"), ("--mode=vary",), ("--mode=interpolate",)):
    commands.good("edit", f"--workdir={workdir}", "--examples=4", "--num_steps=4", *args)
    assert (workdir / f"edited_{args[0][7:]}.png").exists()


@pytest.mark.slow
def test_a_classifier_of_noised_digits_guides_to_its_label(commands, unbroken, tmp_path):
  """Given a hundred times Bayes's gradient the draws of any label are other ones than without."""
  workdir, classifiers = unbroken("denoiser", *FEW), {}
  for noise in (0, 5):
    classifiers[noise] = tmp_path / f"classifier_{noise}"
    commands.good("train", f"--config={ROOT}/configs/discriminative/mlp_classifier.py:digits", *FEW,
                  f"--config.model.noise={noise}", f"--workdir={classifiers[noise]}")
  draws = []
  for guidance in (0, 100):
    commands.good("edit", f"--workdir={workdir}", "--strength=1", "--num_steps=4", "--num=1", "--examples=4",
                  "--label=3", f"--classifier={classifiers[5]}", f"--guidance={guidance}")
    with np.load(workdir / "edited_sdedit.npz") as found:
      draws.append(found["x_1"])
  assert (draws[0] != draws[1]).any()
  for classifier, message in ((classifiers[0], "model.noise is 0: this classifier has seen no noise"),
                              (workdir, "must be a run of a classifier that was trained on noise")):
    result = commands.run("edit", f"--workdir={workdir}", "--label=3", f"--classifier={classifier}")
    assert result.status == 2 and message in result.err, result.err


@pytest.mark.parametrize(("args", "message"), [
    (("--classifier=x",), "it goes with --mode=sdedit and --label"),
    (("--mode=sdedti",), "did you mean 'sdedit'"), (("--strength=2",), "--strength is '2'; it must be one or several"),
    (("--strength=x",), "--strength is 'x'"), (("--mode=relabel",), "--label must say which"),
    (("--num_steps=0",), "--num_steps is 0"), (("--mode=vary", "--label=3"), "--mode is vary, which is given none"),
    (("--mode=interpolate", "--label=3"), "leave it out, or choose sdedit or relabel"),
    (("--guidance=2",), "--guidance is 2, but there is no --label"), (("--seed=-1",), "--seed=-1"),
    (("--label=10",), "must be one of the 10 labels"),
    ((), "has no denoiser to edit by")])
def test_edits_that_cannot_be(commands, unbroken, args, message):
  result = commands.run("edit", f"--workdir={unbroken('digits')}", *args)
  assert result.status == 2 and message in result.err and result.err.count("error:") == 1


@pytest.mark.slow
def test_guides_that_cannot_be(commands, unbroken, tmp_path):
  workdir = unbroken("denoiser", *FEW)
  np.save(tmp_path / "other.npy", np.zeros((4, 9)))
  np.save(tmp_path / "nan.npy", np.full((4, 8, 8, 1), np.nan))
  for name, message in (("other", "it must be (number, 8, 8, 1)"), ("nan", "NaN or infinity"),
                        ("none", "cannot be read")):
    result = commands.run("edit", f"--workdir={workdir}", f"--guide={tmp_path / name}.npy")
    assert result.status == 2 and message in result.err
