"""Draws of chains that did not move are told of wherever draws are used: many at once, in pictures, in reports."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.energy.continuous.ebm import EBM
from gdm.energy.continuous.networks import QuadraticEnergy
from gdm.errors import ConfigError
from gdm.evaluation.report import _acceptance_text, _log_z
from gdm.evaluation.split_likelihood import LogZ
from gdm.likelihood import Kind, LogNormalizer
from gdm.model import Samples
from gdm.runs import defaults, plotting, sampling

PLANE = DataSpec((2,), None)


class Stuck:
  """Samples by chains of which a quarter stood still."""

  spec = PLANE

  def sample(self, params, carry, key, num, condition=None):
    return Samples(jnp.zeros((num, 2)), {"stuck": jnp.asarray(0.25), "least_acceptance": jnp.asarray(0.7)})


def run_of(model, params=None, carry=None, **settings) -> Any:
  config = defaults.get_config()
  config.model = {"name": "model"}
  config.sampling.update(settings)
  dataset = types.SimpleNamespace(spec=PLANE)
  return types.SimpleNamespace(model=model, params=params or {}, carry=carry or {}, config=config, dataset=dataset)


def test_many_draws_carry_the_words():
  drawn = sampling.draw_many(run_of(Stuck()), 6, {}, "stuck", 3)
  assert drawn.x.shape == (6, 2) and "0.25 of the chains stood still" in drawn.failure


def test_pictures_warn(caplog):
  plotting.draw_samples(run_of(Stuck(), num=3))
  assert "the samples that are shown are not from the model: 0.25 of the chains stood still" in caplog.text


def test_reports_have_the_least_acceptance_and_say_what_it_means():
  def report(acceptance):
    found = LogNormalizer(jnp.asarray(1.0), jnp.asarray(0.1), Kind.LOWER_BOUND, acceptance=acceptance)
    return {"log_z": _log_z(LogZ.of(found))}

  np.testing.assert_allclose(report(jnp.asarray(0.001))["log_z"]["least_acceptance"], 0.001)
  assert "log Z is not to be trusted: annealing accepted only 0.001" in _acceptance_text(report(jnp.asarray(0.001)))[0]
  assert _acceptance_text({"alternatives": [report(jnp.asarray(0.001))]})
  assert not _acceptance_text(report(jnp.asarray(0.6))) and not _acceptance_text(report(None))


@pytest.mark.slow
def test_starts_and_temperatures_are_settings_of_sampling():
  model = EBM(PLANE, network=QuadraticEnergy(), reference=2.0, objective="cd", num_temperatures=4, num_chains=8)
  state = model.init(jax.random.key(0), {"x": np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)})
  drawn = sampling.draw(run_of(model, *state, num=3, start="smc", num_temperatures=6))
  assert drawn.info["nfe"] == 6 * (model.num_leapfrog + 1) and drawn.info["ancestors"] >= 1
  run = run_of(Stuck(), num_temperatures=6)
  with pytest.raises(ConfigError, match=r"sampling\.num_temperatures is 6, but model has none"):
    sampling.draw(run)
  assert sampling.annealing_options(run_of(model, num_temperatures=6), model.complete) == {"num_temperatures": 6}
  with pytest.raises(ConfigError, match="model anneals nothing here; it must be 0"):
    sampling.annealing_options(run, Stuck.sample)
