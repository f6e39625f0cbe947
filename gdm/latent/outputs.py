"""Distributions of the data given a decoder's numbers: Bernoulli, categorical, discretized logistics, Gaussian.

All dimensions are independent given the latents, but for the channels of a pixel under a mixture of logistics. A
decoder makes `num_outputs` numbers at each place: at each pixel of an image, and at each dimension of anything else.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.distributions import bernoulli, categorical, discretized_logistic
from gdm.errors import ConfigError, SpecError

Own = Mapping[str, Array]  # learned numbers of the distribution itself
FEW_LEVELS = 32  # up to which each level has a logit of its own by default
FLOOR = 1e-3  # least probability that a first bias stands for


def places_of(spec: DataSpec) -> tuple[tuple[int, ...], int]:
  """Return the shape of an event's places and the channels of each: pixels of an image, else single dimensions."""
  return (spec.event[:-1], spec.event[-1]) if spec.is_image else (spec.event, 1)


class Output(abc.ABC):
  """The distribution of an example given what the decoder makes of its latents.

  `outputs` are the decoder's numbers [batch, *places, num_outputs], `own` what `init` returns.
  """

  @abc.abstractmethod
  def check(self, spec: DataSpec) -> None:
    """Raise SpecError unless it is a distribution of such data."""

  @abc.abstractmethod
  def num_outputs(self, spec: DataSpec) -> int:
    """Return how many numbers it needs at each place."""

  @abc.abstractmethod
  def init(self, spec: DataSpec, x: Num[Array, "batch *event"]) -> Own:
    """Return its own parameters, by the data: a bias of all examples, so that networks need only learn the rest."""

  @abc.abstractmethod
  def log_prob(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"],
               x: Num[Array, "batch *event"]) -> Float[Array, " batch"]:
    """Return log p(x | z) of each example, in nats."""

  @abc.abstractmethod
  def sample(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"], key: Key[Array, ""],
             temperature: float = 1.0) -> Num[Array, "batch *event"]:
    """Draw x."""

  @abc.abstractmethod
  def mean(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"]) -> Float[Array, "batch *event"]:
    """Return the mean of x, in the data's values."""


class DiscreteOutput(Output):
  """An output over levels, which can be coded."""

  @abc.abstractmethod
  def level_log_probs(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    """Return log-probabilities, in nats, of every level of one channel of all places, given the channels before it."""


@dataclasses.dataclass(frozen=True)
class BernoulliOutput(DiscreteOutput):
  """One logit for each binary dimension."""

  def check(self, spec: DataSpec) -> None:
    spec.require_binary("a Bernoulli output")

  def num_outputs(self, spec: DataSpec) -> int:
    return places_of(spec)[1]

  def init(self, spec: DataSpec, x: Num[Array, "batch *event"]) -> Own:
    mean = jnp.clip(jnp.mean(x.astype(jnp.float32), axis=0), FLOOR, 1.0 - FLOOR)
    return {"bias": jnp.log(mean) - jnp.log1p(-mean)}

  def log_prob(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"],
               x: Num[Array, "batch *event"]) -> Float[Array, " batch"]:
    return _total(bernoulli.log_prob(self._logits(own, outputs), x))

  def sample(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"], key: Key[Array, ""],
             temperature: float = 1.0) -> Num[Array, "batch *event"]:
    return bernoulli.sample(key, self._logits(own, outputs), temperature)

  def mean(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"]) -> Float[Array, "batch *event"]:
    return jax.nn.sigmoid(self._logits(own, outputs))

  def level_log_probs(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    logits = self._logits(own, outputs)
    one = logits[..., channel] if spec.is_image else logits
    return jax.nn.log_sigmoid(jnp.stack([-one, one], axis=-1))

  @staticmethod
  def _logits(own: Own, outputs: Float[Array, "batch *numbers"]) -> Float[Array, "batch *event"]:
    return outputs.reshape(-1, *own["bias"].shape) + own["bias"]


@dataclasses.dataclass(frozen=True)
class CategoricalOutput(DiscreteOutput):
  """A logit for each level of each dimension."""

  def check(self, spec: DataSpec) -> None:
    spec.require_discrete("a categorical output")

  def num_outputs(self, spec: DataSpec) -> int:
    return places_of(spec)[1] * spec.require_discrete("a categorical output")

  def init(self, spec: DataSpec, x: Num[Array, "batch *event"]) -> Own:
    levels = spec.require_discrete("a categorical output")
    # Laplace's rule: levels that the examples lack stay possible.
    counts = jnp.sum(jax.nn.one_hot(x.astype(jnp.int32), levels), axis=0)
    return {"bias": jnp.log((counts + 1.0) / (x.shape[0] + levels))}

  def log_prob(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"],
               x: Num[Array, "batch *event"]) -> Float[Array, " batch"]:
    return _total(categorical.log_prob(self._logits(own, outputs), x))

  def sample(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"], key: Key[Array, ""],
             temperature: float = 1.0) -> Num[Array, "batch *event"]:
    return categorical.sample(key, self._logits(own, outputs), temperature)

  def mean(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"]) -> Float[Array, "batch *event"]:
    probs = jax.nn.softmax(self._logits(own, outputs), axis=-1)
    return probs @ jnp.arange(probs.shape[-1], dtype=probs.dtype)

  def level_log_probs(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    log_probs = jax.nn.log_softmax(self._logits(own, outputs), axis=-1)
    return log_probs[..., channel, :] if spec.is_image else log_probs

  @staticmethod
  def _logits(own: Own, outputs: Float[Array, "batch *numbers"]) -> Float[Array, "batch *event levels"]:
    return outputs.reshape(-1, *own["bias"].shape) + own["bias"]


@dataclasses.dataclass(frozen=True)
class LogisticMixtureOutput(DiscreteOutput):
  """A mixture of discretized logistics at each place, whose channels are coupled as in PixelCNN++ (arXiv:1701.05517).

  Attributes:
    size: components.
  """

  size: int = 5

  def __post_init__(self) -> None:
    checks.at_least("output.size", self.size, 1)

  def check(self, spec: DataSpec) -> None:
    if spec.require_discrete("a mixture of discretized logistics") < 3:
      raise SpecError("a mixture of discretized logistics needs at least 3 levels, but the data has 2; choose "
                      "output.name=bernoulli.")

  def num_outputs(self, spec: DataSpec) -> int:
    return discretized_logistic.num_parameters(places_of(spec)[1], self.size)

  def init(self, spec: DataSpec, x: Num[Array, "batch *event"]) -> Own:
    levels, (places, channels) = spec.require_discrete("a mixture of discretized logistics"), places_of(spec)
    unit = discretized_logistic.to_unit(x.reshape(-1, *places, channels), levels)
    centre, spread = jnp.mean(unit, axis=0), jnp.std(unit, axis=0)
    # Components start apart by the spread of the data; pixels that hardly vary keep a width of a few levels.
    spread = jnp.maximum(spread, 2.0 / (levels - 1))[..., None]
    offsets = jnp.linspace(-1.0, 1.0, self.size) if self.size > 1 else jnp.zeros(1)
    means = centre[..., None] + spread * offsets
    log_scales = jnp.broadcast_to(jnp.log(0.5 * spread), means.shape)
    pairs = self.num_outputs(spec) // self.size - 1 - 2 * channels
    weights, coefficients = jnp.zeros((*places, 1, self.size)), jnp.zeros((*places, pairs, self.size))
    bias = jnp.concatenate([weights, means, log_scales, coefficients], axis=-2)
    return {"bias": bias.reshape(*places, -1)}

  def log_prob(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"],
               x: Num[Array, "batch *event"]) -> Float[Array, " batch"]:
    mixture, levels = self._mixture(spec, own, outputs), spec.require_discrete("this output")
    return _total(discretized_logistic.log_prob(mixture, _by_place(spec, x), levels))

  def sample(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"], key: Key[Array, ""],
             temperature: float = 1.0) -> Num[Array, "batch *event"]:
    levels = spec.require_discrete("this output")
    drawn = discretized_logistic.sample(key, self._mixture(spec, own, outputs), levels, temperature)
    return drawn.reshape(-1, *spec.event)

  def mean(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"]) -> Float[Array, "batch *event"]:
    mixture, levels = self._mixture(spec, own, outputs), spec.require_discrete("this output")
    weights = jax.nn.softmax(mixture.logits, axis=-1)[..., None, :]
    channels: list[Array] = []
    # The mean of a channel moves with the means of those before it; the pile at the ends of the range is left out.
    for channel in range(mixture.means.shape[-2]):
      means = mixture.means[..., channel, :]
      for earlier, value in enumerate(channels):
        means = means + mixture.coefficients[..., channel * (channel - 1) // 2 + earlier, :] * value[..., None]
      channels.append(jnp.sum(weights[..., 0, :] * jnp.clip(means, -1.0, 1.0), axis=-1))
    return (0.5 * (levels - 1) * (jnp.stack(channels, axis=-1) + 1.0)).reshape(-1, *spec.event)

  def level_log_probs(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    levels = spec.require_discrete("this output")
    return discretized_logistic.level_log_probs(self._mixture(spec, own, outputs), _by_place(spec, x), channel, levels)

  def _mixture(self, spec: DataSpec, own: Own,
               outputs: Float[Array, "batch *numbers"]) -> discretized_logistic.LogisticMixture:
    numbers = outputs.reshape(-1, *own["bias"].shape) + own["bias"]
    mixture = discretized_logistic.from_outputs(numbers, places_of(spec)[1])
    # A width of less than a thousandth of a level gains nothing, and its gradient grows without end.
    return mixture._replace(log_scales=jnp.maximum(mixture.log_scales, -12.0))


SCALES = ("shared", "dims", "network")  # of a Gaussian: one number, one for each dimension, or the decoder's


@dataclasses.dataclass(frozen=True)
class GaussianOutput(Output):
  """A Gaussian for each real dimension; its density has no upper bound, so that its scale has a floor.

  Attributes:
    scale: which scales are learned: "shared" is one number, "dims" one for each dimension, and "network" one for each
      dimension and example, made by the decoder.
    floor: least standard deviation, in the data's units.
  """

  scale: str = "dims"
  floor: float = 0.01

  def __post_init__(self) -> None:
    checks.one_of("output.scale", self.scale, SCALES)
    checks.positive("output.floor", self.floor)

  def check(self, spec: DataSpec) -> None:
    spec.require_continuous("a Gaussian output")

  def num_outputs(self, spec: DataSpec) -> int:
    return places_of(spec)[1] * (2 if self.scale == "network" else 1)

  def init(self, spec: DataSpec, x: Num[Array, "batch *event"]) -> Own:
    centre, spread = jnp.mean(x, axis=0), jnp.std(x, axis=0)
    each = spread if self.scale != "shared" else jnp.sqrt(jnp.mean(jnp.square(spread)))
    return {"bias": centre, "scale": _inverse_softplus(jnp.maximum(each, self.floor))}

  def log_prob(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"],
               x: Num[Array, "batch *event"]) -> Float[Array, " batch"]:
    mean, scale = self._moments(spec, own, outputs)
    return _total(-0.5 * jnp.square((x - mean) / scale) - jnp.log(scale) - 0.5 * math.log(2.0 * math.pi))

  def sample(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"], key: Key[Array, ""],
             temperature: float = 1.0) -> Num[Array, "batch *event"]:
    mean, scale = self._moments(spec, own, outputs)
    return mean + temperature * scale * jax.random.normal(key, mean.shape, mean.dtype)

  def mean(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"]) -> Float[Array, "batch *event"]:
    return self._moments(spec, own, outputs)[0]

  def _moments(self, spec: DataSpec, own: Own, outputs: Float[Array, "batch *numbers"]
               ) -> tuple[Float[Array, "batch *event"], Float[Array, "*scales"]]:
    """Return mean and standard deviation; the latter lies above the floor."""
    event = own["bias"].shape
    if self.scale != "network":
      return outputs.reshape(-1, *event) + own["bias"], self.floor + jax.nn.softplus(own["scale"])
    # Means of a place's channels come first, then their scales.
    channels = places_of(spec)[1]
    numbers = outputs.reshape(*outputs.shape[:-1], 2, channels)
    mean, raw = (numbers[..., i, :].reshape(-1, *event) for i in range(2))
    return mean + own["bias"], self.floor + jax.nn.softplus(raw + own["scale"])


def output_for(output: Output | None, spec: DataSpec) -> Output:
  """Return the output, or where there is none the usual one for such data; checked.

  Raises:
    ConfigError: it is no output.
    SpecError: it is no distribution of such data.
  """
  if output is None:
    if spec.levels is None:
      output = GaussianOutput()
    else:
      output = BernoulliOutput() if spec.levels == 2 else (
          CategoricalOutput() if spec.levels <= FEW_LEVELS else LogisticMixtureOutput())
  if not isinstance(output, Output):
    raise ConfigError(f"model.output is {output!r}; it must be an output: bernoulli, categorical, logistic_mixture or "
                      "gaussian.")
  output.check(spec)
  return output


def _by_place(spec: DataSpec, x: Num[Array, "batch *event"]) -> Num[Array, "batch *places channels"]:
  places, channels = places_of(spec)
  return x.reshape(-1, *places, channels)


def _total(values: Float[Array, "batch *more"]) -> Float[Array, " batch"]:
  return jnp.sum(values.reshape(values.shape[0], -1), axis=1)


def _inverse_softplus(y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  return y + jnp.log(-jnp.expm1(-y))
