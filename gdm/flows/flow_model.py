"""The base class of flow models: a flow, and what makes the data of a set real numbers that it takes.

Real data has an exact density. Integers are dequantized inside the model, so their likelihood is a lower bound; more
importance samples tighten it.
"""

import abc
import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.batches import checked, condition_context, context_width, given, given_context
from gdm.dataspec import DataSpec
from gdm.distributions.recording import recording_step
from gdm.docstrings import DocumentsFields
from gdm.errors import ConfigError, SpecError
from gdm.flows.base import Base, Logistic, MixtureOfNormals, Normal, Uniform
from gdm.flows.bijections.bijection import Bijection, Chain, Transformed, is_estimated
from gdm.flows.bijections.elementwise import Logit, Standardize
from gdm.flows.bijections.normalization import has_batch_statistics
from gdm.flows.bijections.whitening import Whiten
from gdm.flows.dequantization import dequantized, dequantizer
from gdm.flows.flow import Flow, spread
from gdm.flows.layers import NETWORK_FIELDS
from gdm.inference import latent_posterior
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import (
  Batch,
  Carry,
  Condition,
  LossOutput,
  Mean,
  MeasurementLikelihood,
  Objective,
  Params,
  Samples,
)
from gdm.precision import highest_precision

# Uniform ends where the default splines do.
BASES: dict[str, Base] = {"normal": Normal(), "logistic": Logistic(), "mixture": MixtureOfNormals(),
                          "uniform": Uniform(-3., 3.)}


@dataclasses.dataclass(frozen=True)
class FlowModel(DocumentsFields, abc.ABC):
  """A density by an invertible map to a base distribution.

  Discrete data x in [0, levels) is first mapped to logit(alpha + (1 - 2 alpha) (x + u) / levels), where the dequantizer
  draws the noise u (RealNVP, arXiv:1605.08803, section 4.1).

  Real data is recorded in steps. A density of such data has no upper bound, since it can rise at every recorded value.
  `noise` adds normal noise to the training data, so that the flow learns nothing narrower than the noise. Likelihoods
  are always those of the data without it.

  The parameters are one group "model" with the parts "bijection", "base" and "dequantizer". The carry's "statistics"
  hold the bijection's batch statistics and, with `noise`, the recording steps.

  Attributes:
    spec: the data.
    base: normal, logistic, mixture (of 8 learned Gaussians), or uniform (on [-3, 3]).
    class_conditional: whether the density is conditional on the labels "y", which all networks take as input.
    dequantization: noise on discrete data: uniform or variational.
    dequantization_width: units of a variational dequantizer's networks.
    alpha: margin of the logit of discrete data, in [0, 0.5).
    noise: standard deviation of the normal noise on real training data, in recording steps; 0 for none.
    whiten: whether real vectors are whitened first, so that a fresh flow is a Gaussian with a shrunken covariance; no
      other data is ever whitened.
  """

  spec: DataSpec
  base: str = "normal"
  class_conditional: bool = False
  dequantization: str = "uniform"
  dequantization_width: int = 32
  alpha: float = 0.05
  noise: float = 0.0
  whiten: bool = False

  def __post_init__(self) -> None:
    self.spec.require_whole(type(self).__name__)
    checks.one_of("base", self.base, BASES)
    checks.classes(self.spec, self.class_conditional)
    checks.at_least("noise", self.noise, 0)
    if self.noise and self.spec.is_discrete:
      raise SpecError(f"noise is {self.noise}, but the data is discrete and has its dequantization; set it to 0.")
    checks.layers(self, ("dequantization_width", *NETWORK_FIELDS))
    dequantizer(self.dequantization, self.dequantization_width)
    self.whole  # noqa: B018 - checks what the bijection is made of

  # To be supplied by a model.

  @property
  @abc.abstractmethod
  def bijection(self) -> Bijection:
    """The bijection from real numbers of the data's event to the base; its networks take a context of `context_width`.
    """

  # The parts.

  @property
  def context_conditional(self) -> bool:
    """Whether the density is conditional on a real-valued context, as it is where the data have one."""
    return self.spec.context_dims > 0

  @property
  def is_bijection(self) -> bool:
    """Whether decoding undoes encoding: always."""
    return True

  @property
  def context_width(self) -> int:
    """Width of what networks take beside the data: the context and one-hot labels, or 0 for none."""
    return context_width(self)

  @property
  def flow(self) -> Flow:
    """The flow of what the data become: real numbers, whitened or by their logit."""
    return Flow(BASES[self.base], (self.whole,), self.spec.event)

  @property
  def whole(self) -> Bijection:
    """The bijection after its preprocessing: whitening of real data, scaling and logit of discrete data."""
    if not self.spec.is_discrete:
      return Chain([Whiten(), self.bijection]) if self.whiten and len(self.spec.event) == 1 else self.bijection
    return Chain([Standardize(0.0, float(self.spec.require_discrete("a flow"))), Logit(self.alpha), self.bijection])

  @property
  def dequantizer(self) -> nn.Module:
    return dequantizer(self.dequantization, self.dequantization_width)

  @property
  def kind(self) -> Kind:
    if is_estimated(self.bijection):
      return Kind.ESTIMATE
    return Kind.LOWER_BOUND if self.spec.is_discrete else Kind.EXACT

  @property
  def objectives(self) -> tuple[Objective, ...]:
    statistics = has_batch_statistics(self.bijection)
    reason = "batch normalization takes its means and variances over the whole minibatch" if statistics else ""
    return (Objective(groups=("model",), loss=self.loss, whole_batch=reason, unit="nats per dim"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Initialize parameters; normalization layers use the batch's activations at that layer."""
    noise_key, bijection_key, base_key = jax.random.split(key, 3)
    # Discrete data becomes real by the noise of a fresh dequantizer.
    x, dequantizer = jnp.asarray(batch["x"]), {}
    if self.spec.is_discrete:
      values = self._scaled(x)
      variables = self.dequantizer.init({"params": noise_key, "noise": noise_key}, values)
      dequantizer = variables.get("params", {})
      noise, _ = self._noise(dequantizer, values, noise_key)
      x = dequantized(x, noise)
    params, carry = self.flow.init_from(bijection_key, base_key, x, given_context(self, batch))
    statistics = dict(carry.get("statistics", {}))
    if self.noise:
      statistics["recording_steps"] = recording_step(x.reshape(len(x), -1)).reshape(x.shape[1:])
    params = {"model": {**params["model"], "dequantizer": dequantizer}}
    return params, {"statistics": statistics} if statistics else {}

  def forward(self, params: Params, carry: Carry, x: Float[Array, "batch *event"],
              context: Float[Array, "batch width"] | None = None) -> Transformed:
    """Map real or dequantized data to the base; return the values and each example's log-determinant in nats."""
    return self.flow.forward(params, carry, x, context)

  def inverse(self, params: Params, carry: Carry, z: Float[Array, "batch *latent"],
              context: Float[Array, "batch width"] | None = None) -> Transformed:
    """Map values of the base to real data; return them and the log-determinants of this map in nats."""
    return self.flow.inverse(params, carry, z, context)

  def log_prob(self, params: Params, carry: Carry, x: Float[Array | np.ndarray, "batch *event"],
               context: Float[Array | np.ndarray, "batch width"] | None = None) -> Float[Array, " batch"]:
    """Return the log-density of real or dequantized data in nats."""
    return self.flow.log_prob(params, carry, x, context)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the mean negative log-likelihood of the batch's examples, or its bound, in nats per dimension.

    Metrics: "nll" in nats per example, and for discrete data "bits_per_dim".
    """
    noise_key, dropout_key = jax.random.split(key)
    x, log_q = self._real(params, batch, noise_key)
    if self.noise:
      x = x + self.noise * carry["statistics"]["recording_steps"] * jax.random.normal(noise_key, x.shape, x.dtype)
    nats, penalty, carry = self.flow.train_log_prob(params, carry, x, given_context(self, batch), dropout_key)
    nll = log_q - nats
    metrics = {"nll": Mean.of(nll)}
    if self.spec.is_discrete:
      metrics["bits_per_dim"] = Mean.of(nll / (self.spec.num_dims * math.log(2.0)))
    return LossOutput(penalty + jnp.mean(nll) / self.spec.num_dims, metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x) in nats: exact for real data, a lower bound for integers, and an estimate where a bijection's
    determinant is one.

    The bound is the log of the mean of `num_samples` importance weights. The expectation of a weight is the integral of
    the density over the integer's cell, which is the integer's probability. So bounds may be mixed (Burda et al.,
    arXiv:1509.00519, section 3). A conditional model's likelihood is given "y", "context" or both.
    """
    context = given_context(self, batch)

    def weight(key):
      x, log_q = self._real(params, batch, key)
      nats, details = self.flow.scored(params, carry, x, context, jax.random.fold_in(key, 1))
      return nats - log_q, spread(details, nats)

    if not self.spec.is_discrete:
      nats, details = weight(key)
      return checked(self.spec, batch, LogLikelihood.of(nats, self.spec.num_dims, self.kind, given(self), details))
    weights, details = jax.lax.map(weight, jax.random.split(key, num_samples))
    nats = jax.nn.logsumexp(weights, axis=0) - math.log(num_samples)
    details = jax.tree.map(lambda value: jnp.mean(value, axis=0), details)
    found = LogLikelihood.of(nats, self.spec.num_dims, self.kind, given(self), details,
                             unbiased=self.kind is Kind.LOWER_BOUND)
    return checked(self.spec, batch, found)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw x [num, *event]; `temperature` multiplies the base's distance from its centre.

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: labels, contexts or both of a conditional model; see `gdm.batches.condition_context`.
      temperature: at least 0.

    Raises:
      ConfigError: the temperature is negative.
      SpecError: the condition is missing, must not be, or is out of range.
    """
    checks.at_least("temperature", temperature, 0)
    x, info = self.flow.draw(params, carry, key, num, condition_context(self, condition, num), temperature)
    return Samples(self._served(x), info)

  @highest_precision()
  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch *latent"]:
    """Return the base's values for the examples; discrete data first gets the dequantizer's noise."""
    return self.forward(params, carry, self._real(params, batch, key)[0], given_context(self, batch)).value

  def decode(self, params: Params, carry: Carry, latent: Float[Array, "batch *latent"], key: Key[Array, ""],
             condition: Condition | None = None) -> Array:
    """Return the examples for these values of the base, integers for discrete data."""
    del key  # nothing is random
    context = condition_context(self, condition, latent.shape[0])
    return self._served(self.inverse(params, carry, latent, context).value)

  def sample_posterior(self, params: Params, carry: Carry, key: Key[Array, ""],
                       log_likelihood: MeasurementLikelihood, batch: int, num: int,
                       condition: Condition | None = None) -> Samples:
    """Draw [num, batch, *event] given measurements, by chains of the base's normals, see
    `gdm.inference.latent_posterior`. Raise ConfigError where the base is not normal."""
    if self.base != "normal":
      raise ConfigError(f"model.base is {self.base!r}; draws given measurements need a normal one.")
    context = condition_context(self, condition, batch)

    def made(z, rows):
      z = z.reshape(len(z), *self._latent_event(params, carry, context))
      return self._served(self.inverse(params, carry, z, None if context is None else context[rows]).value)

    found = latent_posterior.draw(key, made, log_likelihood, self.spec.num_dims, batch, num)
    return Samples(found.x, found.info)

  def _latent_event(self, params: Params, carry: Carry, context: Array | None) -> tuple[int, ...]:
    """Return the shape of an example's values of the base."""
    x = jnp.zeros((1, *self.spec.event))
    context = None if context is None else context[:1]
    return jax.eval_shape(lambda: self.forward(params, carry, x, context).value).shape[1:]

  # Lossless coding.

  def require_normal_bijection(self) -> None:
    self.spec.require_discrete("local bits back")
    for name, value, right in (("base", self.base, "normal"), ("dequantization", self.dequantization, "uniform")):
      if value != right:
        raise ConfigError(f"model.{name} is {value!r}; local bits back codes flows with {name}={right!r} alone.")
    if is_estimated(self.bijection):
      raise ConfigError(f"{type(self).__name__} is inverted by iteration and has an estimated density; local bits back "
                        "needs a flow of couplings, or an autoregressive one.")

  def to_normal(self, params: Params, carry: Carry, x: Float[Array, "batch *event"]) -> Float[Array, "batch *latent"]:
    return self.forward(params, carry, x).value

  def from_normal(self, params: Params, carry: Carry, z: Float[Array, "batch dims"]) -> Float[Array, "batch *event"]:
    return self.inverse(params, carry, z.reshape(len(z), *self._latent_event(params, carry, None))).value

  def _scaled(self, x: Array) -> Float[Array, "batch *event"]:
    """Return discrete data as values in [-1, 1], the input of the dequantizer's networks."""
    levels = self.spec.require_discrete("dequantization")
    return 2.0 * jnp.asarray(x, jnp.float32) / (levels - 1) - 1.0

  def _noise(self, dequantizer, values, key) -> tuple[Array, Array]:
    out: Any = self.dequantizer.apply({"params": dequantizer}, values, rngs={"noise": key})
    return out

  def _real(self, params: Params, batch: Batch, key) -> tuple[Float[Array, "batch *event"], Float[Array, " batch"]]:
    """Return the data as real numbers, and the log-density of the noise that was added to it.

    Levels outside [0, levels) lie outside the logit's domain, so their log-determinant is NaN, which scoring reports as
    an error.
    """
    x = jnp.asarray(batch["x"])
    if not self.spec.is_discrete:
      return x, jnp.zeros(len(x), x.dtype)
    noise, log_q = self._noise(params["model"]["dequantizer"], self._scaled(x), key)
    return dequantized(x, noise), log_q

  def _served(self, x: Float[Array, "batch *event"]) -> Array:
    """Return real numbers in the data's form: for discrete data the integers below them."""
    if not self.spec.is_discrete:
      return x
    return jnp.clip(jnp.floor(x), 0, self.spec.require_discrete("a flow") - 1).astype(jnp.int32)
