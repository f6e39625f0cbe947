"""Settings that follow the number of training examples."""

import json

import numpy as np
import pytest
from helpers.commands import TINY

from gdm.errors import ConfigError
from gdm.runs import defaults
from gdm.runs.sizes import keep_settings, sized


def config_of(**sections):
  config = defaults.get_config()
  config.update(sections)
  return config


def test_sections_hold_for_their_sizes():
  config = config_of(small={"rows": 100, "optimizer": {"learning_rate": 0.5}},
                     large={"rows": 1000, "optimizer": {"learning_rate": 0.25, "weight_decay": 0.125}})
  rates = {num: sized(config, num).optimizer.learning_rate for num in (1, 99, 100, 999, 1000, 10**9)}
  assert rates == {1: 0.5, 99: 0.5, 100: 1e-3, 999: 1e-3, 1000: 0.25, 10**9: 0.25}
  once = sized(config, 1000)
  assert once.optimizer.weight_decay == 0.125 and sized(once, 1).to_json() == once.to_json()


def test_what_is_set_by_hand_holds_for_every_size():
  config = config_of(large={"rows": 10, "optimizer": {"learning_rate": 0.25, "weight_decay": 0.125}})
  config.optimizer.learning_rate = 0.75
  kept = sized(keep_settings(config, ["optimizer.learning_rate", "seed"]), 10)
  assert (kept.optimizer.learning_rate, kept.optimizer.weight_decay) == (0.75, 0.125)


@pytest.mark.parametrize(("large", "message"), [
    ({"optimizer": {"learning_rate": 0.1}}, "large.rows is None"),
    ({"rows": 0}, "large.rows is 0"),
    ({"rows": 10, "optimizer": {"rate": 0.1}}, "large.optimizer.rate names no field"),
    ({"rows": 10, "data": {"batch_size": 5}}, "large.data.batch_size names no field of the config's sections model"),
    ({"rows": True}, "large.rows is True"),
    ({"rows": 10, "optimizer": {"learning_rate": "x"}}, "large.optimizer.learning_rate is 'x'; it must be of the type"),
    ({"rows": 10, "training": {"num_steps": 2.5}}, "large.training.num_steps is 2.5; .*which is 1000"),
])
def test_sections_that_cannot_be(large, message):
  with pytest.raises(ConfigError, match=message):
    sized(config_of(large=large), 1)


@pytest.mark.slow
def test_a_run_is_trained_and_read_back_with_the_settings_of_its_size(commands, tmp_path):
  rng = np.random.default_rng(0)
  arrays = {name: rng.integers(0, 2, (40, 4), dtype=np.uint8) for name in ("train", "valid", "test")}
  np.savez(tmp_path / "data.npz", **arrays)
  args = [f"{TINY}:by_size", f"--config.data.path={tmp_path / 'data.npz'}"]
  rates = {}
  for name, more in {"rule": [], "by_hand": ["--config.optimizer.learning_rate=1e-3"]}.items():
    commands.good("train", *args, *more, f"--workdir={tmp_path / name}")
    assert "finished already" in commands.good("train", *args, *more, f"--workdir={tmp_path / name}")
    commands.good("evaluate", f"--workdir={tmp_path / name}")
    rates[name] = json.loads((tmp_path / name / "likelihood_test.json").read_text())["nats_mean"]
  # At a rate of 1e-9 nothing is learned.
  commands.good("train", f"{TINY}:npz", *args[1:], "--config.optimizer.learning_rate=1e-9",
                f"--workdir={tmp_path / 'plain'}")
  commands.good("evaluate", f"--workdir={tmp_path / 'plain'}")
  plain = json.loads((tmp_path / "plain" / "likelihood_test.json").read_text())["nats_mean"]
  assert rates["rule"] == plain != rates["by_hand"]
