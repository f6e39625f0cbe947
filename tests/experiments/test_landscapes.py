"""Divergences of runs in the plane by closed forms, on an energy that is a formula; and the binary, run through."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gdm.data.dataset import Dataset
from gdm.data.split import MemorySplit
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.likelihood import Kind, LogNormalizer
from gdm.model import Samples
from gdm.runs import defaults, plane, plotting
from gdm.runs.trained import TrainedRun
from gdm.studies.landscapes import Study

SCALE, SHIFT = np.array([1.0, 2.0]), 0.5


@dataclasses.dataclass(frozen=True)
class Bowl:
  """N(SHIFT, diag(SCALE^2)) up to its normalizer, and 3 nats off."""

  spec: DataSpec
  objectives: tuple = ()

  def init(self, key, batch):
    return {}, {}

  def unnormalized_log_prob(self, params, carry, batch):
    return 3.0 - 0.5 * jnp.sum(jnp.square((batch["x"] - SHIFT) / SCALE), axis=1)

  def log_normalizer(self, params, carry, key, examples=None):
    return (LogNormalizer(jnp.asarray(3.0 + np.log(2 * np.pi * SCALE.prod())), jnp.asarray(1e-6), Kind.EXACT),)

  def sample(self, params, carry, key, num, condition=None):
    return Samples(jnp.zeros((num, 2)), {})


def true_log_prob(x):
  return -0.5 * np.sum((x / SCALE) ** 2, axis=1) - np.log(2 * np.pi * SCALE.prod())


def run_of(objective="cd", spec=None, log_prob=true_log_prob):
  rng, config, spec = np.random.default_rng(0), defaults.get_config(), spec or DataSpec((2,), None)
  config.model.update({"name": "bowl", "objective": objective, "denoising_scale": 0.5})
  splits = {name: MemorySplit({"x": (SCALE * rng.normal(size=(4000, 2))).astype(np.float32)})
            for name in ("train", "valid", "test")}
  params = {"base": {"scale": jnp.asarray(SCALE)}}
  return TrainedRun.of(config, Dataset("normal", spec, splits, log_prob=log_prob), Bowl(spec), params, {}, step=7,
                       train_seconds=1.0)


def test_the_divergence_is_from_the_data():
  found = plane.learned(run_of(), 128)
  assert found.divergence is not None and found.target is found.truth
  assert found.divergence.nats == pytest.approx(0.5 * np.sum((SHIFT / SCALE) ** 2), abs=1e-5)
  assert found.divergence.mass == pytest.approx(1, abs=1e-5)
  said = plane.describe(run_of(), found)
  assert said["kl"] == found.divergence.nats and said["kl_error"] == pytest.approx(1e-6, abs=1e-5)
  assert said["noise"] is None and said["log_z_kind"] == "exact"
  [_, line] = plane.table([{"target": "ring", "objective": "nce", "seed": 0, **said}])
  assert "ring" in line and f"{found.divergence.nats:.4f}" in line


def test_denoising_is_held_against_the_noised_data():
  found = plane.learned(run_of("denoising"), 128)
  assert found.divergence is not None
  variance = 1.25  # of the noised data, in the data's
  expected = 0.5 * np.sum((SHIFT / SCALE) ** 2) + (variance - 1) - np.log(variance)
  assert found.divergence.nats == pytest.approx(expected, abs=1e-5)
  assert plane.noise_of(run_of("denoising")) == (0.5, 1.0)
  shown = plane.panels({"nce": plane.learned(run_of(), 32), "denoising": plane.learned(run_of("denoising"), 32)})
  assert [panel.title.split("\n")[0] for panel in shown] == ["truth", "nce", "truth, noised", "denoising"]


def test_without_a_known_truth_there_is_a_landscape_and_no_divergence(tmp_path):
  run = dataclasses.replace(run_of(log_prob=None), folder=tmp_path)
  found = plane.learned(run, 32)
  assert found.divergence is None and "kl" not in plane.describe(run, found)
  plotting.draw_model(run)
  assert [path.name for path in tmp_path.iterdir()] == ["landscape.png"]
  with pytest.raises(ConfigError, match="bowl on normal is no energy of points of the plane"):
    plane.learned(dataclasses.replace(run, data=dataclasses.replace(run.data, spec=DataSpec((2,), 2))))


@pytest.mark.slow
def test_the_binary_trains_measures_and_draws(commands, tmp_path):
  args = (f"--workdir={tmp_path}", "--targets=ring", "--objectives=nce,denoising", "--num_steps=20")
  planned = commands.good("landscapes", *args, "--dry_run").splitlines()
  assert len(planned) == 2 and planned[0].startswith("experiments.train --config=configs/energy/ebm.py:ring")
  result = commands.run("landscapes", *args)
  assert result.status == 0 and result.out.count("\nring ") == 2
  runs = json.loads((tmp_path / "landscapes.json").read_text())["runs"]
  assert [run["objective"] for run in runs] == ["nce", "denoising"]
  assert all(0 < run["kl"] < 2 and run["kl_error"] < 1e-3 for run in runs)
  with Image.open(tmp_path / "landscapes.png") as image:
    assert image.width > 3 * image.height  # truth, nce, noised truth, denoising
  again = commands.run("landscapes", *args)
  assert again.status == 0 and "finished" not in again.out
  longer = commands.run("landscapes", *args[:3], "--num_steps=30")  # a larger number of steps goes on
  assert longer.status == 0 and "30 steps in place of 20" in longer.out
  result = commands.run("landscapes", "--objectives=")
  assert result.status == 2 and "--objectives is empty" in result.err


@pytest.mark.parametrize(("fields", "message"), [
    ({"targets": ("x",)}, "--targets is 'x'"), ({"targets": ("ring", "banan")}, "did you mean 'banana'"),
    ({"targets": ("digits",)}, "--targets is 'digits'"), ({"targets": ()}, "--targets is empty"),
    ({"objectives": ("pdc",)}, "--objectives is 'pdc'; did you mean 'pcd'"), ({"num_seeds": 0}, "--seeds is 0"),
    ({"num_steps": -1}, "--num_steps is -1")])
def test_what_cannot_be_studied_is_refused_before_any_run(tmp_path, fields, message):
  with pytest.raises(ConfigError, match=message):
    Study(tmp_path, **{"targets": ("ring",), "objectives": ("cd",), **fields})
