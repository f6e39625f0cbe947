"""The joint energy model: a classifier is an energy of examples and labels (Grathwohl et al., arXiv:1912.03263).

log f(u, y) = g(u)[y] - |u|^2 / (2 reference^2) of standardized data u and a network's logits g, so that p(y | u) is
their softmax, and log f(u) the sum over labels (equations 5 to 7).
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm import checks
from gdm.batches import nan_unless_valid, require_labels
from gdm.energy.continuous.chains import Energy
from gdm.energy.continuous.ebm import OnGaussian
from gdm.errors import ConfigError, SpecError
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params


@dataclasses.dataclass(frozen=True)
class JEM(OnGaussian):
  """A network's logits as an energy; see `OnGaussian` for the other attributes.

  Trained on -log p(x) by its objective and -log p(y | x), which make -log p(x, y) where their weights are one
  (equation 8). Likelihoods and completions are of x alone; draws are of x, or of x given labels.

  Attributes:
    classifier_weight: weight of -log p(y | x).
  """

  classifier_weight: float = 1.0

  def __post_init__(self) -> None:
    if not self.spec.num_classes:
      raise SpecError("a joint energy model is one of labels, but the data has none (spec.num_classes is None); choose "
                      "ebm, or data with labels.")
    super().__post_init__()
    checks.at_least("model.classifier_weight", self.classifier_weight, 0)

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (self.energy_objective(self.loss),)

  @property
  def class_conditional(self) -> bool:
    """Draws can be given labels; without any they are of all classes."""
    return True

  @property
  def outputs(self) -> int:
    return self.spec.num_classes or 0

  @property
  def first_log_normalizer(self) -> float:
    return self.reference_log_normalizer + math.log(self.outputs)

  def logits(self, params: Params) -> Callable[[Float[Array, "batch *event"]], Float[Array, "batch classes"]]:
    """Return g, of standardized values, in nats."""
    return self.network_outputs(params)

  def energy(self, params: Params, carry: Carry, condition: Int[Array, " batch"] | None = None) -> Energy:
    """Return -log f(u) in nats; given labels, -log f(u, y)."""
    logits = self.logits(params)
    if condition is None:
      return lambda u: -jax.nn.logsumexp(logits(u), axis=1) + self.reference_energy(u)
    return lambda u: self.reference_energy(u) - _at(logits(u), condition)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the objective's loss of x, and `classifier_weight` times the cross-entropy of the labels in nats.

    Raise SpecError where the batch has no labels.
    """
    checks.has_labels(batch, self, "is trained on labels")
    batch = self.prepare(params, carry, batch, key)  # the same values for both losses: the network is computed once
    out = self.energy_loss(params, carry, batch, key, step)
    log_probs = jax.nn.log_softmax(self.logits(params)(jnp.asarray(batch["u"])), axis=1)
    y = jnp.asarray(batch["y"])
    cross_entropy = -_at(log_probs, y)
    metrics = {**out.metrics, "cross_entropy": Mean.of(cross_entropy),
               "class_accuracy": Mean.of((jnp.argmax(log_probs, axis=1) == y) * 1.0)}
    return LossOutput(out.loss + self.classifier_weight * jnp.mean(cross_entropy), metrics, out.carry)

  def log_label_probs(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch classes"]:
    """Return log p(y | x) in nats, of the same values whose log f `unnormalized_log_prob` gives."""
    log_probs = jax.nn.log_softmax(self.logits(params)(self.standardize(params, batch["x"], jax.random.key(0))), axis=1)
    return nan_unless_valid(self.spec, batch, log_probs, given=("y",))

  def checked_condition(self, condition: Array | None, num: int, start: str) -> Int[Array, " num"] | None:
    """Return labels of `num` draws, one for all repeated.

    Raise SpecError where they are no labels, ConfigError where chains that start so cannot be given any.
    """
    if condition is None:
      return None
    why = {"chains": "those of the buffer are of no class", "smc": "chains of one class cannot take another's place"}
    if start in why:
      raise ConfigError(f"start is {start!r}, but {why[start]}; to draw given labels it must be 'base'.")
    labels = jnp.asarray(condition)
    if labels.shape not in ((), (num,)) or not jnp.issubdtype(labels.dtype, jnp.integer):
      raise SpecError(f"condition has shape {labels.shape} and dtype {labels.dtype}; it must be integer labels "
                      f"[{num}], or one for all.")
    require_labels(self.spec, labels)
    return jnp.broadcast_to(labels, (num,))


def _at(values: Float[Array, "batch classes"], y: Int[Array, " batch"]) -> Float[Array, " batch"]:
  """Return each row's value at its label; NaN at a label that there is none of."""
  picked = jnp.take_along_axis(values, y[:, None], axis=1, mode="fill", fill_value=jnp.nan)[:, 0]
  return jnp.where(y < 0, jnp.nan, picked)
