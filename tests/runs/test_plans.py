"""Plans of runs: what a model that is solved cannot be asked for."""

import pytest

from gdm.data.load import load_dataset
from gdm.errors import ConfigError
from gdm.runs import defaults
from gdm.runs.plans import make_plan
from gdm.runs.registry import build_model
from gdm.training.preemption import Interruption


@pytest.mark.parametrize(("section", "field", "value"), [
    ("training", "accumulate", 2), ("training", "ema_decay", 0.9), ("training", "precision", "bfloat16"),
    ("training", "remat", "stages"), ("mesh", "fsdp", 2), ("mesh", "tensor", 2)])
def test_settings_of_steps_are_refused_by_models_that_are_solved(section, field, value):
  config = defaults.get_config("independent", {section: {field: value}})
  dataset = load_dataset("digits")
  model = build_model(config.model.to_dict(), dataset.spec)
  with pytest.raises(ConfigError, match=rf"^{section}.{field} is {value!r}, but independent is fitted without steps"):
    make_plan(config, dataset, model, None, Interruption(lambda: None))
