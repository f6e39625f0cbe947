"""A GAN through the commands: trained and looked into; and what is said of the likelihood that it lacks."""

import shutil

import numpy as np
import pytest
from PIL import Image

STEPS = "--config.training.num_steps=6"


@pytest.fixture(scope="module")
def workdir(unbroken, tmp_path_factory):
  return shutil.copytree(unbroken("conditional_gan", STEPS), tmp_path_factory.mktemp("gan") / "run")


def test_latents_are_drawn_and_labels_changed(commands, workdir):
  said = commands.good("latent", f"--workdir={workdir}", "--pairs=3", "--steps=5")
  assert said == f"interpolations.png, labels.png in {workdir}\n"
  with Image.open(workdir / "labels.png") as image:
    assert len(np.unique(np.asarray(image.convert("L")))) > 2
  result = commands.run("latent", f"--workdir={workdir}", "--attribute=1")
  assert result.status == 2 and "conditional_gan cannot infer" in result.err


def test_it_has_no_likelihood_and_says_where_to_look(commands, workdir):
  result = commands.run("evaluate", f"--workdir={workdir}")
  assert result.status == 2 and "experiments.quality" in result.err and result.err.count("\n") == 1


def test_the_newest_state_is_the_best(workdir):
  steps = [int(path.name) for path in (workdir / "best").iterdir() if path.name.isdecimal()]
  assert max(steps) == 6  # older ones stay for checkpoints that go back to them
