"""The base class of flow models: the map from data to the base distribution and back, and the likelihood.

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
from jaxtyping import Array, Float, Int, Key

from gdm import checks
from gdm.batches import checked, require_labels
from gdm.dataspec import DataSpec
from gdm.distributions.recording import recording_step
from gdm.errors import SpecError
from gdm.flows.base import Base, Logistic, Mixture, Normal, Uniform
from gdm.flows.bijections.bijection import Bijection, Chain, Transformed
from gdm.flows.bijections.elementwise import Logit, Standardize
from gdm.flows.bijections.normalization import has_batch_statistics
from gdm.flows.bijections.whitening import Whiten
from gdm.flows.dequantization import dequantizer
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params, Samples
from gdm.precision import highest_precision

# Uniform ends where the default splines do.
BASES: dict[str, Base] = {"normal": Normal(), "logistic": Logistic(), "mixture": Mixture(), "uniform": Uniform(-3., 3.)}


@dataclasses.dataclass(frozen=True)
class Flow(abc.ABC):
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
  def context_width(self) -> int:
    """Width of the context that networks take beside the data: one-hot labels, or 0 for none."""
    return (self.spec.num_classes or 0) if self.class_conditional else 0

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
      x = x + noise
    # The bijection; then the base, whose event is the shape of the bijection's values.
    variables = self.whole.init(bijection_key, x, self._context(batch))
    z, _ = self.whole.apply(variables, x, self._context(batch))
    base = BASES[self.base].init(base_key, z.shape[1:])
    params = {"bijection": variables.get("params", {}), "base": base, "dequantizer": dequantizer}
    statistics = {"bijection": variables["statistics"]} if "statistics" in variables else {}
    if self.noise:
      statistics["recording_steps"] = recording_step(x.reshape(len(x), -1)).reshape(x.shape[1:])
    return {"model": params}, {"statistics": statistics} if statistics else {}

  def forward(self, params: Params, carry: Carry, x: Float[Array, "batch *event"],
              context: Float[Array, "batch width"] | None = None) -> Transformed:
    """Map real or dequantized data to the base; return the values and each example's log-determinant in nats."""
    out: Any = self.whole.apply(self._variables(params, carry), x, context)
    return out

  @highest_precision()
  def inverse(self, params: Params, carry: Carry, z: Float[Array, "batch *latent"],
              context: Float[Array, "batch width"] | None = None) -> Transformed:
    """Map values of the base to real data; return them and the log-determinants of this map in nats."""
    out: Any = self.whole.apply(self._variables(params, carry), z, context, method="inverse")
    return out

  def log_prob(self, params: Params, carry: Carry, x: Float[Array, "batch *event"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, " batch"]:
    """Return the log-density of real or dequantized data in nats."""
    z, log_det = self.forward(params, carry, x, context)
    return BASES[self.base].log_prob(params["model"]["base"], z) + log_det

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the mean negative log-likelihood of the batch's examples, or its bound, in nats per dimension.

    Metrics: "nll" in nats per example, and for discrete data "bits_per_dim".
    """
    noise_key, dropout_key = jax.random.split(key)
    x, log_q = self._real(params, batch, noise_key)
    if self.noise:
      x = x + self.noise * carry["statistics"]["recording_steps"] * jax.random.normal(noise_key, x.shape, x.dtype)
    (z, log_det), changed = self.whole.apply(self._variables(params, carry), x, self._context(batch),
                                             rngs={"dropout": dropout_key}, mutable=["statistics"])
    nll = log_q - log_det - BASES[self.base].log_prob(params["model"]["base"], z)
    metrics = {"nll": Mean.of(nll)}
    if self.spec.is_discrete:
      metrics["bits_per_dim"] = Mean.of(nll / (self.spec.num_dims * math.log(2.0)))
    if changed:
      carry = {**carry, "statistics": {**carry["statistics"], "bijection": changed["statistics"]}}
    return LossOutput(jnp.mean(nll) / self.spec.num_dims, metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x) in nats: exact for real data, a lower bound for integers.

    The bound is the log of the mean of `num_samples` importance weights. The expectation of a weight is the integral of
    the density over the integer's cell, which is the integer's probability. So bounds may be mixed (Burda et al.,
    arXiv:1509.00519, section 3). A class-conditional model's likelihood is given "y".
    """
    def weight(key):
      x, log_q = self._real(params, batch, key)
      return self.log_prob(params, carry, x, self._context(batch)) - log_q

    given = ("y",) if self.class_conditional else ()
    if not self.spec.is_discrete:
      return checked(self.spec, batch, LogLikelihood.of(weight(key), self.spec.num_dims, Kind.EXACT, given))
    weights = jax.lax.map(weight, jax.random.split(key, num_samples))
    nats = jax.nn.logsumexp(weights, axis=0) - math.log(num_samples)
    found = LogLikelihood.of(nats, self.spec.num_dims, Kind.LOWER_BOUND, given, unbiased=True)
    return checked(self.spec, batch, found)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw x [num, *event]; `temperature` multiplies the base's distance from its centre.

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: labels [num], or one for all, of a class-conditional model.
      temperature: at least 0.

    Raises:
      ConfigError: the temperature is negative.
      SpecError: labels are missing in a class-conditional model, given to another one, or out of range.
    """
    checks.at_least("temperature", temperature, 0)
    if (condition is None) == self.class_conditional:
      raise SpecError(f"class_conditional is {self.class_conditional}, so condition must be "
                      + (f"labels [{num}]." if self.class_conditional else "None."))
    if condition is not None:
      require_labels(self.spec, condition)
    context = None if condition is None else self._context({"y": jnp.broadcast_to(condition, (num,))})
    event = self._latent_event(params, carry)
    z = BASES[self.base].sample(params["model"]["base"], key, num, event, temperature)
    return Samples(self._served(self.inverse(params, carry, z, context).value), {"nfe": 1})

  @highest_precision()
  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch *latent"]:
    """Return the base's values for the examples; discrete data first gets the dequantizer's noise."""
    return self.forward(params, carry, self._real(params, batch, key)[0], self._context(batch)).value

  def decode(self, params: Params, carry: Carry, latent: Float[Array, "batch *latent"], key: Key[Array, ""],
             condition: Int[Array, " batch"] | None = None) -> Array:
    """Return the examples for these values of the base, integers for discrete data; `condition` are labels."""
    del key  # nothing is random
    if condition is not None:
      require_labels(self.spec, condition)
    context = None if condition is None else self._context({"y": condition})
    return self._served(self.inverse(params, carry, latent, context).value)

  def _variables(self, params, carry):
    statistics = carry.get("statistics", {}).get("bijection")
    return {"params": params["model"]["bijection"], **({} if statistics is None else {"statistics": statistics})}

  def _latent_event(self, params, carry) -> tuple[int, ...]:
    x = jax.ShapeDtypeStruct((1, *self.spec.event), jnp.float32)
    context = jax.ShapeDtypeStruct((1, self.context_width), jnp.float32) if self.context_width else None
    return jax.eval_shape(lambda x, c: self.forward(params, carry, x, c).value, x, context).shape[1:]

  def _context(self, batch: Batch) -> Float[Array, "batch width"] | None:
    if not self.class_conditional:
      return None
    checks.has_labels(batch, self)
    return jax.nn.one_hot(jnp.asarray(batch["y"]), self.context_width)

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
    return x + noise, log_q

  def _served(self, x: Float[Array, "batch *event"]) -> Array:
    """Return real numbers in the data's form: for discrete data the integers below them."""
    if not self.spec.is_discrete:
      return x
    return jnp.clip(jnp.floor(x), 0, self.spec.require_discrete("a flow") - 1).astype(jnp.int32)
