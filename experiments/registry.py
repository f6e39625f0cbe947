"""Names become builders: one line per model."""

import dataclasses
import types
import typing
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
    "ngram": ("gdm.baselines.ngram", "NGram"),
    "bayesian_network": ("gdm.baselines.bayesian_network", "BayesianNetwork"),
    "chow_liu": ("gdm.baselines.chow_liu", "ChowLiu"),
    "mixture": ("gdm.baselines.mixture", "Mixture"),
    "block_mixture": ("gdm.baselines.block_mixture", "BlockMixture"),
    "gaussian_mixture": ("gdm.baselines.gaussian_mixture", "GaussianMixture"),
    "ensemble": ("gdm.baselines.ensemble", "Ensemble"),
    # autoregressive
    "fvsbn": ("gdm.autoregressive.fvsbn", "FVSBN"),
    "mlp": ("gdm.autoregressive.mlp", "MLP"),
    "nade": ("gdm.autoregressive.nade", "NADE"),
    "rnade": ("gdm.autoregressive.rnade", "RNADE"),
    "made": ("gdm.autoregressive.made", "MADE"),
    "recurrent": ("gdm.autoregressive.recurrent", "Recurrent"),
    "transformer": ("gdm.autoregressive.transformer", "Transformer"),
    "wavenet": ("gdm.autoregressive.wavenet", "WaveNet"),
    "pixelcnn": ("gdm.autoregressive.pixelcnn", "PixelCNN"),
    "gated_pixelcnn": ("gdm.autoregressive.gated_pixelcnn", "GatedPixelCNN"),
    "pixelsnail": ("gdm.autoregressive.pixelsnail", "PixelSNAIL"),
    "pixelcnn_pp": ("gdm.autoregressive.pixelcnn_pp", "PixelCNNPP"),
    "row_lstm": ("gdm.autoregressive.row_lstm", "RowLSTM"),
    "diagonal_bilstm": ("gdm.autoregressive.diagonal_bilstm", "DiagonalBiLSTM"),
    # flows
    "nice": ("gdm.flows.nice", "NICE"),
    "realnvp": ("gdm.flows.realnvp", "RealNVP"),
    "glow": ("gdm.flows.glow", "Glow"),
    "maf": ("gdm.flows.maf", "MAF"),
    "iaf": ("gdm.flows.iaf", "IAF"),
    "spline_coupling": ("gdm.flows.spline_coupling", "SplineCoupling"),
    "spline_autoregressive": ("gdm.flows.spline_autoregressive", "SplineAutoregressive"),
    # diffusion
    "ncsn": ("gdm.diffusion.ncsn", "NCSN"),
    "ddpm": ("gdm.diffusion.ddpm", "DDPM"),
    "improved_ddpm": ("gdm.diffusion.improved_ddpm", "ImprovedDDPM"),
    "vdm": ("gdm.diffusion.vdm", "VDM"),
    "score_sde": ("gdm.diffusion.score_sde", "ScoreSDE"),
    "edm": ("gdm.diffusion.edm", "EDM"),
    "flow_matching": ("gdm.diffusion.flow_matching", "FlowMatching"),
    # energy
    "rbm": ("gdm.energy.rbm", "RBM"),
    "gaussian_rbm": ("gdm.energy.gaussian_rbm", "GaussianRBM"),
    "ising": ("gdm.energy.ising", "Ising"),
    "ebm": ("gdm.energy.ebm", "EBM"),
    "jem": ("gdm.energy.jem", "JEM"),
    "tilted": ("gdm.energy.tilted", "Tilted"),
    "product": ("gdm.energy.product", "Product"),
}


def build_model(settings: Mapping[str, Any], spec: DataSpec) -> Model:
  """The model that `settings["name"]` names, with the other settings as its fields.

  A setting that is itself a mapping with a name becomes a model in its turn: a prior, a base, a component.

  Raises:
    ConfigError: the name or a field is unknown, a field is missing or of another type.
    SpecError: the model cannot take data of this spec.
  """
  name = settings["name"]
  if name not in MODELS:
    raise ConfigError(f"model.name is {name!r}; {nearest(name, MODELS)}")
  builder = load_object(*MODELS[name])
  fields = _fields(builder)
  hints = typing.get_type_hints(builder)
  arguments = {}
  for field, value in settings.items():
    if field == "name":
      continue
    if field not in fields:
      raise ConfigError(f"model.{field} is unknown to {name}; {nearest(field, fields)}")
    arguments[field] = _built(value, spec)
    if not _is_of(arguments[field], hints[field]):
      raise ConfigError(f"model.{field} is {value!r}; it must be {_words(hints[field])}.")
  for field, default in fields.items():
    if default is dataclasses.MISSING and field not in arguments:
      raise ConfigError(f"model.{field} is missing; {name} has no default for it.")
  return builder(spec=spec, **arguments)


def _built(value: Any, spec: DataSpec) -> Any:
  """The value with every mapping that has a name, alone or in a tuple, made a model."""
  if isinstance(value, tuple):
    return tuple(_built(item, spec) for item in value)
  return build_model(value, spec) if isinstance(value, Mapping) and "name" in value else value


def model_defaults(name: str) -> dict[str, Any]:
  """The fields of a model that have a default, at it; {} for an unknown model."""
  fields = _fields(load_object(*MODELS[name])) if name in MODELS else {}
  return {field: default for field, default in fields.items() if default is not dataclasses.MISSING}


def _fields(builder: Any) -> dict[str, Any]:
  """The fields that a config may set, with their defaults or MISSING."""
  return {field.name: field.default for field in dataclasses.fields(builder) if field.init and field.name != "spec"}


def _is_of(value: Any, hint: Any) -> bool:
  """Whether a config's value is of an annotated type; annotations it cannot judge pass."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return any(_is_of(value, option) for option in arguments)
  if origin is tuple and isinstance(value, tuple):
    each = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
    return len(each) == len(value) and all(map(_is_of, value, each))
  if hint in (int, float):
    return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
  kind = origin or hint
  return isinstance(value, kind) if isinstance(kind, type) and kind in (tuple, str, bool, types.NoneType) else True


def _words(hint: Any) -> str:
  return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
