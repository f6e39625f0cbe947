"""Restoring by the command: what is printed, what is written, and what cannot be."""

import json

import numpy as np
import pytest

FEW = ("--config.training.num_steps=4", "--config.training.eval_every=4", "--config.training.checkpoint_every=4")


@pytest.mark.slow
def test_digits_are_restored_by_several_samplers(commands, unbroken):
  workdir = unbroken("denoiser", *FEW)
  said = commands.good("restore", f"--workdir={workdir}", "--operator=mask:0.5", "--sampler=ddrm,dps,particles",
                       "--num=3", "--examples=4", "--num_steps=3", "--num_particles=6").splitlines()
  assert said[0] == "mask:0.5, noise 0, 4 examples of digits test, 3 draws of each"
  assert [line[:12].strip() for line in said[1:]] == ["unseen 0", "unseen mean", "ddrm", "dps", "particles"]
  record = json.loads((workdir / "restored.json").read_text())
  without = {row["way"]: row["psnr"] for row in record["without_model"]}
  assert without["unseen mean"] > without["unseen 0"]
  rows = {row["sampler"]: row for row in record["rows"]}
  assert rows["ddrm"]["nfe"] == 4.0 and rows["particles"]["nfe"] == 8.0
  assert rows["ddrm"]["coverage"]["stated"] == pytest.approx(0.5)
  with np.load(workdir / "restored_mask0.5_ddrm.npz") as found:
    assert found["x"].shape == (3, 4, 8, 8, 1) and found["truth"].shape == (4, 8, 8, 1)
    seen = found["y"].reshape(4, -1)
    assert seen.shape == (4, 32) and set(np.unique(seen)) <= set(range(17))
  assert (workdir / "restored_mask0.5_ddrm.png").exists()


@pytest.mark.slow
def test_labels_and_noise(commands, unbroken):
  workdir = unbroken("denoiser", *FEW)
  said = commands.good("restore", f"--workdir={workdir}", "--operator=quantize:4", "--sampler=dps,repaint", "--num=2",
                       "--examples=3", "--num_steps=2", "--labels", "--guidance=2", "--noise=0.5", "--timed")
  assert "NFE/s" in said and "left out: sampler is 'repaint', which needs a linear operator" in said


@pytest.mark.parametrize(("args", "message"), [
    (("--sampler=dsp",), "did you mean 'dps'"), (("--num=0",), "--num is 0"), (("--noise=-1",), "--noise is -1.0"),
    (("--sampler=pigdm",), "has none: choose completion"), ((), "needs a mask"),
    (("--examples=0",), "--examples is 0")])
def test_flags_that_cannot_be(commands, unbroken, args, message):
  result = commands.run("restore", f"--workdir={unbroken('digits')}", *args)
  assert result.status == 2 and message in result.err and result.err.count("error:") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("args", "message"), [
    (("--operator=blurr:1",), "did you mean 'blur'"), (("--num_particles=5",), "has none"),
    (("--operator=quantize:4",), "is not linear; choose dps"), (("--operator=grey",), "has one channel"),
    (("--sampler=repaint", "--noise=1"), "takes measurements as exact")])
def test_what_cannot_be_restored(commands, unbroken, args, message):
  result = commands.run("restore", f"--workdir={unbroken('denoiser', *FEW)}", *args)
  assert result.status == 2 and message in result.err and result.err.count("error:") == 1
