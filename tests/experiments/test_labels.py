"""A model of examples and their labels by the commands: scored once, its labels told, its samples class by class."""

import json

import numpy as np
import pytest

from gdm.runs.load import load_run
from gdm.runs.sampling import draw_many
from gdm.runs.workdir import Workdir

# So few steps of annealing that everything is quick, and nothing means much.
SMALL = ("--config.model.network.hidden=(8,)", "--config.model.num_steps=2", "--config.model.num_temperatures=3",
         "--config.model.num_chains=8", "--config.training.num_steps=4", "--config.training.steps_per_call=2",
         "--config.training.log_every=2", "--config.training.eval_every=4")


@pytest.mark.slow
def test_a_joint_energy_model_is_scored_once_and_its_labels_are_told(commands, tmp_path):
  workdir = tmp_path / "run"
  commands.good("train", "--config=configs/energy/jem.py:digits", f"--workdir={workdir}", *SMALL)
  said = commands.good("evaluate", f"--workdir={workdir}")
  found = json.loads((workdir / "likelihood_test.json").read_text())
  assert found["given"] == [] and not list(workdir.glob("*over_labels*"))
  run = load_run(Workdir(workdir), {})
  test = run.dataset.split("test")
  log_probs = np.asarray(run.model.log_label_probs(run.params, run.carry, {"x": test["x"][:]}))
  np.testing.assert_allclose(found["labels"]["accuracy"], np.mean(log_probs.argmax(1) == test["y"][:]), atol=0.02)
  assert said.count("\n") == 1 and f"{found['labels']['accuracy']:.4f} [" in said and "of labels right" in said
  commands.good("sample", f"--workdir={workdir}", "--num=20", "--config.sampling.temperature=0.5")
  assert np.load(workdir / "samples.npz")["x"].shape == (20, 8, 8, 1)
  assert draw_many(run, 12, {}, "test", 6).x.shape == (12, 8, 8, 1)  # labels as often as the data have them, compiled
