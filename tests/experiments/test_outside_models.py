"""Models and configs from outside this repository, by the same commands; and trials of a few steps."""

import json

import pytest
from helpers.commands import ROOT

import gdm

MODEL = '''
import dataclasses
import jax.numpy as jnp
import jax
from gdm.batches import checked
from gdm.dataspec import DataSpec
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import LossOutput, Mean, Objective


@dataclasses.dataclass(frozen=True)
class Bits:
  spec: DataSpec
  start: float = 0.0

  def __post_init__(self):
    self.spec.require_binary("Bits")

  @property
  def objectives(self):
    return (Objective(groups=("model",), loss=self.loss),)

  def init(self, key, batch):
    return {"model": {"logits": jnp.full(self.spec.num_dims, self.start)}}, {}

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    x, logits = jnp.reshape(batch["x"], (-1, self.spec.num_dims)), params["model"]["logits"]
    nats = jnp.sum(x * logits - jax.nn.softplus(logits), axis=1)
    return checked(self.spec, batch, LogLikelihood.of(nats, self.spec.num_dims, Kind.EXACT))

  def loss(self, params, carry, batch, key, step):
    nats = self.log_likelihood(params, carry, batch, key).nats
    return LossOutput(-nats.mean(), {"nll": Mean.of(-nats)}, carry)
'''
CONFIG = '''
from gdm.runs import defaults

def get_config(variant="digits"):
  return defaults.get_config("my_models.bits:Bits", {
      "data": {"name": "digits", "transforms": ("binarize",)}, "optimizer": {"learning_rate": 0.1},
      "training": {"num_steps": 60}})
'''


@pytest.fixture
def outside(tmp_path, monkeypatch):
  """A package and a config in a folder of their own."""
  (tmp_path / "my_models").mkdir()
  (tmp_path / "my_models" / "__init__.py").write_text("")
  (tmp_path / "my_models" / "bits.py").write_text(MODEL)
  (tmp_path / "my_config.py").write_text(CONFIG)
  monkeypatch.syspath_prepend(tmp_path)
  return tmp_path


def test_a_model_and_a_config_of_ones_own_need_no_line_here(commands, outside):
  workdir, where = outside / "run", {"PYTHONPATH": str(outside)}
  commands.good("train", f"--config={outside}/my_config.py", f"--workdir={workdir}", "--config.model.start=0.5",
                **where)
  said = commands.good("evaluate", f"--workdir={workdir}", **where)
  assert said.startswith("my_models.bits:Bits · digits+binarize · test: ") and "exact" in said
  assert "my_models.bits:Bits" in commands.good("leaderboard", str(outside))
  out = outside / "bits.safetensors"
  commands.good("export", f"--workdir={workdir}", f"--out={out}", **where)
  assert gdm.load(out).config.model.start == 0.5
  for command, words in (("sample", "my_models.bits:Bits cannot sample"), ("latent", "has no latents")):
    result = commands.run(command, f"--workdir={workdir}", **where)
    assert result.status == 2 and words in result.err, result
  result = commands.run("train", f"--config={outside}/my_config.py", f"--workdir={outside}/other",
                        "--config.model.strt=1", **where)
  assert result.status == 2 and "did you mean 'start'" in result.err
  result = commands.run("train", f"--config={outside}/my_config.py", f"--workdir={outside}/other",
                        "--config.data.transforms=()", **where)
  assert result.status == 2 and "Bits needs binary data" in result.err


@pytest.mark.fast_cases("autoregressive/made.py:digits")
@pytest.mark.parametrize("config", ["autoregressive/made.py:digits", "flows/maf.py:two_moons"])
def test_a_trial_of_five_steps_needs_one_override(commands, tmp_path, config):
  commands.good("train", f"--config={ROOT}/configs/{config}", f"--workdir={tmp_path}/run",
                "--config.training.num_steps=5")
  record = json.loads((tmp_path / "run" / "finished.json").read_text())
  assert record["step"] == record["validated"] == 5
