"""The programs of docs/programs: short, by public names alone, and doing what they say."""

import ast
import re
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats
from helpers.commands import ROOT

import gdm
from gdm.training import checkpoint

PROGRAMS = sorted((ROOT / "docs" / "programs").glob("*.py"))


def run(name, capsys):
  found = runpy.run_path(str(ROOT / "docs" / "programs" / f"{name}.py"))
  return found, capsys.readouterr().out


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_programs_are_short_and_public(path):
  text = path.read_text()
  tree = ast.parse(text)
  code = {line for node in ast.walk(tree) if isinstance(node, ast.stmt) and not isinstance(node, ast.Module)
          for line in range(node.lineno, node.end_lineno + 1)}
  written = [line for number, line in enumerate(text.splitlines(), start=1) if number in code and line.strip()
             and not line.lstrip().startswith(("#", '"""', "import ", "from "))]
  imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
  assert len(written) <= 20 and len(imports) <= 4, (len(written), len(imports))
  assert not re.search(r"\._[a-z]", text)


@pytest.mark.slow
def test_a_flow_by_hand(capsys):
  found, said = run("flow_by_hand", capsys)
  assert float(said.split()[0]) > -2.9  # a normal of the data's covariance has -2.94 nats
  flow, state = found["flow"], found["state"]
  x = found["draws"]
  z, log_det = flow.forward(state.params, state.carry, x)
  back, other = flow.inverse(state.params, state.carry, z)
  np.testing.assert_allclose(back, x, atol=1e-3)
  np.testing.assert_allclose(other, -log_det, atol=1e-2)


@pytest.mark.slow
def test_every_sampler_takes_a_denoiser(capsys):
  _, said = run("own_denoiser", capsys)
  assert [line.split()[0] for line in said.splitlines()] == list(gdm.diffusion.SAMPLERS)
  numbers = [list(map(float, re.findall(r"-?\d+\.\d+", line))) for line in said.splitlines()]
  for first, second, one, other in numbers:
    assert abs(first - 1.0) < 0.06 and abs(second + 2.0) < 0.06
    assert abs(one - 0.5) < 0.05 and abs(other - 0.5) < 0.05


@pytest.mark.slow
def test_an_energy_of_ones_own(capsys):
  found, _ = run("own_energy", capsys)
  model, state = found["model"], found["state"]
  x = np.asarray(model.sample(state.params, state.carry, jax.random.key(3), 500).x)
  radius, data = (np.linalg.norm(each, axis=1) for each in (x, found["x"]))
  assert abs(np.median(radius) - np.median(data)) < 0.3 * np.median(data)


def test_batches_of_ones_own_resume(tmp_path, monkeypatch, capsys):
  """Started in two parts it is the unbroken run."""
  monkeypatch.chdir(tmp_path)
  unbroken, _ = run("own_batches", capsys)
  steps = checkpoint.list_steps(tmp_path / "checkpoints")
  assert steps == [30, 40]
  for path in (tmp_path / "checkpoints").iterdir():
    if path.name == "40":
      path.rename(tmp_path / "gone")
  resumed, _ = run("own_batches", capsys)
  assert int(resumed["state"].step) == 40
  for one, other in zip(jax.tree.leaves(resumed["state"]), jax.tree.leaves(unbroken["state"]), strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_conditional_flow_recovers_the_posterior(capsys):
  """Of a linear model with normal noise, whose posterior is known; within 0.02 nats."""
  found, said = run("posterior", capsys)
  mixing, flow, state = found["MIXING"], found["flow"], found["state"]
  precision = np.eye(2) + mixing.T @ mixing / 0.25
  covariance = np.linalg.inv(precision)
  rng = np.random.default_rng(10**6)
  theta = rng.normal(size=(5000, 2))
  x = theta @ mixing.T + 0.5 * rng.normal(size=(5000, 3))
  means = x @ mixing @ covariance / 0.25
  true = scipy.stats.multivariate_normal(np.zeros(2), covariance).logpdf(theta - means)
  batch = {"x": theta.astype(np.float32), "context": x.astype(np.float32)}
  score = flow.log_likelihood(state.params, state.carry, batch, jax.random.key(0))
  assert score.given == ("context",)
  assert abs(np.mean(true - np.asarray(score.nats))) < 0.02
  expected = covariance @ mixing.T @ found["observed"] / 0.25
  np.testing.assert_allclose([float(number) for number in re.findall(r"-?\d+\.\d+", said)], expected, atol=0.03)


@pytest.mark.slow
def test_a_transformer_sorts_unseen_sequences(capsys):
  _, said = run("translation", capsys)
  assert float(said.split("%")[0]) > 95.0


def test_the_guide_shows_them_all():
  guide = Path(ROOT / "docs" / "guides" / "own_code.md").read_text()
  for path in PROGRAMS:
    assert f"programs/{path.name}" in guide
