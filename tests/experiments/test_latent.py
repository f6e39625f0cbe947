"""Flows through the binaries: what is written of latents, labels and densities, and which requests are refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def workdir(unbroken, tmp_path_factory):
  """A copy of a finished run, to write results into."""
  return shutil.copytree(unbroken("flow", "--config.training.num_steps=3"), tmp_path_factory.mktemp("latent") / "run")


@pytest.mark.slow
def test_pictures_of_latents(commands, workdir):
  said = commands.good("latent", f"--workdir={workdir}", "--pairs=3", "--steps=5", "--arithmetic=3,17,25",
                       "--attribute=3", "--without=8", "--traverse=2", "--path=line")
  names = ("reconstructions.png", "interpolations.png", "arithmetic.png", "attribute.png", "traversals.png")
  assert said == f"64 of 64 latents vary over the test split.\n{', '.join(names)} in {workdir}\n"
  for name in names:
    with Image.open(workdir / name) as image:
      assert len(np.unique(np.asarray(image.convert("L")))) > 5


def test_a_bound_is_written_as_one(commands, workdir):
  said = commands.good("evaluate", f"--workdir={workdir}", "--config.evaluation.num_draws=2",
                       "--config.evaluation.num_samples=3")
  report = json.loads((workdir / "likelihood_test.json").read_text())
  assert report["kind"] == "lower_bound" and report["num_draws"] == 2 and "\u2264" in said
  scores = np.load(workdir / "scores_test.npz")
  np.testing.assert_allclose(scores["nats"].mean(), report["nats_mean"])


@pytest.mark.parametrize(("args", "message"), [
    (["--pairs=0"], "--pairs is 0; it must be at least 1"),
    (["--steps=1"], "--steps is 1; it must be at least 2"),
    (["--arithmetic=1,2"], "--arithmetic is '1,2'; it must be the numbers of three examples"),
    (["--arithmetic=1,2,300"], "test has examples 0 to 299"),
    (["--path=arc"], "--path is 'arc'; it must be circle or line"),
    (["--attribute=12"], "--attribute is 12, a label that no example has; they have 0 to 9"),
    (["--strengths=1;2"], "--strengths is '1;2'; it must be numbers"),
])
def test_what_cannot_be_shown(commands, workdir, args, message):
  result = commands.run("latent", f"--workdir={workdir}", *args)
  assert result.status == 2 and message in result.err and result.err.count("\n") == 1


@pytest.mark.slow
def test_models_without_latents_and_latents_in_the_plane(commands, unbroken):
  result = commands.run("latent", f"--workdir={unbroken('digits')}")
  assert result.status == 2 and "fvsbn has no latents to look into" in result.err
  plane = unbroken("plane", "--config.training.num_steps=3")
  assert commands.good("latent", f"--workdir={plane}").endswith(f"latent_map.png in {plane}\n")


@pytest.mark.slow
def test_a_density_of_the_plane_is_drawn_with_its_grid(unbroken):
  with Image.open(unbroken("plane", "--config.training.num_steps=3") / "density.png") as image:
    width, height = image.size
  assert width > 4.5 * height  # five panels


@pytest.mark.slow
def test_a_labelled_model_is_scored_given_labels_and_over_them(commands, unbroken, tmp_path):
  workdir = shutil.copytree(unbroken("labelled_flow", "--config.training.num_steps=3"), tmp_path / "run")
  said = commands.good("evaluate", f"--workdir={workdir}").splitlines()
  assert len(said) == 2 and "log p(x | y)" in said[0] and "log p(x | y)" not in said[1]
  given, over = (json.loads((workdir / f"likelihood_{name}.json").read_text()) for name in ("test", "test_over_labels"))
  assert (given["given"], given["kind"]) == (["y"], "lower_bound")
  assert (over["given"], over["kind"]) == ([], "lower_bound")
  assert (workdir / "samples.png").exists()
  assert commands.good("leaderboard", str(workdir)).count("bits/dim") == 2
