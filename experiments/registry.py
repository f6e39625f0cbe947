"""Names become builders: one line per model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.cli import load_object
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, nearest
from gdm.model import Model

MODELS = {
    # baselines
    "independent": ("gdm.baselines.independent", "Independent"),
    "table": ("gdm.baselines.table", "Table"),
    "markov": ("gdm.baselines.markov", "MarkovChain"),
    "bayesian_network": ("gdm.baselines.bayesian_network", "BayesianNetwork"),
    "chow_liu": ("gdm.baselines.chow_liu", "ChowLiu"),
    "mixture": ("gdm.baselines.mixture", "Mixture"),
    # autoregressive
    "fvsbn": ("gdm.autoregressive.fvsbn", "FVSBN"),
    "mlp": ("gdm.autoregressive.mlp", "MLP"),
    "nade": ("gdm.autoregressive.nade", "NADE"),
    "made": ("gdm.autoregressive.made", "MADE"),
}


def build_model(settings: Mapping[str, Any], spec: DataSpec) -> Model:
  """The model that `settings["name"]` names, with the other settings as its fields.

  A setting that is itself a mapping with a name becomes a model in its turn: a prior, a base, a component.

  Raises:
    ConfigError: the name or a field is unknown.
    SpecError: the model cannot take data of this spec.
  """
  name = settings["name"]
  if name not in MODELS:
    raise ConfigError(f"model.name is {name!r}; {nearest(name, MODELS)}")
  builder = load_object(*MODELS[name])
  fields = [field.name for field in dataclasses.fields(builder) if field.init and field.name != "spec"]
  arguments = {}
  for field, value in settings.items():
    if field == "name":
      continue
    if field not in fields:
      raise ConfigError(f"model.{field} is unknown to {name}; {nearest(field, fields)}")
    arguments[field] = build_model(value, spec) if isinstance(value, Mapping) and "name" in value else value
  return builder(spec=spec, **arguments)
