"""Every config of the family builds the model it names, with a place for every field."""

import importlib

import jax
import jax.numpy as jnp
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.runs.registry import build_model
from gdm.runs.settings import check_settings

SPECS = {"binarized_digits": DataSpec((8, 8, 1), 2), "binarized_mnist": DataSpec((28, 28, 1), 2),
         "red_wine": DataSpec((11,), None)}
CASES = [(name, variant) for name in ("rbm", "ising", "gaussian_rbm")
         for variant in importlib.import_module(f"configs.energy.{name}").VARIANTS]


@pytest.mark.parametrize("name, variant", CASES)
def test_config_builds_its_model(name, variant):
  config = importlib.import_module(f"configs.energy.{name}").get_config(variant)
  check_settings(config)
  assert config.model.name == name
  spec = SPECS.get(variant, DataSpec((12,), None if name == "gaussian_rbm" else 2))
  model = build_model(config.model.to_dict(), spec)
  batch = {"x": jax.ShapeDtypeStruct((2, *spec.event), jnp.uint8 if spec.is_discrete else jnp.float32)}
  params, carry = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert set(params) == {"model", "base"}
  assert set(carry) == ({"chains"} if model.objective == "pcd" else set())


@pytest.mark.parametrize("name", ["rbm", "ising", "gaussian_rbm"])
def test_unknown_variants_are_named(name):
  with pytest.raises(ConfigError, match="has no variant 'npx'; did you mean 'npz'"):
    importlib.import_module(f"configs.energy.{name}").get_config("npx")
