"""What diffusion models share: a network that predicts, trained at all noise levels, and all that follows from it.

A model chooses a noise path, what the network predicts of x_t, how errors are weighted and which times it sees; the
rest is here: training, sampling by any sampler, likelihoods, latents.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, Key

from gdm.batches import checked, require_labels
from gdm.dataspec import DataSpec
from gdm.diffusion import bound, likelihoods, ode, weightings
from gdm.diffusion.networks import Sizes, network
from gdm.diffusion.paths.between import from_log_snr, within
from gdm.diffusion.paths.path import Level, Path, PathSample, expand, noised, prior_scale
from gdm.diffusion.predictions import PREDICTIONS, Denoise, Prediction, denoiser
from gdm.diffusion.samplers.clipping import Clipped
from gdm.diffusion.samplers.ddim import DDIM
from gdm.diffusion.samplers.guidance import Guided
from gdm.diffusion.samplers.named import SAMPLERS, Choice
from gdm.diffusion.samplers.sampler import cost
from gdm.diffusion.scaling import Scaling, of_examples, of_levels
from gdm.diffusion.times import Times, Uniform, draw
from gdm.diffusion.weightings import Simple, Weighting
from gdm.errors import ConfigError, SpecError, nearest
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params, Samples

# Noise that leaves levels apart: this many standard deviations of it lie between two neighbouring levels.
LEVELS_APART = 8.0
# The log-SNRs to sample between: VP's at its ends, about a thousandth of noise, and a 150th of data. With less data
# the prediction of the noise leaves open what the data is, by its error times sigma / alpha, which a large step keeps.
SAMPLED_LOG_SNR = (13.9, -10.1)


@dataclasses.dataclass(frozen=True)
class Diffusion(abc.ABC):
  """A model by denoising.

  Parameters are a group "model", the network's. The carry's "statistics" hold how real data is standardized; integers
  become values in [-1, 1].

  Attributes:
    spec: the data.
    network: unet, transformer (images), mlp (any event); auto is unet for images, else mlp.
    width: channels of a unet's first level, units of a transformer.
    multipliers: of the width at each resolution of a unet.
    num_blocks: residual blocks at each resolution, or layers of a transformer.
    attention: sides of the images inside a unet that get self-attention.
    num_heads: of attention.
    patch: side of a transformer's patches.
    hidden: sizes of the layers of an mlp.
    embedding: of times: sinusoidal or fourier.
    dropout: rate inside the network.
    class_conditional: whether the network is told the labels "y".
    label_dropout: share of training examples whose label is withheld, for guidance.
    likelihood: bound (variational) or ode (probability flow); see gdm/diffusion/likelihoods.py.
    num_probes: of the ode's divergence; 0 is exact, with as many derivatives as dimensions.
    tolerance: of the ode, relative and absolute.
  """

  spec: DataSpec
  network: str = "auto"
  width: int = 32
  multipliers: tuple[int, ...] = (1, 2)
  num_blocks: int = 2
  attention: tuple[int, ...] = ()
  num_heads: int = 1
  patch: int = 2
  hidden: tuple[int, ...] = (128, 128, 128)
  embedding: str = "sinusoidal"
  dropout: float = 0.0
  class_conditional: bool = False
  label_dropout: float = 0.0
  likelihood: str = "bound"
  num_probes: int = 1
  tolerance: float = 1e-4

  # The sampler that draws where none is named.
  default_sampler: ClassVar[str] = "ddim"
  # Whether the loss divides by the density of its times, so that they may be chosen freely.
  divides_by_density: ClassVar[bool] = True

  def __post_init__(self) -> None:
    self.spec.require_whole(type(self).__name__)
    if self.class_conditional and not self.spec.num_classes:
      raise SpecError("class_conditional is True, but the data has no labels (spec.num_classes is None); set it to "
                      "False, or choose data with labels.")
    if not 0.0 <= self.label_dropout < 1.0:
      raise ConfigError(f"label_dropout is {self.label_dropout}; it must be at least 0 and below 1.")
    if self.label_dropout and not self.class_conditional:
      raise ConfigError(f"label_dropout is {self.label_dropout}, but class_conditional is False: there are no labels "
                        "to drop; set one of them.")
    if self.likelihood not in likelihoods.LIKELIHOODS:
      raise ConfigError(f"likelihood is {self.likelihood!r}; {nearest(self.likelihood, likelihoods.LIKELIHOODS)}")
    if self.num_probes < 0:
      raise ConfigError(f"num_probes is {self.num_probes}; it must be at least 0 (0: an exact divergence).")
    ode.Tolerance(self.tolerance, self.tolerance)
    self.module  # noqa: B018 - checks what the network is made of
    self.samplers  # noqa: B018

  # What a model chooses.

  @abc.abstractmethod
  def path(self, params: Params) -> Path:
    """The noise path."""

  @property
  def prediction(self) -> Prediction:
    """What the network predicts."""
    return PREDICTIONS["noise"]

  @property
  def weighting(self) -> Weighting:
    """How much errors count in training."""
    return Simple()

  @property
  def times(self) -> Times:
    """The times that training sees."""
    return Uniform()

  @property
  def bound_steps(self) -> int | None:
    """Steps of the variational bound between the ends of `likelihood_path`; None is continuous time."""
    return None

  @property
  def default_steps(self) -> int:
    """Steps of sampling where no number is given."""
    return 50

  @property
  def samplers(self) -> Mapping[str, Choice]:
    """Samplers by name."""
    return SAMPLERS

  @property
  def outputs(self) -> int:
    """Numbers that the network gives for each number of an example."""
    return 1

  @property
  def input_sigma(self) -> float:
    """Standard deviation of values, by which the network's input is scaled to variance one."""
    return 1.0

  def network_time(self, path: Path, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    """What the network is told of the time, in about [0, 1]."""
    del path
    return t

  def features(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *wide"]:
    """What the network sees of x_t, scaled to variance one."""
    return x

  def sampling_path(self, params: Params) -> Path:
    """The path, from where the noise no longer blurs the levels of discrete data."""
    path = self.path(params)
    if not self.spec.is_discrete:
      return path
    spacing = 2.0 / (self.spec.require_discrete("a diffusion model") - 1)
    return from_log_snr(path, 2.0 * math.log(LEVELS_APART / spacing))

  def stepping_path(self, params: Params) -> Path:
    """Return the part of `sampling_path` that samplers can take in any number of steps (`SAMPLED_LOG_SNR`)."""
    most, least = SAMPLED_LOG_SNR
    return within(self.sampling_path(params), math.inf if self.spec.is_discrete else most, least)

  # What follows.

  @property
  def module(self) -> nn.Module:
    sizes = Sizes(self.width, self.multipliers, self.num_blocks, self.attention, self.num_heads, self.patch,
                  self.hidden, self.embedding, self.dropout)
    return network(self.network, self.spec, self.outputs, self.context_width, sizes)

  @property
  def context_width(self) -> int:
    return (self.spec.num_classes or 0) if self.class_conditional else 0

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(groups=("model",), loss=self.loss, unit="weighted squared error"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Parameters; the carry keeps how real data is standardized, by the batch."""
    carry = {} if self.spec.is_discrete else {"statistics": of_examples(batch["x"])._asdict()}
    values = self.scaling(carry).values(jnp.asarray(batch["x"]))[:1]
    context = None if self.context_width == 0 else jnp.zeros((1, self.context_width))
    out: Any = self.module.init(key, self.features(values), jnp.zeros(1), context)
    return {"model": out["params"]}, carry

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """The weighted squared error of the prediction, a mean over dimensions and the batch."""
    del step
    path = self.path(params)
    data_key, time_key, noise_key, label_key, dropout_key = jax.random.split(key, 5)
    data = self.training_values(carry, batch, data_key)
    t, density = draw(self.times, path, time_key, len(data))
    sample = noised(path, data, self.training_noise(data, noise_key), t)
    context = self._dropped(self.context(batch.get("y")), label_key)
    errors = self.errors(params, path, sample, context, dropout_key)
    if self.divides_by_density:
      errors = errors / density
    return LossOutput(jnp.mean(errors), {"loss": Mean.of(errors)}, carry)

  def errors(self, params: Params, path: Path, sample: PathSample, context: Array | None,
             key: Key[Array, ""]) -> Float[Array, " batch"]:
    """The training error of each example at its time; the key is dropout's."""
    value = self.predict(params, path, sample.x, sample.t, context, key)
    target = self.prediction.target(sample.level.like(sample.x), sample.data, sample.noise)
    return weightings.of(self.prediction, self.weighting, path, sample.t) * mean_square(value - target)

  def training_values(self, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """The batch as the values that noise is added to."""
    del key
    return self.scaling(carry).values(jnp.asarray(batch["x"]))

  def training_noise(self, data: Float[Array, "batch *event"], key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """Standard normal noise for each example."""
    return jax.random.normal(key, data.shape, data.dtype)

  def raw(self, params: Params, path: Path, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
          context: Float[Array, "batch width"] | None = None,
          key: Key[Array, ""] | None = None) -> Float[Array, "batch *outputs"]:
    """All outputs of the network at x_t."""
    level = path.level(t)
    seen = self.features(x / expand(jnp.hypot(self.input_sigma * level.alpha, level.sigma), x))
    rngs = {} if key is None else {"dropout": key}
    out: Any = self.module.apply({"params": params["model"]}, seen, self.network_time(path, t), context, rngs=rngs)
    return out

  def predict(self, params: Params, path: Path, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
              context: Float[Array, "batch width"] | None = None,
              key: Key[Array, ""] | None = None) -> Float[Array, "batch *event"]:
    """The network's prediction at x_t; with a key, dropout is on."""
    return self.raw(params, path, x, t, context, key)

  def denoiser(self, params: Params, path: Path, context: Float[Array, "batch width"] | None = None) -> Denoise:
    """The prediction of the data."""
    return denoiser(self.prediction, path, lambda x, t: self.predict(params, path, x, t, context))

  def guided(self, params: Params, path: Path, labels: Array | None, num: int, guidance: float) -> Denoise:
    """The prediction of the data given labels, or given that they are withheld, or beyond the one from the other.

    That of integers is kept between the lowest and the highest level.
    """
    withheld = jnp.zeros((num, self.context_width)) if self.class_conditional else None
    given = withheld if labels is None else self.context(labels)
    denoise = self.denoiser(params, path, given)
    if guidance != 1.0:
      denoise = Guided(denoise, self.denoiser(params, path, withheld), guidance)
    return Clipped(denoise) if self.spec.is_discrete else denoise

  def predicted_noise(self, params: Params, path: Path, level: Level, x: Float[Array, "batch *event"],
                      t: Float[Array, " batch"],
                      context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch *event"]:
    """The prediction of the noise; `level` is shaped like x."""
    return self.prediction.noise(level, x, self.predict(params, path, x, t, context))

  def step_loss(self, params: Params, path: Path, s: Float[Array, " batch"], t: Float[Array, " batch"],
                data: Float[Array, "batch *event"], noise: Float[Array, "batch *event"],
                context: Float[Array, "batch width"] | None) -> Float[Array, " batch"]:
    """The bound's term of the step from t to s < t, in nats."""
    sample = noised(path, data, noise, t)
    predicted = self.predicted_noise(params, path, sample.level.like(data), sample.x, t, context)
    return bound.step_loss(path, s, t, noise, predicted, self.spec.levels)

  def reconstruction(self, params: Params, path: Path, x: Float[Array, "batch *event"],
                     data: Float[Array, "batch *event"], batch: Batch,
                     context: Float[Array, "batch width"] | None) -> Float[Array, " batch"]:
    """Return -log p(data | x) in nats, given x at the path's first time; `data` are values, the batch is as served."""
    del params, context  # the path alone decodes
    return likelihoods.reconstruction(self, path, x, data, batch)

  @property
  def reconstruction_name(self) -> str:
    """Name of the reconstruction among the parts of the bound."""
    return "reconstruction"

  def scaling(self, carry: Carry) -> Scaling:
    """How data becomes values."""
    if self.spec.is_discrete:
      return of_levels(self.spec.require_discrete("a diffusion model"))
    return Scaling(**carry["statistics"])

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """By the bound, a lower bound averaged over `num_samples` draws, or by the ODE, an estimate; given any "y"."""
    likelihood = likelihoods.LIKELIHOODS[self.likelihood](self, params, carry, batch, key, num_samples)
    return checked(self.spec, batch, likelihood)

  def scored_by(self, name: str, **settings: Any) -> "Diffusion":
    """The model with another likelihood: bound, or ode with `num_probes` and `tolerance`."""
    known = ("num_probes", "tolerance")
    for setting in settings:
      if setting not in known:
        raise ConfigError(f"likelihood {name} has no setting {setting!r}; {nearest(setting, known)}")
    return dataclasses.replace(self, likelihood=name, **settings)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             sampler: str | Choice = "", num_steps: int = 0, eta: float = 0.0, guidance: float = 1.0,
             num_frames: int = 0) -> Samples:
    """Draws x [num, *event]. Info: "nfe", and with frames "trajectory" [num_frames, num, *event], not rounded.

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: labels [num], or one for all; None only where the model is not class-conditional or drops labels.
      sampler: a name, see gdm/diffusion/samplers/named.py, or a sampler with its times; "" is the model's own.
      num_steps: the last of which goes to the predicted data itself; 0 is the model's own number.
      eta: of ddim alone, the share of fresh noise.
      guidance: 1 is none, above 1 sharpens what the label says (classifier-free).
      num_frames: states on the way to keep; at most num_steps - 1.

    Raises:
      ConfigError: an unknown sampler, no step, guidance without labels.
      SpecError: labels are given or missing against `class_conditional`.
      ToleranceError: an adaptive sampler did not reach its tolerance.
    """
    choice = self._choice(sampler, eta)
    steps = num_steps or self.default_steps
    if steps < 1:
      raise ConfigError(f"num_steps is {num_steps}; it must be at least 1.")
    labels = self._labels(condition, num, guidance)
    x, info = _draw(self, params, carry, key, labels, num, choice, steps, float(guidance), num_frames)
    if isinstance(x, Tracer):
      return Samples(x, info)
    if "solved" in info:
      tolerance = getattr(choice.sampler, "tolerance", None) or ode.Tolerance()
      ode.require_solved(ode.Solution(x, info["nfe"], info["solved"]), tolerance)
    return Samples(x, {**info, "nfe": int(info["nfe"])})

  def noised(self, params: Params, carry: Carry, key: Key[Array, ""], x: Float[Array, "batch *event"],
             t: Float[ArrayLike, ""]) -> Float[Array, "batch *event"]:
    """Data with the noise of time t, in the data's units."""
    level, scaling = self.path(params).level(t), self.scaling(carry)
    noise = jax.random.normal(key, x.shape, jnp.float32)
    return scaling.data(level.alpha * scaling.values(jnp.asarray(x)) + level.sigma * noise)

  def score(self, params: Params, carry: Carry, x: Float[Array, "batch *event"], t: Float[ArrayLike, "*shape"],
            condition: Array | None = None) -> Float[Array, "batch *event"]:
    """The gradient of the log-density of noised real data, both in the data's units, at times t of the path."""
    path, scaling = self.path(params), self.scaling(carry)
    t = jnp.broadcast_to(jnp.asarray(t, jnp.float32), x.shape[:1])
    level = path.level(t).like(x)
    values = scaling.values(x)
    context = None if condition is None else self.context(condition)
    noise = self.predicted_noise(params, path, level, values, t, context)
    return -noise / level.sigma / scaling.scale

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """Latents of variance one: where the probability-flow ODE takes the examples."""
    del key  # nothing is random
    path = self.sampling_path(params)
    values = self.scaling(carry).values(jnp.asarray(batch["x"]))
    end = self._follow(params, path, values, self.context(batch.get("y")), *path.ends)
    return end / prior_scale(path)

  def decode(self, params: Params, carry: Carry, latent: Float[Array, "batch *event"], key: Key[Array, ""],
             condition: Int[Array, " batch"] | None = None) -> Array:
    """The examples that latents stand for, by the ODE backwards. A condition is labels."""
    del key
    path = self.sampling_path(params)
    if condition is not None:
      require_labels(self.spec, condition)
    context = None if condition is None else self.context(condition)
    values = self._follow(params, path, prior_scale(path) * latent, context, *path.ends[::-1])
    return self.served(carry, values)

  def served(self, carry: Carry, values: Float[Array, "batch *event"]) -> Array:
    """Values as the data is served; integers are the nearest levels."""
    x = self.scaling(carry).data(values)
    if not self.spec.is_discrete:
      return x
    return jnp.clip(jnp.round(x), 0, self.spec.require_discrete("a diffusion model") - 1).astype(jnp.int32)

  def context(self, labels: Array | np.ndarray | None) -> Float[Array, "batch width"] | None:
    """What the network is told of labels; None where the model takes none."""
    if not self.class_conditional:
      return None
    if labels is None:
      raise SpecError(f"{type(self).__name__} is class-conditional; the batch must have labels y.")
    return jax.nn.one_hot(jnp.asarray(labels), self.context_width)

  def _dropped(self, context: Array | None, key: Key[Array, ""]) -> Array | None:
    """The context, withheld from some examples: a row of zeros."""
    if context is None or self.label_dropout == 0.0:
      return context
    return context * jax.random.bernoulli(key, 1.0 - self.label_dropout, (len(context), 1))

  def _labels(self, condition: Array | None, num: int, guidance: float) -> Array | None:
    if condition is None and self.class_conditional and self.label_dropout == 0.0:
      raise SpecError(f"class_conditional is True and no label was dropped in training, so condition must be labels "
                      f"[{num}].")
    if condition is not None and not self.class_conditional:
      raise SpecError("class_conditional is False, so condition must be None.")
    if guidance != 1.0 and (condition is None or self.label_dropout == 0.0):
      raise ConfigError(f"guidance is {guidance}, which needs labels and a model that was trained with and without "
                        f"them (label_dropout is {self.label_dropout}, labels are "
                        f"{'missing' if condition is None else 'given'}); set guidance to 1.")
    if condition is None:
      return None
    require_labels(self.spec, condition)
    return jnp.broadcast_to(jnp.asarray(condition), (num,))

  def _choice(self, sampler: str | Choice, eta: float) -> Choice:
    name = sampler or self.default_sampler
    if isinstance(name, str) and name not in self.samplers:
      raise ConfigError(f"sampler is {name!r}; {nearest(name, self.samplers)}")
    choice = self.samplers[name] if isinstance(name, str) else name
    if eta and not isinstance(choice.sampler, DDIM):
      raise ConfigError(f"eta is {eta}, which is ddim's alone; the sampler is {name!r}.")
    return choice._replace(sampler=DDIM(eta)) if eta else choice

  def _follow(self, params: Params, path: Path, x: Array, context: Array | None, start: Any, end: Any) -> Array:
    """x moved by the probability-flow ODE; a ToleranceError where that is known to have failed."""
    tolerance = ode.Tolerance(self.tolerance, self.tolerance)
    velocity = ode.probability_flow(self.denoiser(params, path, context), path)
    start, end = (jnp.asarray(t, x.dtype) for t in (start, end))
    solution = ode.solve(lambda t, x: velocity(x, jnp.full(x.shape[0], t)), x, start, end, tolerance)
    if not isinstance(solution.solved, Tracer):
      ode.require_solved(solution, tolerance)
    return solution.y


@functools.partial(jax.jit, static_argnames=("model", "num", "choice", "num_steps", "guidance", "num_frames"))
def _draw(model: Diffusion, params: Params, carry: Carry, key: Key[Array, ""], labels: Array | None, num: int,
          choice: Choice, num_steps: int, guidance: float, num_frames: int) -> tuple[Array, Mapping[str, Any]]:
  """Samples as served; compiled once for each model and each way to sample."""
  path = model.stepping_path(params)
  noise_key, key = jax.random.split(key)
  x = prior_scale(path) * jax.random.normal(noise_key, (num, *model.spec.event))
  denoise = model.guided(params, path, labels, num, guidance)
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


def mean_square(x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """The mean over an example's entries of their squares."""
  return jnp.mean(x.reshape(x.shape[0], -1) ** 2, axis=-1)
