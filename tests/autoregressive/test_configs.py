"""Every config of the family builds its model, and names all of the model's fields."""

import dataclasses

import pytest

from configs.autoregressive import fvsbn as fvsbn_config
from configs.autoregressive import made as made_config
from configs.autoregressive import mlp as mlp_config
from configs.autoregressive import nade as nade_config
from gdm.autoregressive.fvsbn import FVSBN
from gdm.autoregressive.made import MADE
from gdm.autoregressive.mlp import MLP
from gdm.autoregressive.nade import NADE
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError

CONFIGS = {"fvsbn": (fvsbn_config, FVSBN), "mlp": (mlp_config, MLP), "nade": (nade_config, NADE),
           "made": (made_config, MADE)}
SPECS = {"digits": DataSpec((8, 8, 1), 17), "binarized_mnist": DataSpec((28, 28, 1), 2), "npz": DataSpec((20,), 2)}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("variant", SPECS)
def test_config_builds_its_model(name, variant):
  module, builder = CONFIGS[name]
  config = module.get_config(variant)
  settings = config.model.to_dict()
  assert settings.pop("name") == name
  model = builder(SPECS[variant], **settings)
  assert set(settings) == {field.name for field in dataclasses.fields(model)} - {"spec"}
  assert config.data.name in (variant, f"tfds:{variant}")


@pytest.mark.parametrize("name", CONFIGS)
def test_training_on_any_set_stops_early(name):
  module, _ = CONFIGS[name]
  assert module.get_config("npz").training.patience > 0


@pytest.mark.parametrize("name", CONFIGS)
def test_unknown_variant_is_named(name):
  module, _ = CONFIGS[name]
  with pytest.raises(ConfigError, match="did you mean 'binarized_mnist'"):
    module.get_config("binarised_mnist")
