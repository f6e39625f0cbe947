"""Every config of the family builds the model it names, on the kind of data its variant serves."""

import importlib

import jax
import jax.numpy as jnp
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.model import HasSolve
from gdm.runs.registry import build_model

DISCRETE = ("digits", "binarized_mnist", "npz")
VARIANTS = {
    "independent": (*DISCRETE, "toy2d", "text"),
    "table": ("digits_4x4", "binarized_mnist_4x4", "npz"),
    "markov": (*DISCRETE, "text", "shakespeare"),
    "ngram": ("text", "shakespeare"),
    "bayesian_network": DISCRETE,
    "chow_liu": DISCRETE,
    "mixture": DISCRETE,
    "gaussian_mixture": ("toy2d", "npz"),
}
SPECS = {"digits": DataSpec((8, 8, 1), 17), "binarized_mnist": DataSpec((28, 28, 1), 2), "npz": DataSpec((12,), 2),
         "toy2d": DataSpec((2,), None), **dict.fromkeys(("text", "shakespeare"), DataSpec((64,), 65, has_lengths=True)),
         **dict.fromkeys(("digits_4x4", "binarized_mnist_4x4"), DataSpec((4, 4, 1), 2))}
SPECIAL = {("gaussian_mixture", "npz"): DataSpec((11,), None)}


@pytest.mark.parametrize("name, variant", [(name, variant) for name, known in VARIANTS.items() for variant in known])
def test_config_builds_its_model(name, variant):
  config = importlib.import_module(f"configs.baselines.{name}").get_config(variant)
  spec = SPECIAL.get((name, variant), SPECS[variant])
  assert config.model.name == name
  model = build_model(config.model.to_dict(), spec)
  assert isinstance(model, HasSolve)
  batch = {"x": jax.ShapeDtypeStruct((1, *spec.event), jnp.uint8 if spec.is_discrete else jnp.float32)}
  assert set(jax.eval_shape(model.init, jax.random.key(0), batch)[0]) == {"model"}


@pytest.mark.parametrize("name", VARIANTS)
def test_unknown_variants_are_named(name):
  with pytest.raises(ConfigError, match="has no variant 'digit'"):
    importlib.import_module(f"configs.baselines.{name}").get_config("digit")
