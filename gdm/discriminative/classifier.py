"""Classifiers by networks: p(y | x), and nothing of x."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from gdm import checks
from gdm.batches import nan_unless_valid
from gdm.dataspec import DataSpec
from gdm.discriminative import labels
from gdm.discriminative.networks.mlp import ClassifierPerceptron
from gdm.discriminative.networks.outputs import Outputs
from gdm.errors import ConfigError
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params
from gdm.networks import normalization

LEAST_NOISE = 0.01  # deviation of noise in training that is as good as none, in units of the network's inputs


@dataclasses.dataclass(frozen=True)
class Classifier:
  """A network whose logits are a distribution of labels, trained by cross-entropy.

  Parameters: the group "model" is the network's. The carry's "statistics" are the running means and variances of batch
  normalization, where the network has any: training normalizes by the batch, everything else by them.

  Attributes:
    spec: any data with labels; integers reach the network as points of [-1, 1], real numbers as they are.
    network: a network of x that returns logits and features, see gdm/discriminative/networks.
    label_smoothing: share of each label, in the objective, that is spread evenly over all classes (Szegedy et al.,
      arXiv:1512.00567, section 7).
    noise: the largest deviation, in units of the network's inputs, of normal noise in training; 0 is none. Each example
      has a deviation s of its own, from 0.01 on and uniform in log(s), and the network sees (inputs + s noise) /
      sqrt(1 + s^2), and log(s) as one more channel. Such a classifier can guide a diffusion model (Dhariwal & Nichol,
      arXiv:2105.05233, section 4).

  Example:
    model = Classifier(DataSpec((28, 28, 1), 256, num_classes=10), Convolutional())
    params, carry = model.init(key, {"x": x})
    log_probs = model.log_label_probs(params, carry, {"x": x})
  """

  spec: DataSpec
  network: nn.Module = ClassifierPerceptron()
  label_smoothing: float = 0.0
  noise: float = 0.0

  def __post_init__(self) -> None:
    name = type(self).__name__
    self.spec.require_whole(name)
    labels.num_classes(self.spec, name)
    checks.rate("label_smoothing", self.label_smoothing)
    if self.noise and not LEAST_NOISE < self.noise < math.inf:
      raise ConfigError(f"noise is {self.noise}; it must be above {LEAST_NOISE}, or 0 for none.")

  @property
  def objectives(self) -> tuple[Objective, ...]:
    reason = normalization.WHOLE_BATCH if self._normalizes else ""
    return (Objective(groups=("model",), loss=self.loss, whole_batch=reason, unit="nats"),)

  @property
  def criterion(self) -> str:
    return "cross_entropy"

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return fresh parameters and running statistics; the batch serves for its shape."""
    inputs = self._clean_inputs(batch["x"])
    variables = self._network.init(key, inputs)
    shape = jax.eval_shape(lambda x: self._apply(variables, x).logits, inputs).shape
    if shape != (want := (len(batch["x"]), self.spec.num_classes)):
      raise ConfigError(f"model.network made logits of shape {shape}; it must be {want}.")
    return {"model": variables["params"]}, normalization.carry_of(variables)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the mean cross-entropy in nats, with smoothed labels where they are; accuracy among the metrics.

    Raise SpecError where the batch has no labels, ConfigError where it is too small to be normalized.
    """
    checks.has_labels(batch, self, "is trained on labels")
    if self._normalizes:
      normalization.require_two(len(batch["x"]))
    variables = normalization.variables_of(params["model"], carry)
    inputs = self._noised_inputs(batch["x"], jax.random.fold_in(key, 1))
    out, changed = self._network.apply(variables, inputs, train=True, rngs={"dropout": key},
                                       mutable=[normalization.COLLECTION])
    log_probs = jax.nn.log_softmax(out.logits, axis=1)
    numbers = labels.label_numbers(log_probs, batch, self)
    smooth = -jnp.mean(log_probs, axis=1)
    losses = (1.0 - self.label_smoothing) * numbers["cross_entropy"] + self.label_smoothing * smooth
    metrics = {"cross_entropy": Mean.of(numbers["cross_entropy"]), "accuracy": Mean.of(1.0 - numbers["error"])}
    return LossOutput(jnp.mean(losses), metrics, normalization.moved(carry, changed))

  def validate(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]
               ) -> Mapping[str, Float[Array, " batch"]]:
    """Return the cross-entropy in nats and the error, 0 or 1, of each example, with noise as in training; NaN at labels
    that there are none of."""
    variables = normalization.variables_of(params["model"], carry)
    log_probs = jax.nn.log_softmax(self._apply(variables, self._noised_inputs(batch["x"], key)).logits, axis=1)
    return labels.label_numbers(nan_unless_valid(self.spec, batch, log_probs, given=("y",)), batch, self)

  def log_label_probs(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label in nats; NaN for examples that the spec does not allow."""
    log_probs = jax.nn.log_softmax(self._outputs(params, carry, batch["x"]).logits, axis=1)
    return nan_unless_valid(self.spec, batch, log_probs, given=("y",))

  def label_logits(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch classes"]:
    """Return the network's logits in nats; NaN for examples that the spec does not allow."""
    return nan_unless_valid(self.spec, batch, self._outputs(params, carry, batch["x"]).logits)

  def relaxed_log_label_probs(self, params: Params, carry: Carry, x: Float[Array, "batch *event"]
                              ) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label in nats, between levels too: differentiable in x, as served."""
    return jax.nn.log_softmax(self._outputs(params, carry, x).logits, axis=1)

  def noised_log_label_probs(self, params: Params, carry: Carry, x: Float[Array, "batch *event"],
                             deviation: Float[Array, "..."]) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label in nats, of examples plus noise; see `HasNoisedLabelProbs`."""
    if not self.noise:
      raise ConfigError("model.noise is 0: this classifier has seen no noise, so that it can't guide; train it with "
                        "--config.model.noise=80, say.")
    variables = normalization.variables_of(params["model"], carry)
    inputs = self._scaled(labels.inputs(self.spec, x), labels.unit(self.spec) * deviation)
    return jax.nn.log_softmax(self._apply(variables, inputs).logits, axis=1)

  def features(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch features"]:
    """Return the activations of the last hidden layer; NaN for examples that the spec does not allow."""
    return nan_unless_valid(self.spec, batch, self._outputs(params, carry, batch["x"]).features)

  @property
  def _network(self) -> nn.Module:
    return self.network.clone(outputs=self.spec.num_classes)

  @property
  def _normalizes(self) -> bool:
    return bool(getattr(self.network, "batch_norm", False))

  def _noised_inputs(self, x: Num[Array | np.ndarray, "batch *event"], key: Key[Array, ""]
                     ) -> Float[Array, "batch *shape"]:
    """Return what the network sees in training."""
    inputs = labels.inputs(self.spec, x)
    if not self.noise:
      return inputs
    level_key, noise_key = jax.random.split(key)
    logs = jax.random.uniform(level_key, (len(inputs),), minval=math.log(LEAST_NOISE), maxval=math.log(self.noise))
    deviation = jnp.exp(logs).reshape(-1, *(1,) * len(self.spec.event))
    return self._scaled(inputs + deviation * jax.random.normal(noise_key, inputs.shape), deviation)

  def _clean_inputs(self, x: Num[Array | np.ndarray, "batch *event"]) -> Float[Array, "batch *shape"]:
    """Return what the network sees of examples without noise."""
    inputs = labels.inputs(self.spec, x)
    return self._scaled(inputs, jnp.asarray(LEAST_NOISE)) if self.noise else inputs

  def _scaled(self, inputs: Float[Array, "batch *event"], deviation: Float[Array, "..."]
              ) -> Float[Array, "batch *shape"]:
    """Return noised inputs at the variance of inputs of variance one, and the logarithm of the noise as a channel."""
    level = jnp.broadcast_to(0.25 * jnp.log(jnp.maximum(deviation, LEAST_NOISE)), inputs.shape)[..., :1]
    return jnp.concatenate([inputs / jnp.hypot(1.0, deviation), level], axis=-1)

  def _outputs(self, params: Params, carry: Carry, x: Num[Array | np.ndarray, "batch *event"]) -> Outputs:
    return self._apply(normalization.variables_of(params["model"], carry), self._clean_inputs(x))

  def _apply(self, variables: Mapping[str, Any], inputs: Float[Array, "batch *event"]) -> Outputs:
    made: Any = self._network.apply(variables, inputs, train=False)
    return made
