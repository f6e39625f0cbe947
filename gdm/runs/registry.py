"""Names become builders: one line per model.

A builder is a class or a function that takes the data's spec and the model's settings by keyword. A default that is a
dataclass, a network say, is a section of the config with fields of its own. Where a section has a `name`, it may be
another one of `PARTS`, or a model. A model within a model is of the same data, unless its field was declared by
`gdm.submodels.of_spec`.
"""

import contextlib
import contextvars
import dataclasses
import importlib
import inspect
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError, nearest
from gdm.model import Model
from gdm.networks.from_data import is_from_data
from gdm.submodels import OF_SPEC, SpecOf

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
    "fvsbn": ("gdm.autoregressive.vectors.fvsbn", "FVSBN"),
    "mlp": ("gdm.autoregressive.vectors.mlp", "UntiedMLP"),
    "nade": ("gdm.autoregressive.vectors.nade", "NADE"),
    "rnade": ("gdm.autoregressive.vectors.rnade", "RNADE"),
    "made": ("gdm.autoregressive.vectors.made", "MADE"),
    "token_ensemble": ("gdm.autoregressive.token_ensemble", "TokenEnsemble"),
    "recurrent": ("gdm.autoregressive.sequences.recurrent", "recurrent"),
    "recurrent_frames": ("gdm.autoregressive.sequences.recurrent_frames", "RecurrentFrames"),
    "transformer": ("gdm.autoregressive.sequences.transformer", "transformer"),
    "wavenet": ("gdm.autoregressive.sequences.wavenet", "wavenet"),
    "pixelcnn": ("gdm.autoregressive.images.pixelcnn", "pixelcnn"),
    "gated_pixelcnn": ("gdm.autoregressive.images.gated_pixelcnn", "gated_pixelcnn"),
    "pixelsnail": ("gdm.autoregressive.images.pixelsnail", "pixelsnail"),
    "pixelcnn_pp": ("gdm.autoregressive.images.pixelcnn_pp", "pixelcnn_pp"),
    "row_lstm": ("gdm.autoregressive.images.row_lstm", "row_lstm"),
    "diagonal_bilstm": ("gdm.autoregressive.images.diagonal_bilstm", "diagonal_bilstm"),
    # flows
    "nice": ("gdm.flows.nice", "NICE"),
    "realnvp": ("gdm.flows.realnvp", "RealNVP"),
    "glow": ("gdm.flows.glow", "Glow"),
    "maf": ("gdm.flows.maf", "MAF"),
    "iaf": ("gdm.flows.iaf", "IAF"),
    "spline_coupling": ("gdm.flows.spline_coupling", "SplineCoupling"),
    "spline_autoregressive": ("gdm.flows.spline_autoregressive", "SplineAutoregressive"),
    "flow_pp": ("gdm.flows.flow_pp", "FlowPP"),
    "integer_flow": ("gdm.flows.integer_flow", "IntegerFlow"),
    "ffjord": ("gdm.flows.ffjord", "FFJORD"),
    "residual_flow": ("gdm.flows.residual_flow", "ResidualFlow"),
    # diffusion
    "diffusion": ("gdm.diffusion.recipes", "diffusion"),
    "ncsn": ("gdm.diffusion.ncsn", "ncsn"),
    "ddpm": ("gdm.diffusion.ddpm", "ddpm"),
    "improved_ddpm": ("gdm.diffusion.improved_ddpm", "improved_ddpm"),
    "vdm": ("gdm.diffusion.vdm", "vdm"),
    "score_sde": ("gdm.diffusion.score_sde", "score_sde"),
    "edm": ("gdm.diffusion.edm", "edm"),
    "consistency": ("gdm.diffusion.consistency", "Consistency"),
    "flow_matching": ("gdm.diffusion.flow_matching", "flow_matching"),
    # discrete diffusion
    "masked": ("gdm.discrete_diffusion.masked", "masked"),
    "ardm": ("gdm.discrete_diffusion.ardm", "ardm"),
    "d3pm": ("gdm.discrete_diffusion.d3pm", "d3pm"),
    # energy
    "rbm": ("gdm.energy.discrete.rbm", "RBM"),
    "conditional_rbm": ("gdm.energy.discrete.conditional_rbm", "ConditionalRBM"),
    "gaussian_rbm": ("gdm.energy.continuous.gaussian_rbm", "GaussianRBM"),
    "ising": ("gdm.energy.discrete.ising", "Ising"),
    "ebm": ("gdm.energy.continuous.ebm", "EBM"),
    "jem": ("gdm.energy.continuous.jem", "JEM"),
    "tilted": ("gdm.energy.continuous.tilted", "Tilted"),
    "product": ("gdm.energy.continuous.product", "Product"),
    # latent
    "ppca": ("gdm.latent.ppca", "PPCA"),
    "factor_analysis": ("gdm.latent.factor_analysis", "FactorAnalysis"),
    "autoencoder": ("gdm.latent.autoencoder", "Autoencoder"),
    "vae": ("gdm.latent.vae", "VAE"),
    "iwae": ("gdm.latent.iwae", "iwae"),
    "hierarchical_vae": ("gdm.latent.hierarchical_vae", "HierarchicalVAE"),
    "vqvae": ("gdm.latent.vqvae", "VQVAE"),
    "latent_frames": ("gdm.latent.latent_frames", "LatentFrames"),
    # adversarial
    "gan": ("gdm.adversarial.gan", "GAN"),
    "dcgan": ("gdm.adversarial.dcgan", "dcgan"),
    "wgan": ("gdm.adversarial.wgan", "wgan"),
    "wgan_gp": ("gdm.adversarial.wgan_gp", "wgan_gp"),
    "conditional_gan": ("gdm.adversarial.conditional_gan", "conditional_gan"),
    # discriminative
    "naive_bayes": ("gdm.discriminative.naive_bayes", "naive_bayes"),
    "logistic_regression": ("gdm.discriminative.logistic_regression", "LogisticRegression"),
    "mlp_classifier": ("gdm.discriminative.mlp_classifier", "mlp_classifier"),
    "cnn_classifier": ("gdm.discriminative.cnn_classifier", "cnn_classifier"),
}


# Parts that a config chooses by name, as `model.network.name`, by the package of the model and its field.
Named = Mapping[str, tuple[str, str]]
Parts = Mapping[str, Named]
PARTS: dict[str, Parts] = {
    "adversarial": {
        "generator": {
            "mlp": ("gdm.adversarial.networks.perceptrons", "PerceptronGenerator"),
            "convolutional": ("gdm.adversarial.networks.convolutional", "ConvolutionalGenerator"),
        },
        "critic": {
            "mlp": ("gdm.adversarial.networks.perceptrons", "PerceptronCritic"),
            "convolutional": ("gdm.adversarial.networks.convolutional", "ConvolutionalCritic"),
        },
    },
    "discriminative": {"network": {
        "mlp": ("gdm.discriminative.networks.mlp", "ClassifierPerceptron"),
        "convolutional": ("gdm.discriminative.networks.convolutional", "Convolutional"),
    }},
    "diffusion": {"network": {
        "unet": ("gdm.diffusion.networks.unet", "UNet"),
        "transformer": ("gdm.diffusion.networks.diffusion_transformer", "DiffusionTransformer"),
        "mlp": ("gdm.diffusion.networks.denoising_mlp", "DenoisingMLP"),
    }},
    "discrete_diffusion": {"network": {
        "transformer": ("gdm.discrete_diffusion.networks.transformer", "BidirectionalTransformer"),
        "residual": ("gdm.discrete_diffusion.networks.residual", "Residual"),
        "mlp": ("gdm.discrete_diffusion.networks.perceptron", "Perceptron"),
    }},
    "energy": {"network": {
        "mlp": ("gdm.energy.continuous.networks", "MLPEnergy"),
        "convolutional": ("gdm.energy.continuous.networks", "ConvolutionalEnergy"),
        "quadratic": ("gdm.energy.continuous.networks", "QuadraticEnergy"),
    }},
    "latent": {
        "encoder": {
            "mlp": ("gdm.latent.networks.perceptrons", "PerceptronEncoder"),
            "convolutional": ("gdm.latent.networks.convolutional", "ConvolutionalEncoder"),
            "grid": ("gdm.latent.networks.codes", "GridEncoder"),
        },
        "decoder": {
            "mlp": ("gdm.latent.networks.perceptrons", "PerceptronDecoder"),
            "convolutional": ("gdm.latent.networks.convolutional", "ConvolutionalDecoder"),
            "grid": ("gdm.latent.networks.codes", "GridDecoder"),
        },
        "posterior": {
            "diagonal": ("gdm.latent.posteriors", "Diagonal"),
            "full": ("gdm.latent.posteriors", "Full"),
            "iaf": ("gdm.latent.posteriors", "InverseAutoregressive"),
        },
        "prior": {
            "normal": ("gdm.latent.priors", "StandardNormal"),
            "mixture": ("gdm.latent.priors", "MixturePrior"),
            "vamp": ("gdm.latent.priors", "VampPrior"),
        },
        "output": {
            "bernoulli": ("gdm.latent.outputs", "BernoulliOutput"),
            "categorical": ("gdm.latent.outputs", "CategoricalOutput"),
            "logistic_mixture": ("gdm.latent.outputs", "LogisticMixtureOutput"),
            "gaussian": ("gdm.latent.outputs", "GaussianOutput"),
        },
    },
}

# Section -> the name that the command line gives it, while a config file is read: its fields follow from it.
_chosen: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar(
    "chosen", default=types.MappingProxyType({}))


def build_model(settings: Mapping[str, Any], spec: DataSpec) -> Model:
  """Return the model that `settings["name"]` names, with the other settings as its fields.

  A setting that is itself a mapping with a name becomes a model in its turn: a prior, a base, a component.

  Raises:
    ConfigError: the name or a field is unknown, a field is missing or of another type.
    SpecError: the model cannot take data of this spec.
  """
  return _build(settings, spec, "model")


def _build(settings: Mapping[str, Any], spec: DataSpec, section: str) -> Model:
  name = settings["name"]
  builder = _builder(name, section)
  return builder(spec=spec, **_arguments(section, name, settings, _parameters(builder), spec, _parts(name)))


def complete(settings: Mapping[str, Any], section: str = "model") -> dict[str, Any]:
  """Return the settings of a model with those that are left out at their defaults, in its sections too.

  Args:
    settings: "name", and any fields.
    section: dotted name of the settings in the config.

  Raise ConfigError where a name is unknown.
  """
  name = settings["name"]
  return {"name": name, **_completed(_parameters(_builder(name, section)), settings, section, _parts(name))}


@contextlib.contextmanager
def chosen(names: Mapping[str, str]) -> Iterator[None]:
  """Complete sections within this context as those of other names: dotted section -> name."""
  token = _chosen.set(names)
  try:
    yield
  finally:
    _chosen.reset(token)


def load_object(module: str, name: str) -> Any:
  """Return the attribute `name` of `module`, imported when asked for, so that a run pays only for what it uses."""
  return getattr(importlib.import_module(module), name)


@dataclasses.dataclass(frozen=True)
class _Parameter:
  """A field that a config may set: its default or MISSING, its annotation, and the spec of a model that it holds."""

  default: Any
  hint: Any
  spec: SpecOf | None = None


def _builder(name: Any, section: str) -> Any:
  if not isinstance(name, str):
    raise ConfigError(f"{section}.name is {name!r}; it must be the name of a model, as 'made'.")
  module, colon, attribute = name.partition(":")
  if not colon:
    checks.one_of(f"{section}.name", name, MODELS)
    return load_object(*MODELS[name])
  try:
    return load_object(module, attribute)
  except (ImportError, AttributeError) as error:
    raise ConfigError(f"{section}.name is {name!r}, which cannot be loaded: {error}; it must be a name of this "
                      "package, or '<module>:<class or function>' of yours.") from error


def _parts(model: str) -> Parts:
  """Return the parts that a model can hold, by field: those of its package."""
  module, _ = MODELS.get(model, (model, ""))
  return PARTS.get(module.removeprefix("gdm.").partition(".")[0], {})


def _parameters(builder: Any) -> dict[str, _Parameter]:
  """Return the fields of a class or function that a config may set.

  A function's `**settings: Unpack[Names]` are fields of the dataclass that it returns, at the defaults there.
  """
  hints, specs = typing.get_type_hints(builder), _specs(builder)
  fields = {}
  for name, each in inspect.signature(builder).parameters.items():
    if each.kind is inspect.Parameter.VAR_KEYWORD:
      defaults = {field.name: field.default for field in dataclasses.fields(hints["return"])}
      specs = _specs(hints["return"])
      names = typing.get_type_hints(*typing.get_args(hints[name]))
      fields |= {field: _Parameter(defaults[field], hint, specs.get(field)) for field, hint in names.items()}
    elif name != "spec":
      fields[name] = _Parameter(dataclasses.MISSING if each.default is inspect.Parameter.empty else each.default,
                                hints.get(name, Any), specs.get(name))
  return fields


def _specs(builder: Any) -> dict[str, SpecOf]:
  """Return the fields of a dataclass that hold models of other data, and what makes the spec of each."""
  fields = dataclasses.fields(builder) if dataclasses.is_dataclass(builder) else ()
  return {field.name: field.metadata[OF_SPEC] for field in fields if OF_SPEC in field.metadata}


def _part_parameters(part: Any) -> dict[str, _Parameter]:
  """Return the fields of a dataclass instance that a config may set, with its values as defaults; a network's,
  without those that follow from the data."""
  return {field.name: _Parameter(getattr(part, field.name), field.type) for field in dataclasses.fields(part)
          if field.init and field.name not in ("parent", "name") and not is_from_data(field)}


def _is_part(value: Any) -> bool:
  return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _named_part(name: str, section: str, named: Named) -> Any:
  """Return the part that a section names, with its defaults."""
  checks.one_of(f"{section}.name", name, named)
  return load_object(*named[name])()


def _is_model(name: str, named: Named) -> bool:
  """Return whether the name in a section is a model's, where `named` are the parts that it could be."""
  return name not in named and (not named or name in MODELS or ":" in str(name))


def _completed(parameters: Mapping[str, _Parameter], settings: Mapping[str, Any], section: str,
               parts: Parts) -> dict[str, Any]:
  result = {}
  for field, parameter in parameters.items():
    value, where, named = settings.get(field, parameter.default), f"{section}.{field}", parts.get(field, {})
    if value is dataclasses.MISSING:
      continue
    choice = _chosen.get().get(where)
    if _is_part(value):
      names = [name for name, place in named.items() if load_object(*place) is type(value)]
      if names and choice not in (None, *names):
        value = None  # of another part, fields of the default one say nothing
      else:
        value = {**_completed(_part_parameters(value), {}, where, parts), **({"name": names[0]} if names else {})}
    if choice and value is None:
      value = {"name": choice}
    if isinstance(value, Mapping) and "name" in value:
      name = choice or value["name"]
      is_model = _is_model(name, named)
      own = _parameters(_builder(name, where)) if is_model else _part_parameters(_named_part(name, where, named))
      # The settings of another part hold for this one as far as it has them.
      known = value if name == value["name"] else {key: value[key] for key in value if key in own}
      value = {**_completed(own, known, where, _parts(name) if is_model else parts), "name": name}
    elif isinstance(value, Mapping) and _is_part(parameter.default):
      value = _completed(_part_parameters(parameter.default), value, where, parts)
    result[field] = value
  return result | {field: value for field, value in settings.items() if field != "name" and field not in parameters}


def _arguments(section: str, name: str, settings: Mapping[str, Any], parameters: Mapping[str, _Parameter],
               spec: DataSpec, parts: Parts) -> dict[str, Any]:
  """Return the checked arguments of a builder, or the fields to replace of a part."""
  arguments = {}
  # Models of other data come last: their specs follow from the other fields.
  for field in sorted(settings, key=lambda field: field in parameters and parameters[field].spec is not None):
    value = settings[field]
    if field == "name":
      continue
    if field not in parameters:
      within = [part for part, each in parameters.items() if _is_part(each.default)
                and field in _part_parameters(each.default)]
      hint = f"did you mean '{section}.{within[0]}.{field}'?" if within else nearest(field, parameters)
      raise ConfigError(f"{section}.{field} is unknown to {name}; {hint}")
    if not all(map(math.isfinite, _floats(value))):  # they would be NaN in every loss, and JSON cannot record them
      raise ConfigError(f"{section}.{field} is {value!r}; it must be finite.")
    parameter, of = parameters[field], spec
    if parameter.spec is not None and isinstance(value, Mapping):
      of = parameter.spec({**{each: known.default for each, known in parameters.items()}, **arguments}, spec)
    arguments[field] = _built(value, of, parameter, f"{section}.{field}", parts.get(field, {}), parts)
    if not isinstance(value, Mapping) and not _is_of(arguments[field], parameter.hint):
      raise ConfigError(f"{section}.{field} is {value!r}; it must be {_words(parameter.hint)}.")
  for field, parameter in parameters.items():
    if parameter.default is dataclasses.MISSING and field not in arguments:
      raise ConfigError(f"{section}.{field} is missing; {name} has no default for it.")
  return arguments


def _built(value: Any, spec: DataSpec, parameter: _Parameter, section: str, named: Named, parts: Parts) -> Any:
  """Return the value with every mapping that has a model's name, alone or in a tuple, made a model, and a section a
  part."""
  if isinstance(value, tuple):
    return tuple(_built(item, spec, parameter, section, named, parts) for item in value)
  if not isinstance(value, Mapping):
    return value
  if "name" in value and _is_model(value["name"], named):
    return _build_part(value, spec, section, parameter)
  part = _named_part(value["name"], section, named) if "name" in value else parameter.default
  name = value.get("name", type(part).__name__)
  fields = _arguments(section, name, value, _part_parameters(part), spec, parts)
  return part.clone(**fields) if isinstance(part, nn.Module) else dataclasses.replace(part, **fields)


def _build_part(value: Mapping[str, Any], spec: DataSpec, section: str, parameter: _Parameter) -> Model:
  """Return a model within a model. An error of its fields, which it names as its own, begins with its section."""
  try:
    return _build(value, spec, section)
  except (ConfigError, SpecError) as error:
    if str(error).startswith(section):
      raise
    whose = f"{section}, whose data the whole model makes" if parameter.spec else section
    raise type(error)(f"{whose}: {error}") from error


def _is_of(value: Any, hint: Any) -> bool:
  """Return whether a config's value is of an annotated type; annotations it cannot judge pass."""
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


def _floats(value: Any) -> list[float]:
  """Return the floats in a value, those in tuples included."""
  if isinstance(value, tuple):
    return [each for item in value for each in _floats(item)]
  return [value] if isinstance(value, float) else []


def _words(hint: Any) -> str:
  return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
