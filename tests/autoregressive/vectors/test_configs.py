"""Every config of the family builds its model, and names all of the model's fields."""

import dataclasses

import pytest

from configs.autoregressive import fvsbn as fvsbn_config
from configs.autoregressive import made as made_config
from configs.autoregressive import made_orderings as made_orderings_config
from configs.autoregressive import mlp as mlp_config
from configs.autoregressive import nade as nade_config
from configs.autoregressive import rnade as rnade_config
from gdm.autoregressive.vectors.fvsbn import FVSBN
from gdm.autoregressive.vectors.made import MADE
from gdm.autoregressive.vectors.mlp import UntiedMLP
from gdm.autoregressive.vectors.nade import NADE
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.runs.registry import build_model

CONFIGS = {"fvsbn": (fvsbn_config, FVSBN), "mlp": (mlp_config, UntiedMLP), "nade": (nade_config, NADE),
           "made": (made_config, MADE)}
SPECS = {"digits": DataSpec((8, 8, 1), 17), "binarized_mnist": DataSpec((28, 28, 1), 2), "npz": DataSpec((20,), 2)}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("variant", SPECS)
def test_config_builds_its_model(name, variant):
  module, builder = CONFIGS[name]
  config = module.get_config(variant)
  settings = config.model.to_dict()
  assert settings.pop("name") == name
  model = build_model({"name": name, **settings}, SPECS[variant])
  assert type(model) is builder
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


@pytest.mark.parametrize("variant", ["npz", "red_wine", "two_moons"])
def test_config_of_rnade_builds_it(variant):
  settings = rnade_config.get_config(variant).model.to_dict()
  assert settings.pop("name") == "rnade"
  model = build_model({"name": "rnade", **settings}, DataSpec((11,), None))
  assert set(settings) == {field.name for field in dataclasses.fields(model)} - {"spec"}


def test_members_of_a_mixture_over_orderings_differ_in_their_ordering_alone():
  model = build_model(made_orderings_config.get_config("red_wine").model.to_dict(), DataSpec((11,), None))
  orders = [tuple(component.layout.order) for component in model.components]
  assert len(set(orders)) == len(orders) and orders[0] == tuple(range(11))
  alike = {dataclasses.replace(component, ordering="natural", ordering_seed=0) for component in model.components}
  assert len(alike) == 1
