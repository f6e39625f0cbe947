"""Learning curves of a file: where two cross, whichever model is named first, and sizes that are none."""

import json

import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.studies import learning_curve

BETTER_FIRST = {"few": lambda num: 0.2, "many": lambda num: 0.4 if num < 15 else 0.1}


@pytest.mark.parametrize("models", [("few", "many"), ("many", "few")])
def test_a_crossing_is_found_in_either_order_of_the_models(tmp_path, monkeypatch, models):
  rng = np.random.default_rng(0)
  path = tmp_path / "table.npz"
  np.savez(path, x=rng.normal(size=(60, 2)), label=np.arange(60) % 2)
  monkeypatch.setattr(learning_curve, "error_of", lambda name, prepared, y, truth: BETTER_FIRST[name](len(y)))
  monkeypatch.setattr(learning_curve, "save_learning_curves", lambda *args, **settings: None)
  *_, last = learning_curve.learn(path, tmp_path, models, (10, 20), num_folds=3)
  assert last == "few is better up to 10 examples, many from 20 on."
  found = json.loads((tmp_path / "learning_curve_presence.json").read_text())["crossing"]
  assert (found["below"], found["above"], found["models"]) == (10, 20, ["few", "many"])


@pytest.mark.parametrize("texts", [["0", "50"], ["50", "20"], ["x"], []])
def test_sizes_that_are_none_are_refused(texts):
  with pytest.raises(ConfigError, match="--sizes is"):
    learning_curve.parse_sizes(texts)
