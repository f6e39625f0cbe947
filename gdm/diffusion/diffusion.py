"""The diffusion model: a network that predicts, trained at all noise levels, and all that follows from it.

A model is composed of a noise path, what the network predicts of x_t, how errors are weighted and which times training
takes. The rest is here: training, sampling by any sampler, likelihoods, latents. The papers' choices are in
gdm/diffusion/{ddpm,edm,...}.py; gdm/diffusion/recipes.py takes any.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Key, Num

from gdm import checks
from gdm.batches import by_name, checked, condition_context, context_width, given, given_context
from gdm.dataspec import DataSpec
from gdm.diffusion import bound, likelihoods, probability_flow
from gdm.diffusion.bound import Decoder, PathDecoder
from gdm.diffusion.inputs import NetworkInputs
from gdm.diffusion.matching import COUPLINGS, MATCHINGS, mean_square, sliced_error
from gdm.diffusion.networks.denoising_mlp import DenoisingMLP
from gdm.diffusion.networks.unet import UNet
from gdm.diffusion.noise_steps import noise_steps
from gdm.diffusion.paths.between import Between, from_log_snr, within
from gdm.diffusion.paths.path import (
  Level,
  NoisePath,
  PathSample,
  TrainablePath,
  expand,
  noised,
  prior_scale,
)
from gdm.diffusion.predictions import PREDICTIONS, Denoise, Parametrization, Prediction, denoiser
from gdm.diffusion.samplers.ancestral import LearnedAncestral
from gdm.diffusion.samplers.clipping import Clipped
from gdm.diffusion.samplers.ddim import DDIM
from gdm.diffusion.samplers.grids import LogSNRGrid
from gdm.diffusion.samplers.guidance import Guidance, Guided
from gdm.diffusion.samplers.named import GRIDS, SAMPLERS, TimedSampler
from gdm.diffusion.samplers.sampler import cost
from gdm.diffusion.scaling import Scaling, statistics
from gdm.diffusion.times import DiscreteTimes, LogSNRTimes, Times, UniformTimes, sample_times
from gdm.diffusion.variance import LearnedVariance, VarianceDenoiser
from gdm.diffusion.weightings import Simple, Weighting, weight_of
from gdm.errors import ConfigError, SpecError, nearest
from gdm.inference import ode
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import (
  Batch,
  Carry,
  Condition,
  Denoiser,
  LossOutput,
  Mean,
  NoiseSteps,
  Objective,
  Params,
  Samples,
)

# Noise that leaves levels apart: this many standard deviations of it lie between two neighbouring levels.
LEVELS_APART = 8.0
# The log-SNRs to sample between: VP's at its ends, about a thousandth of noise, and a 150th of data. With less data
# the prediction of the noise leaves open what the data is, by its error times sigma / alpha, which a large step keeps.
SAMPLED_LOG_SNR = (13.9, -10.1)
OBJECTIVES = ("error", "bound")


@dataclasses.dataclass(frozen=True)
class Diffusion:
  """A model by denoising.

  Parameters are a group "model", the network's, and those of a trainable path. The carry's "statistics" hold how real
  data is standardized; integers become values in [-1, 1].

  Example:
    model = Diffusion(DataSpec((8, 8, 1), 17), Cosine(), PREDICTIONS["v"], MinSNR(5.0), network=UNet(width=64))
    params, carry = model.init(key, batch)
    images = model.sample(params, carry, key, num=16, sampler="dpm_solver", num_steps=20).x

  Attributes:
    spec: the data.
    path: noise path, or one with parameters, which the bound trains.
    prediction: the network's prediction.
    weighting: weight of errors at each time.
    times: times of training; their steps, if any, are the bound's.
    network: a Flax module (features of x_t, times [batch], context or None) -> outputs, whose `outputs` and `context`
      are set here; None is a U-Net for images, else a perceptron (gdm/diffusion/networks).
    sampler: name of the sampler where none is given.
    steps: steps of sampling where no number is given.
    samplers_by_name: samplers that differ from those of gdm/diffusion/samplers/named.py.
    decoder: p(data | x) at the first time, for the bound.
    inputs: what the network is given of x_t and its time.
    parametrization: how outputs of the network become the prediction; None where they are the prediction.
    variance: learned variances of the steps, or None.
    objective: error (weighted squared error of the prediction) or bound (variational, in continuous time).
    matching: of the objective error, denoising or sliced score matching.
    coupling: noise that goes with the data: independent, or optimal within each batch, whose lines cross less.
    class_conditional: whether the network is given the labels "y".
    label_dropout: share of training examples whose label and prefix are withheld, for guidance.
    likelihood: bound (variational) or ode (probability flow); see gdm/diffusion/likelihoods.py.
    num_probes: directions that estimate the ode's divergence; 0 is exact, with as many derivatives as dimensions.
    tolerance: of the ode, relative and absolute.
    coded_steps: of lossless coding, where training's noise has no steps.
  """

  spec: DataSpec
  path: NoisePath | TrainablePath
  prediction: Prediction = PREDICTIONS["noise"]
  weighting: Weighting = dataclasses.field(default_factory=Simple)
  times: Times = dataclasses.field(default_factory=UniformTimes)
  network: nn.Module | None = None
  sampler: str = "ddim"
  steps: int = 50
  samplers_by_name: tuple[tuple[str, TimedSampler], ...] = ()
  decoder: Decoder = dataclasses.field(default_factory=PathDecoder)
  inputs: NetworkInputs = dataclasses.field(default_factory=NetworkInputs)
  parametrization: Parametrization | None = None
  variance: LearnedVariance | None = None
  objective: str = "error"
  matching: str = "denoising"
  coupling: str = "independent"
  class_conditional: bool = False
  label_dropout: float = 0.0
  likelihood: str = "bound"
  num_probes: int = 1
  tolerance: float = 1e-4
  coded_steps: int = 250

  def __post_init__(self) -> None:
    self.spec.require_whole("a diffusion model")
    checks.classes(self.spec, self.class_conditional)
    checks.rate("label_dropout", self.label_dropout)
    if self.label_dropout and not self._droppable:
      raise ConfigError(f"label_dropout is {self.label_dropout}, but class_conditional is False: there are no labels "
                        "to drop; set one of them.")
    for name, known in (("likelihood", likelihoods.LIKELIHOODS), ("objective", OBJECTIVES), ("matching", MATCHINGS),
                        ("coupling", COUPLINGS), ("sampler", self.samplers)):
      checks.one_of(name, getattr(self, name), known)
    checks.at_least("num_probes", self.num_probes, 0, "(0: an exact divergence)")
    checks.at_least("steps", self.steps, 1)
    checks.at_least("coded_steps", self.coded_steps, 1)
    checks.positive("tolerance", self.tolerance)
    ode.Tolerance(self.tolerance, self.tolerance)
    self._require_parts_that_fit()
    _ = self.module  # it checks its fields

  def _require_parts_that_fit(self) -> None:
    """Raise a ConfigError where one part of the model cannot go with another."""
    if self.coupling == "optimal" and self.class_conditional:
      raise ConfigError("coupling is 'optimal' and class_conditional is True: noise would tell of the label; set the "
                        "coupling to 'independent'.")
    if isinstance(self.path, TrainablePath) and self.objective != "bound":
      raise ConfigError(f"objective is {self.objective!r}, but the path has parameters, which only 'bound' trains.")
    if self.objective == "bound" and (self.times.bound_steps is not None or self.times.is_weighting):
      raise ConfigError(f"objective is 'bound', which is in continuous time, but times is {self.times}; choose uniform "
                        "or vlb_importance.")
    if self.variance is not None and not self.has_steps:
      raise ConfigError("variance is learned, that of steps of noise, but times are continuous; choose discrete times.")
    if self.variance is not None and (self.objective, self.matching, self.parametrization) != ("error", "denoising",
                                                                                               None):
      raise ConfigError("variance is learned, which needs the objective 'error', the matching 'denoising' and no other "
                        "parametrization.")
    if isinstance(self.decoder, bound.DiscretizedGaussianDecoder) and not self.has_steps:
      raise ConfigError("decoder is 'discretized_gaussian', which decodes a first step of noise, but times are "
                        "continuous; choose discrete times, or 'auto'.")

  # The parts, put together.

  @property
  def has_steps(self) -> bool:
    """Whether noise comes in T steps, at whose ends the model is trained."""
    return isinstance(self.times, DiscreteTimes)

  @property
  def samplers(self) -> Mapping[str, TimedSampler]:
    """Samplers by name."""
    ancestral = SAMPLERS["ancestral"]
    learned = {} if self.variance is None else {"ancestral": ancestral._replace(sampler=LearnedAncestral())}
    return {**SAMPLERS, **learned, **dict(self.samplers_by_name)}

  def noise_path(self, params: Params) -> NoisePath:
    """Return the noise path, with its parameters where it has any."""
    return self.path.bind(params) if isinstance(self.path, TrainablePath) else self.path

  def sampling_path(self, params: Params) -> NoisePath:
    """Return the part of the path that likelihoods are of.

    Steps of noise begin at the first; trained levels and learned ends stay as they are; else it begins where the noise
    no longer blurs the levels of discrete data.
    """
    path = self.noise_path(params)
    if isinstance(self.times, DiscreteTimes):
      return Between(path, 1.0 / self.times.num_steps, 1.0)
    if self.spec.levels is None or self.times.bound_steps is not None or isinstance(self.path, TrainablePath):
      return path
    return from_log_snr(path, 2.0 * math.log(LEVELS_APART / (2.0 / (self.spec.levels - 1))))

  def stepping_path(self, params: Params) -> NoisePath:
    """Return the part of `sampling_path` that samplers can take in any number of steps (`SAMPLED_LOG_SNR`)."""
    most, least = SAMPLED_LOG_SNR
    return within(self.sampling_path(params), math.inf if self.spec.is_discrete else most, least)

  @property
  def module(self) -> nn.Module:
    """The network, with what follows from the data and the prediction."""
    network = self.network if self.network is not None else UNet() if self.spec.is_image else DenoisingMLP()
    if getattr(network, "takes_images", False) and len(self.spec.event) != 3:
      raise SpecError(f"network is {type(network).__name__}, which is one of images, but the data has events "
                      f"{self.spec.event}; use 'mlp'.")
    outputs = 1 if self.parametrization is None else self.parametrization.outputs(self.spec)
    outputs *= 1 if self.variance is None else 2
    more: dict[str, Any] = {"outputs": outputs * self.spec.event[-1], "context": self.context_width}
    if self.prefix_conditional:
      more["prefix"] = (self.spec.prefix_steps, self.spec.prefix_levels)
    return network.clone(**more)

  @property
  def prefix_conditional(self) -> bool:
    """Whether the density is conditional on a prefix, as it is where the data have one and the network takes it."""
    network = UNet() if self.network is None and self.spec.is_image else self.network
    return self.spec.prefix_steps > 0 and getattr(network, "takes_prefix", False)

  @property
  def prefix_optional(self) -> bool:
    return self.prefix_conditional and self.label_dropout > 0.0

  @property
  def _droppable(self) -> tuple[str, ...]:
    """Entries of a batch that training may withhold."""
    return tuple(name for name in given(self) if name != "context")

  @property
  def context_conditional(self) -> bool:
    """Whether the density is conditional on a real-valued context, as it is where the data have one."""
    return self.spec.context_dims > 0

  @property
  def context_width(self) -> int:
    return context_width(self)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameters; the carry keeps how real data is standardized, by the batch."""
    carry = {} if self.spec.is_discrete else {"statistics": statistics(batch["x"])}
    values = self.scaling(carry).values(jnp.asarray(batch["x"]))[:1]
    context = None if self.context_width == 0 else jnp.zeros((1, self.context_width))
    out: Any = self.module.init(key, self.inputs.features(values), jnp.zeros(1), context)
    of_path = self.path.init(jax.random.fold_in(key, 1)) if isinstance(self.path, TrainablePath) else {}
    return {"model": out["params"], **of_path}, carry

  # Training.

  @property
  def objectives(self) -> tuple[Objective, ...]:
    if self.objective == "error":
      reason = "coupling is 'optimal', which pairs noise with data within the whole minibatch"
      return (Objective(("model",), self.loss, whole_batch=reason if self.coupling == "optimal" else "",
                        unit="weighted squared error"),)
    groups, others = ((self.path.bound_groups, self.path.spread_groups) if isinstance(self.path, TrainablePath)
                      else ((), ()))
    moves_all = Objective(("model", *groups), self.bound_loss, unit="nats per dim")
    return (moves_all, Objective(others, self.spread, unit="squared nats per dim")) if others else (moves_all,)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the weighted squared error of the prediction, a mean over dimensions and the batch."""
    del step
    path = self.noise_path(params)
    _, time_key, noise_key, label_key, dropout_key = jax.random.split(key, 5)
    data = self.scaling(carry).values(jnp.asarray(batch["x"]))
    t, density = sample_times(self.times, path, time_key, len(data))
    noise = COUPLINGS[self.coupling](data, jax.random.normal(noise_key, data.shape, data.dtype))
    sample = noised(path, data, noise, t)
    context = self._dropped(given_context(self, batch), label_key)
    errors = self.errors(params, path, sample, context, dropout_key)
    if not self.times.is_weighting:
      errors = errors / density
    return LossOutput(jnp.mean(errors), {"loss": Mean.of(errors)}, carry)

  def errors(self, params: Params, path: NoisePath, sample: PathSample, context: Array | None,
             key: Key[Array, ""]) -> Float[Array, " batch"]:
    """Return the training error of each example at its time; the key is dropout's."""
    level = sample.level.like(sample.x)
    if self.matching == "sliced":
      probe_key, key = jax.random.split(key)
      return sliced_error(lambda x: self.predicted_noise(params, path, level, x, sample.t, context, key), sample,
                          probe_key)
    value, v = self._predictions(params, path, sample.x, sample.t, context, key)
    target = self.prediction.target(level, sample.data, sample.noise)
    errors = weight_of(self.prediction, self.weighting, path, sample.t) * mean_square(value - target)
    if self.variance is None:
      return errors
    predicted = self.prediction.data(level, sample.x, jax.lax.stop_gradient(value))
    served = self.served({}, sample.data) if isinstance(self.decoder, bound.DiscretizedGaussianDecoder) else None
    term = self.variance.term(path, sample, predicted, v, served, self.spec.levels)
    return errors + self.variance.weight * self.variance.num_steps * (term / (self.spec.num_dims * math.log(2.0)))

  def bound_loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the bound in nats per dimension, a mean over the batch (arXiv:2107.00630, equation 11)."""
    path, scaling = self.sampling_path(params), self.scaling(carry)
    data = scaling.values(jnp.asarray(batch["x"]))
    diffusion = self._diffusion_loss(params, path, data, batch, key)
    noise = jax.random.normal(jax.random.fold_in(key, 1), data.shape, data.dtype)
    x = noised(path, data, noise, jnp.full(len(data), path.ends[0], data.dtype)).x
    parts = {"prior": bound.prior_loss(path, data), "diffusion": diffusion,
             "reconstruction": self.reconstruction(params, path, x, data, batch, None)}
    nats = parts["prior"] + parts["diffusion"] + parts["reconstruction"] - self._log_det(scaling)
    metrics = {"nll": Mean.of(nats), **{name: Mean.of(part) for name, part in parts.items()}}
    return LossOutput(jnp.mean(nats) / self.spec.num_dims, metrics, carry)

  def spread(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the mean square of the diffusion loss per dimension: its variance but for a constant (appendix I.2)."""
    path = self.sampling_path(params)
    data = self.scaling(carry).values(jnp.asarray(batch["x"]))
    squares = (self._diffusion_loss(params, path, data, batch, key) / self.spec.num_dims) ** 2
    return LossOutput(jnp.mean(squares), {"mean_square": Mean.of(squares)}, carry)

  def _diffusion_loss(self, params: Params, path: NoisePath, data: Float[Array, "batch *event"], batch: Batch,
                      key: Key[Array, ""]) -> Float[Array, " batch"]:
    """Return the diffusion loss at one time for each example, in nats."""
    time_key, noise_key, label_key, dropout_key = jax.random.split(key, 4)
    t, density = sample_times(self.times, path, time_key, len(data))
    sample = noised(path, data, jax.random.normal(noise_key, data.shape, data.dtype), t)
    context = self._dropped(given_context(self, batch), label_key)
    predicted = self.predicted_noise(params, path, sample.level.like(data), sample.x, t, context, dropout_key)
    return bound.diffusion_loss(path, t, sample.noise, predicted, density, self.spec.levels)

  # Predictions.

  def _predictions(self, params: Params, path: NoisePath, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
                   context: Float[Array, "batch width"] | None,
                   key: Key[Array, ""] | None) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    """Return the network's prediction at x_t, and where the steps' log-variances lie: if not learned at 0, the
    posterior's."""
    features, time = self.inputs(path, x, t)
    rngs = {} if key is None else {"dropout": key}
    outputs: Any = self.module.apply({"params": params["model"]}, features, time, context, rngs=rngs)
    if self.variance is not None:
      return self.variance.split(outputs)
    value = outputs if self.parametrization is None else self.parametrization.value(path, x, t, outputs)
    return value, jnp.zeros_like(x)

  def predict(self, params: Params, path: NoisePath, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
              context: Float[Array, "batch width"] | None = None,
              key: Key[Array, ""] | None = None) -> Float[Array, "batch *event"]:
    """Return the network's prediction at x_t; with a key, dropout is on."""
    return self._predictions(params, path, x, t, context, key)[0]

  def predicted_noise(self, params: Params, path: NoisePath, level: Level, x: Float[Array, "batch *event"],
                      t: Float[Array, " batch"], context: Float[Array, "batch width"] | None = None,
                      key: Key[Array, ""] | None = None) -> Float[Array, "batch *event"]:
    """Return the prediction of the noise; `level` is shaped like x; with a key, dropout is on."""
    return self.prediction.noise(level, x, self.predict(params, path, x, t, context, key))

  def denoiser(self, params: Params, path: NoisePath, context: Float[Array, "batch width"] | None = None) -> Denoise:
    """Return the prediction of the data, as a function of x_t and t."""
    if self.variance is None:
      return denoiser(self.prediction, path, lambda x, t: self.predict(params, path, x, t, context))
    return VarianceDenoiser(self.prediction, path, lambda x, t: self._predictions(params, path, x, t, context, None))

  def clipped(self, params: Params, path: NoisePath, context: Float[Array, "batch width"] | None) -> Denoise:
    """Return the prediction of the data that samples, and the bound of T steps, are made of; integers' in [-1, 1].

    The papers' code evaluates the bound so. Where hardly any data is left in x, an error of the predicted noise would
    else be divided by a small alpha: the last step of a cosine schedule weighs it by 1,000.
    """
    denoise = self.denoiser(params, path, context)
    return Clipped(denoise) if self.spec.is_discrete else denoise

  def guided(self, params: Params, path: NoisePath, context: Float[Array, "batch width"] | None,
             guidance: Guidance) -> Denoise:
    """Return the prediction of the data given a context, or extrapolated to it from the context without labels.

    The prediction of integers is kept between the lowest and the highest level.
    """
    denoise = self._guided(params, path, context, guidance)
    return Clipped(denoise) if self.spec.is_discrete else denoise

  def _guided(self, params: Params, path: NoisePath, context: Float[Array, "batch width"] | None,
              guidance: Guidance) -> Denoise:
    denoise = self.denoiser(params, path, context)
    if guidance.scale != 1.0 and context is not None:
      return Guided(denoise, self.denoiser(params, path, self._with(context, 0.0, 0.0)), guidance.scale,
                    guidance.interval, guidance.rescale, path.log_snr)
    return denoise

  def denoising(self, params: Params, carry: Carry, num: int = 1, condition: Condition | None = None,
                guidance: float = 1.0) -> Denoiser:
    """Return the prediction of the data with its path and scaling, by which `gdm.inverse` restores and edits.

    Predictions are not clipped, so that they have gradients; `limits` are the lowest and highest value of integers.

    Args:
      params, carry: the model's.
      num: how many conditions there are.
      condition: labels, contexts, prefixes or several, as `sample` takes them.
      guidance: 1 is none, above 1 moves further from no label to the label (classifier-free).

    Raises:
      ConfigError: guidance without labels.
      SpecError: a condition is missing, or must not be.

    Example:
      denoiser = model.denoising(params, carry)
      clean = denoiser.data(denoiser.mean(x_t, jnp.full(len(x_t), 0.5)))
    """
    path, scaling = self.stepping_path(params), self.scaling(carry)
    context = self._condition(condition, num, guidance)

    def mean(x: Float[Array, "batch *event"], t: Float[Array, " batch"]) -> Float[Array, "batch *event"]:
      rows = None if context is None else jnp.tile(context, (len(x) // num, 1))
      return self._guided(params, path, rows, Guidance(guidance))(x, t)

    return Denoiser(mean, path.alpha, path.sigma, path.log_snr, path.time, path.ends, scaling.centre, scaling.scale,
                    (-1.0, 1.0) if self.spec.is_discrete else None, 1 if guidance == 1.0 else 2)

  # Likelihoods.

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return a lower bound, averaged over `num_samples` draws, or an estimate by the ODE; given any "y" and "context".

    Draws lessen the noise of the bound, they do not tighten it. It is its mean that bounds log p(x); the exponential of
    one draw is lifted by the noise, so that bounds can't be mixed (`LogLikelihood.unbiased`). Details of the bound are
    its parts in nats, of the ODE see `likelihoods.flow_density`.
    """
    path, scaling = self.sampling_path(params), self.scaling(carry)
    data, context = scaling.values(jnp.asarray(batch["x"])), given_context(self, batch)

    def decode(x):
      return self.reconstruction(params, path, x, data, batch, context)

    if self.likelihood == "bound":
      means = likelihoods.bound_parts(
          path, data, lambda ranks, noise: self.diffusion_at(params, path, ranks, data, noise, context), decode, key,
          num_samples)
      details = dict(zip(("prior", "diffusion", self.decoder.name), means, strict=True))
      nats, kind = -sum(details.values()), Kind.LOWER_BOUND
    else:
      denoise = self.denoiser(params, path, context)
      nats, details = likelihoods.flow_density(path, data, denoise, decode if self.spec.is_discrete else None, key,
                                               num_samples, self.num_probes, self.tolerance)
      kind = Kind.ESTIMATE
    likelihood = LogLikelihood.of(nats + self._log_det(scaling), self.spec.num_dims, kind, given(self), details)
    return checked(self.spec, batch, likelihood)

  def diffusion_at(self, params: Params, path: NoisePath, ranks: Float[Array, " batch"],
                   data: Float[Array, "batch *event"], noise: Float[Array, "batch *event"],
                   context: Float[Array, "batch width"] | None) -> Float[Array, " batch"]:
    """Return an estimate of the bound's diffusion loss in nats, by the time or step at each rank in [0, 1]."""
    steps = self.times.bound_steps
    if steps is None:
      t, density = LogSNRTimes().at(path, ranks)
      sample = noised(path, data, noise, t)
      predicted = self.predicted_noise(params, path, sample.level.like(data), sample.x, t, context)
      return bound.diffusion_loss(path, t, noise, predicted, density, self.spec.levels)
    start, end = path.ends
    step = jnp.clip(jnp.floor(ranks * steps), 0, steps - 1)
    s, t = (start + (end - start) * i / steps for i in (step, step + 1.0))
    return steps * self.step_loss(params, path, s, jnp.minimum(t, 1.0), data, noise, context)

  def step_loss(self, params: Params, path: NoisePath, s: Float[Array, " batch"], t: Float[Array, " batch"],
                data: Float[Array, "batch *event"], noise: Float[Array, "batch *event"],
                context: Float[Array, "batch width"] | None) -> Float[Array, " batch"]:
    """Return the bound's term of the step from t to s < t, in nats."""
    sample = noised(path, data, noise, t)
    level = sample.level.like(data)
    if self.variance is not None:
      denoise: Any = self.clipped(params, path, context)
      return self.variance.divergence(path, s, t, data, *denoise.with_variance(sample.x, t))
    if self.has_steps:
      predicted = (sample.x - level.alpha * self.clipped(params, path, context)(sample.x, t)) / level.sigma
    else:
      predicted = self.predicted_noise(params, path, level, sample.x, t, context)
    return bound.step_loss(path, s, t, noise, predicted, self.spec.levels)

  def reconstruction(self, params: Params, path: NoisePath, x: Float[Array, "batch *event"],
                     data: Float[Array, "batch *event"], batch: Batch,
                     context: Float[Array, "batch width"] | None) -> Float[Array, " batch"]:
    """Return -log p(data | x) in nats, given x at the path's first time; `data` are values, the batch is as served."""
    return self.decoder.loss(path, x, data, batch["x"], self.spec.levels,
                             lambda x: self.last_step(params, path, x, context))

  def last_step(self, params: Params, path: NoisePath, x: Float[Array, "batch *event"],
                context: Float[Array, "batch width"] | None
                ) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    """Return mean and log-variance of the normal that decodes x at t = 1 / T (arXiv:2006.11239, equation 13).

    The mean of equation 7 is the predicted data, since nothing of x is left in it. The variance is the step's beta
    (section 3.2), which is right where the first noise hides which of several levels a value has; or it is learned.
    """
    t, denoise = jnp.full(len(x), path.ends[0], x.dtype), self.clipped(params, path, context)
    if self.variance is None:
      return denoise(x, t), jnp.broadcast_to(expand(2.0 * jnp.log(path.sigma(t)), x), x.shape)
    learned: Any = denoise
    mean, v = learned.with_variance(x, t)
    return mean, self.variance.last_log_variance(path, v)

  def scored_by(self, name: str, **settings: Any) -> "Diffusion":
    """Return the model with another likelihood: bound, or ode with `num_probes` and `tolerance`."""
    known = ("num_probes", "tolerance")
    for setting in settings:
      if setting not in known:
        raise ConfigError(f"likelihood {name} has no setting {setting!r}; {nearest(setting, known)}")
    return dataclasses.replace(self, likelihood=name, **settings)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             sampler: str | TimedSampler = "", num_steps: int = 0, eta: float = 0.0, guidance: float = 1.0,
             guidance_interval: tuple[float, ...] = (), guidance_rescale: float = 0.0, grid: str = "",
             num_frames: int = 0) -> Samples:
    """Draw x [num, *event]. Info: "nfe", and with frames "trajectory" [num_frames, num, *event], not rounded.

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: labels, contexts, prefixes or several, see `gdm.batches.condition_context`; labels and prefixes may be
        missing where the model drops them in training.
      sampler: a name, see gdm/diffusion/samplers/named.py, or a sampler with its times; "" is the model's default.
      num_steps: number of steps, the last of which goes to the predicted data itself; 0 is the model's default. The
        sampler adaptive chooses its times, so that it takes neither a number nor a grid.
      eta: of ddim alone, the share of fresh noise.
      guidance: 1 is none, above 1 moves further from no label to the label (classifier-free).
      guidance_interval, guidance_rescale: see `gdm.diffusion.samplers.guidance.Guidance`.
      grid: times that the sampler visits: uniform, log_snr or karras; "" is the sampler's own choice.
      num_frames: states on the way to keep; at most num_steps - 1, of the sampler adaptive as many as you like.

    Raises:
      ConfigError: an unknown sampler, no step, guidance without labels.
      SpecError: a condition is missing, or must not be.
      ToleranceError: an adaptive sampler did not reach its tolerance.
    """
    choice, rule = self._choice(sampler, eta), Guidance(float(guidance), tuple(guidance_interval), guidance_rescale)
    if grid:
      checks.one_of("grid", grid, GRIDS)
      choice = choice._replace(grid=GRIDS[grid])
    steps = num_steps or self.steps
    if steps < 1:
      raise ConfigError(f"num_steps is {num_steps}; it must be at least 1.")
    if chooses_times := getattr(choice.sampler, "chooses_times", False):
      for field, value in (("num_steps", num_steps), ("grid", grid)):
        if value:
          raise ConfigError(f"{field} is {value!r}, but {type(choice.sampler).__name__} chooses its times by a "
                            "tolerance; leave it out, or name another sampler.")
      steps = max(steps, 2)  # a single step would be the prediction from noise alone
    if num_frames < 0 or (not chooses_times and num_frames >= steps):
      raise ConfigError(f"num_frames is {num_frames}, states before the samples, of which {steps} steps have "
                        f"{steps - 1}; take fewer frames or more steps.")
    if guidance_rescale and self.spec.num_dims == 1:
      raise ConfigError(f"guidance_rescale is {guidance_rescale}, but it is by the deviation over the numbers of an "
                        "example, and the data has one; set it to 0.")
    context = self._condition(condition, num, guidance)
    x, info = _draw(self, params, carry, key, context, num, choice, steps, rule, num_frames)
    if isinstance(x, Tracer):
      return Samples(x, info)
    if "solved" in info:
      tolerance = getattr(choice.sampler, "tolerance", None) or ode.Tolerance()
      ode.require_solved(info["nfe"], info["solved"], tolerance)
    return Samples(x, {**info, "nfe": int(info["nfe"])})

  def noised(self, params: Params, carry: Carry, key: Key[Array, ""], x: Float[Array, "batch *event"],
             t: Float[ArrayLike, ""]) -> Float[Array, "batch *event"]:
    """Return data with the noise of time t, in the data's units."""
    level, scaling = self.noise_path(params).level(t), self.scaling(carry)
    noise = jax.random.normal(key, x.shape, jnp.float32)
    return scaling.data(level.alpha * scaling.values(jnp.asarray(x)) + level.sigma * noise)

  def denoise(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
              deviation: int | float, num_steps: int = 0) -> Samples:
    """Draw from p(clean | x), where x is clean plus Gaussian noise of `deviation` in the data's units: by ancestral
    sampling from the time with that much noise on. Info: "nfe".

    Args:
      params, carry: the model's.
      key: of the draws.
      x: noised examples; their noise is part of them already.
      deviation: of the noise; beyond what the path has, it counts as the path's last.
      num_steps: 0 is the model's default.

    Raises:
      ConfigError: the deviation is not positive, or there is no step.
      SpecError: the dimensions are standardized one by one, so that noise alike in all of them is of no one time.
    """
    checks.positive("deviation", deviation)
    steps = num_steps or self.steps
    checks.at_least("num_steps", steps, 1)
    scale = self.scaling(carry).scale
    if scale.size > 1:
      raise SpecError(f"the {scale.size} dimensions have scales of their own; noise of one deviation is of no one time "
                      "of the path. Serve integers, or real events of two axes or more.")
    return _denoise(self, params, carry, key, jnp.asarray(x, jnp.float32), jnp.asarray(deviation, jnp.float32), steps)

  def score(self, params: Params, carry: Carry, x: Float[Array, "batch *event"], t: Float[ArrayLike, "*shape"],
            condition: Condition | None = None) -> Float[Array, "batch *event"]:
    """Return the gradient of the log-density of noised real data, both in the data's units, at times t of the path."""
    path, scaling = self.noise_path(params), self.scaling(carry)
    t = jnp.broadcast_to(jnp.asarray(t, jnp.float32), x.shape[:1])
    level = path.level(t).like(x)
    values = scaling.values(x)
    context = self._condition(condition, len(x), 1.0)
    noise = self.predicted_noise(params, path, level, values, t, context)
    return -noise / level.sigma / scaling.scale

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """Return latents of variance one: where the probability-flow ODE takes the examples."""
    del key  # nothing is random
    path = self.sampling_path(params)
    values = self.scaling(carry).values(jnp.asarray(batch["x"]))
    end = self._follow(params, path, values, given_context(self, batch), *path.ends)
    return end / prior_scale(path)

  def decode(self, params: Params, carry: Carry, latent: Float[Array, "batch *event"], key: Key[Array, ""],
             condition: Condition | None = None) -> Array:
    """Return the examples that latents stand for, by the ODE backwards."""
    del key
    path = self.sampling_path(params)
    context = self._condition(condition, len(latent), 1.0)
    values = self._follow(params, path, prior_scale(path) * latent, context, *path.ends[::-1])
    return self.served(carry, values)

  # Lossless coding.

  def require_noise_steps(self) -> None:
    self.spec.require_discrete("bits back through steps of noise")
    if self.variance is not None:
      raise ConfigError("the steps' variances are learned, each entry's own; bits back through steps of noise codes "
                        "those of the path alone, as of ddpm or vdm.")

  def noise_steps(self, params: Params, carry: Carry) -> NoiseSteps:
    """Return the bound's steps; where it is in continuous time `coded_steps`, evenly spaced in log-SNR."""
    path, num = self.sampling_path(params), self.times.bound_steps
    last = jnp.asarray(path.ends[1], jnp.float32)
    times = (jnp.linspace(jnp.asarray(path.ends[0], jnp.float32), last, num + 1) if num is not None
             else LogSNRGrid().times(path, self.coded_steps)[::-1])
    denoise = self.clipped(params, path, None)
    return noise_steps(path, times, denoise, self.decoder, lambda x: self.last_step(params, path, x, None),
                       self.scaling(carry), self.spec.event, self.spec.require_discrete("bits back"))

  def scaling(self, carry: Carry) -> Scaling:
    """Return how data becomes values."""
    if self.spec.levels is None:
      return Scaling(**carry["statistics"])
    half = jnp.asarray(0.5 * (self.spec.levels - 1), jnp.float32)
    return Scaling(half, half)

  def _log_det(self, scaling: Scaling) -> Float[Array, ""]:
    """Return log |d values / d x| of an example in nats; the probability of integers needs none."""
    if self.spec.is_discrete:
      return jnp.zeros(())
    return -jnp.sum(jnp.broadcast_to(jnp.log(scaling.scale), self.spec.event))

  def served(self, carry: Carry, values: Float[Array, "batch *event"]) -> Array:
    """Return values as the data set has them; integers are the nearest levels."""
    x = self.scaling(carry).data(values)
    return x if self.spec.levels is None else jnp.clip(jnp.round(x), 0, self.spec.levels - 1).astype(jnp.int32)

  def _dropped(self, context: Array | None, key: Key[Array, ""]) -> Array | None:
    """Return the context, labels withheld from some examples, and prefixes from some."""
    if context is None or self.label_dropout == 0.0:
      return context
    rows, kept = (len(context), 1), 1.0 - self.label_dropout
    prefix_key = jax.random.fold_in(key, 1)
    return self._with(context, jax.random.bernoulli(key, kept, rows), jax.random.bernoulli(prefix_key, kept, rows))

  def _with(self, context: Array, labels: Array | float, prefix: Array | float) -> Array:
    """Return the context, its labels, which come last, and prefix, which comes first, multiplied; zeros are none."""
    place, width = np.arange(context.shape[1]), context.shape[1]
    of_prefix = place < self.spec.prefix_steps * self.prefix_conditional
    of_labels = place >= width - (self.spec.num_classes or 0) * self.class_conditional
    return context * jnp.where(of_prefix, prefix, jnp.where(of_labels, labels, 1.0))

  def _condition(self, condition: Condition | None, num: int, guidance: float) -> Float[Array, "num width"] | None:
    """Return a condition as the network takes it; labels and prefix may be missing where training dropped them."""
    found = by_name(self, condition)
    missing = [name for name in self._droppable if name not in found]
    if guidance != 1.0 and (missing or not self._droppable or self.label_dropout == 0.0):
      raise ConfigError(f"guidance is {guidance}, which needs labels and a model that was trained with and without "
                        f"them (label_dropout is {self.label_dropout}, labels are "
                        f"{'missing' if missing or not self._droppable else 'given'}); set guidance to 1.")
    if not (missing and self.label_dropout):
      return condition_context(self, condition, num)
    nothing = {"y": np.zeros(num, np.int32), "prefix": np.zeros(self.spec.prefix_steps, np.int32)}
    context = condition_context(self, {**found, **{name: nothing[name] for name in missing}}, num)
    return None if context is None else self._with(context, float("y" not in missing), float("prefix" not in missing))

  def _choice(self, sampler: str | TimedSampler, eta: float) -> TimedSampler:
    name = sampler or self.sampler
    if isinstance(name, str) and name not in self.samplers:
      raise ConfigError(f"sampler is {name!r}; {nearest(name, self.samplers)}")
    choice = self.samplers[name] if isinstance(name, str) else name
    if eta and not isinstance(choice.sampler, DDIM):
      raise ConfigError(f"eta is {eta}, which is ddim's alone; the sampler is {name!r}.")
    return choice._replace(sampler=DDIM(eta)) if eta else choice

  def _follow(self, params: Params, path: NoisePath, x: Array, context: Array | None, start: Any, end: Any) -> Array:
    """x moved by the probability-flow ODE; a ToleranceError where that is known to have failed."""
    tolerance = ode.Tolerance(self.tolerance, self.tolerance)
    velocity = probability_flow.velocity(self.denoiser(params, path, context), path)
    start, end = (jnp.asarray(t, x.dtype) for t in (start, end))
    solution = ode.solve(lambda t, x: velocity(x, jnp.full(x.shape[0], t)), x, start, end, tolerance)
    if not isinstance(solution.solved, Tracer):
      ode.require_solved(solution.nfe, solution.solved, tolerance)
    return solution.y


@functools.partial(jax.jit, static_argnames=("model", "num", "choice", "num_steps", "guidance", "num_frames"))
def _draw(model: Diffusion, params: Params, carry: Carry, key: Key[Array, ""], context: Array | None, num: int,
          choice: TimedSampler, num_steps: int, guidance: Guidance, num_frames: int) -> tuple[Array, Mapping[str, Any]]:
  """Sample as served; compiled once for each model and each way to sample."""
  path = model.stepping_path(params)
  noise_key, key = jax.random.split(key)
  x = prior_scale(path) * jax.random.normal(noise_key, (num, *model.spec.event))
  denoise = model.guided(params, path, context, guidance)
  nfe, last, info = 0, path.ends[1], {}
  if num_steps > 1:
    times = choice.grid.times(path, num_steps - 1)
    out = choice.sampler.run(denoise, path, times, key, x, num_frames)
    x, last, info = out.x, times[-1], dict(out.info)
    nfe = info["nfe"]
  values = denoise(x, jnp.full(num, last, x.dtype))
  info["nfe"] = nfe + cost(denoise)
  if "trajectory" in info:
    info["trajectory"] = model.scaling(carry).data(info["trajectory"])
  return model.served(carry, values), info


@functools.partial(jax.jit, static_argnames=("model", "num_steps"))
def _denoise(model: Diffusion, params: Params, carry: Carry, key: Key[Array, ""], x: Float[Array, "batch *event"],
             deviation: Float[Array, ""], num_steps: int) -> Samples:
  """Sample from x on, as served."""
  path, scaling, choice = model.stepping_path(params), model.scaling(carry), model.samplers["ancestral"]
  # values + deviation / scale * noise is x_t / alpha at the time where sigma / alpha is as much.
  least, most = (path.log_snr(jnp.asarray(end, jnp.float32)) for end in path.ends[::-1])
  log_snr = jnp.clip(-2.0 * jnp.log(deviation / jnp.reshape(scaling.scale, ())), least, most)
  start = path.time(log_snr)
  values = path.alpha(start) * scaling.values(x)
  context = model._condition(None, len(x), 1.0)
  denoise, last, nfe = model.guided(params, path, context, Guidance()), start, 0
  if num_steps > 1:
    times = choice.grid.times(Between(path, path.ends[0], start), num_steps - 1)
    out = choice.sampler.run(denoise, path, times, key, values)
    values, last, nfe = out.x, times[-1], out.info["nfe"]
  clean = denoise(values, jnp.full(len(x), last, values.dtype))
  return Samples(model.served(carry, clean), {"nfe": nfe + cost(denoise)})
