"""Models composed by name: any path, prediction, weighting and times; and what all recipes share.

A recipe is a function that takes the data's spec and settings, and returns a `Diffusion`.
"""

from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar, Unpack

import flax.linen as nn
import jax.numpy as jnp

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.diffusion.bound import Decoder, DiscretizedGaussianDecoder, PathDecoder
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.inputs import NetworkInputs
from gdm.diffusion.paths.discrete import discretize, linear_betas
from gdm.diffusion.paths.path import NoisePath, TrainablePath, VariancePreserving
from gdm.diffusion.paths.rectified_flow import RectifiedFlow
from gdm.diffusion.paths.variance_exploding import VE, EDMPath
from gdm.diffusion.paths.variance_preserving import Cosine, LogSNRLinear, PiecewiseBeta, SubVP, VPLinear
from gdm.diffusion.preconditioning import Preconditioned
from gdm.diffusion.predictions import PREDICTIONS, Prediction
from gdm.diffusion.times import TIMES, DiscreteTimes, Times
from gdm.diffusion.variance import LearnedVariance
from gdm.diffusion.weightings import WEIGHTINGS, DiscreteVLB, Weighting
from gdm.errors import ConfigError, SpecError

PATHS: dict[str, type] = {"vp_linear": VPLinear, "cosine": Cosine, "sub_vp": SubVP, "log_snr_linear": LogSNRLinear,
                          "ve": VE, "edm": EDMPath, "rectified_flow": RectifiedFlow}
DECODERS = ("auto", "discretized_gaussian", "uniform_prior")
Part = TypeVar("Part")


class DiffusionFields(TypedDict, total=False):
  """Fields of `Diffusion` that every recipe hands on; `Diffusion` explains them and has their defaults.

  A sampler and its number of steps are given to `Diffusion.sample`; only `diffusion` takes defaults for them.
  """

  network: nn.Module | None
  class_conditional: bool
  label_dropout: float
  likelihood: str
  num_probes: int
  tolerance: float
  coded_steps: int


def diffusion(spec: DataSpec, *, path: str | NoisePath | TrainablePath = "cosine",
              prediction: str | Prediction = "v", weighting: str | Weighting = "simple",
              times: str | Times = "uniform", num_noise_steps: int = 0, sampler: str = "ddim", steps: int = 50,
              objective: str = "error", coupling: str = "independent", decoder: str | Decoder = "auto",
              learn_variance: bool = False, sigma_data: float = 1.0,
              network_time: str = "t", fourier: tuple[int, ...] = (), **common: Unpack[DiffusionFields]) -> Diffusion:
  """Return a model of any parts, each a name or an object.

  Example:
    model = diffusion(spec, path="cosine", prediction="v", weighting="min_snr", times="log_normal")

  Args:
    spec: the data.
    path: one of `PATHS`, or a noise path, also one with parameters.
    prediction: one of `PREDICTIONS`, "preconditioned", or a prediction.
    weighting: one of `WEIGHTINGS`, or a weighting.
    times: one of `TIMES`, or a distribution of times.
    num_noise_steps: T of `discrete` times, whose path must preserve variance, or the number of `levels`; 0 is
      continuous time.
    sampler: sampler where none is given.
    steps: steps of sampling where no number is given.
    objective: error or bound.
    coupling: independent or optimal.
    decoder: decoder of integers, see `find_decoder`.
    learn_variance: whether the network gives the variances of discrete steps too.
    sigma_data: standard deviation of values, of the preconditioning, the weighting `edm` and the network's input.
    network_time: t or log_snr.
    fourier: exponents of features, see `NetworkInputs`.
    common: fields of `Diffusion` that every recipe takes, see `DiffusionFields`.

  Raise ConfigError where a name is unknown, or parts do not go together.
  """
  times = find("times", times, TIMES, **_steps_of(times, num_noise_steps))
  path = find("path", path, PATHS)
  if isinstance(times, DiscreteTimes):
    path = discrete_path("path", path, times.num_steps)
  weighting = find_weighting(weighting, path, num_noise_steps, sigma_data)
  prediction = find("prediction", prediction, predictions(sigma_data))
  variance = LearnedVariance(num_noise_steps) if learn_variance else None
  return Diffusion(
      spec, path, prediction, weighting, times, sampler=sampler, steps=steps, objective=objective, coupling=coupling,
      decoder=find_decoder(decoder, spec, isinstance(times, DiscreteTimes)), variance=variance,
      inputs=NetworkInputs(sigma_data, network_time, tuple(fourier)), **common)


def find(field: str, value: str | Part, table: Mapping[str, Any], **settings: Any) -> Part:
  """Return what a name of a table stands for, made with `settings`; any other value as it is.

  Raise ConfigError where the name is unknown.
  """
  if not isinstance(value, str):
    return value
  checks.one_of(field, value, table)
  return table[value](**settings) if isinstance(table[value], type) else table[value]


def predictions(sigma_data: float) -> dict[str, Prediction]:
  """Return the predictions by name, with the one that depends on the data's standard deviation."""
  return {**PREDICTIONS, "preconditioned": Preconditioned(sigma_data)}


def find_weighting(value: str | Weighting, path: NoisePath | TrainablePath, num_steps: int = 0,
                   sigma_data: float = 1.0) -> Weighting:
  """Return a weighting by name; a ConfigError where it is infinite on the path."""
  settings = {"discrete_vlb": {"num_steps": num_steps}, "edm": {"sigma_data": sigma_data}}
  weighting = find("weighting", value, WEIGHTINGS, **settings.get(value, {}) if isinstance(value, str) else {})
  if isinstance(weighting, DiscreteVLB) and isinstance(path, NoisePath) and jnp.isinf(path.log_snr(jnp.zeros(()))):
    raise ConfigError("weighting is 'discrete_vlb', which is infinite at the first step of a path that starts without "
                      "noise; choose 'vlb', or the path 'log_snr_linear' or 've'.")
  return weighting


def find_decoder(value: str | Decoder, spec: DataSpec, has_steps: bool) -> Decoder:
  """Return the p(data | x) of the first step.

  Args:
    value: discretized_gaussian, the papers', a normal around the predicted data, integrated over each level's bin;
      uniform_prior, in proportion to q(x | data), which uses no network; auto, the first one of integers in steps of
      noise. Real data has a decoder of its own, and auto alone.
    spec: the data.
    has_steps: whether noise comes in steps.
  """
  if not isinstance(value, str):
    return value
  checks.one_of("decoder", value, DECODERS)
  if value != "auto" and not spec.is_discrete:
    raise SpecError(f"decoder is {value!r}, which is of integers, but the data is continuous (spec.levels is None); "
                    "set it to 'auto'.")
  if value == "uniform_prior":
    return PathDecoder("reconstruction_uniform_prior")
  takes_network = value == "discretized_gaussian" or (spec.is_discrete and has_steps)
  return DiscretizedGaussianDecoder() if takes_network else PathDecoder()


def discrete_path(field: str, path: NoisePath | TrainablePath, num_steps: int) -> PiecewiseBeta:
  """Return the T steps of noise along a path; those of DDPM along `VPLinear`.

  Raise ConfigError where the path does not preserve variance, as such steps do.
  """
  if isinstance(path, PiecewiseBeta):
    return path
  if isinstance(path, VPLinear):
    return PiecewiseBeta(linear_betas(num_steps, path.beta_min, path.beta_max))
  if not isinstance(path, VariancePreserving):
    raise ConfigError(f"{field} is {type(path).__name__}, but discrete steps of noise preserve variance; choose "
                      "vp_linear, cosine or log_snr_linear, or continuous time (model.name=diffusion, times=uniform).")
  return discretize(path, num_steps)


def steps_of_noise(num_noise_steps: int) -> DiscreteTimes:
  """Return the times of T steps of noise."""
  checks.at_least("num_noise_steps", num_noise_steps, 2)
  return DiscreteTimes(num_noise_steps)


def _steps_of(times: str | Times, num_steps: int) -> dict[str, int]:
  """Settings of times with a number of steps; a ConfigError where it is missing, or given to others."""
  field = {"discrete": "num_steps", "levels": "num"}.get(times) if isinstance(times, str) else None
  if field is None and num_steps and isinstance(times, str):
    raise ConfigError(f"num_noise_steps is {num_steps}, but times is {times!r}, which is continuous; set times to "
                      "'discrete' or 'levels', or num_noise_steps to 0.")
  if field is not None and num_steps < 2:
    raise ConfigError(f"num_noise_steps is {num_steps}, but times is {times!r}; it must be at least 2.")
  return {} if field is None else {field: num_steps}
