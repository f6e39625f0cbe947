"""A classifier as an attacker meets it, behind a purifier or not: its log p(y | x), and a slope to climb."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.model import Carry, HasLabelProbs, HasRelaxedLabelProbs, Params
from gdm.robustness.purifier import Purifier


def cross_entropy(log_probs: Float[Array, "batch classes"], y: Int[Array, " batch"]) -> Float[Array, " batch"]:
  """Return -log p(y | x) in nats. Where a classifier is sure its slope vanishes, in float32 altogether."""
  return -jnp.take_along_axis(log_probs, y[:, None], axis=1)[:, 0]


def margin(log_probs: Float[Array, "batch classes"], y: Int[Array, " batch"]) -> Float[Array, " batch"]:
  """Return the largest log-probability of another label minus the true one's: above 0 the label is wrong (Carlini and
  Wagner, arXiv:1608.04644, section V-A). As a difference of logits it keeps its slope where a classifier is sure."""
  is_true = jnp.arange(log_probs.shape[1]) == y[:, None]
  return jnp.max(jnp.where(is_true, -jnp.inf, log_probs), axis=1) + cross_entropy(log_probs, y)


LOSSES: Mapping[str, Callable[[Array, Array], Array]] = {"cross_entropy": cross_entropy, "margin": margin}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttackTarget:
  """A classifier with its parameters, and a purifier before it where there is one.

  Behind a purifier, the slope is taken at the purified example as if purification were the identity (BPDA: Athalye et
  al., arXiv:1802.00420, section 4.1), and averaged over draws (section 4.2). Rounding to levels is treated likewise.

  Attributes:
    model: tells labels; of integers it must do so between the levels too.
    params, carry: its own.
    purifier: of data of the same event and levels; None for none.
    purifier_params, purifier_carry: its own.
    num_draws: of the purifier, for each slope; more than 1 only for one that draws.

  Raises:
    ConfigError: the model tells no labels, or only of integers, so that there is no gradient.
    SpecError: the purifier is of another event.
  """

  model: Any = dataclasses.field(metadata={"static": True})
  params: Params
  carry: Carry
  purifier: Purifier | None = dataclasses.field(default=None, metadata={"static": True})
  purifier_params: Params = dataclasses.field(default_factory=dict)
  purifier_carry: Carry = dataclasses.field(default_factory=dict)
  num_draws: int = dataclasses.field(default=1, metadata={"static": True})

  def __post_init__(self) -> None:
    name = type(self.model).__name__
    if not isinstance(self.model, HasLabelProbs):
      raise ConfigError(f"{name} tells no labels, so that there is nothing to attack; name a classifier.")
    if self.spec.levels is not None and not isinstance(self.model, HasRelaxedLabelProbs):
      raise ConfigError(f"{name} tells labels of integers only (spec.levels is {self.spec.levels}), so that it has no "
                        "gradient to attack by; choose a classifier that tells them between the levels too, such as "
                        "mlp_classifier or cnn_classifier.")
    checks.at_least("num_draws", self.num_draws, 1)
    if self.purifier is not None:
      require_same_event(self.purifier.spec, self.spec)

  @property
  def spec(self) -> DataSpec:
    model: Any = self.model
    return model.spec

  def purified(self, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"]
               ) -> Num[Array | np.ndarray, "batch *event"]:
    """Return what the classifier gets of examples as served."""
    if self.purifier is None:
      return x
    return self.purifier.purify(self.purifier_params, self.purifier_carry, key, x)

  def log_probs(self, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"]
                ) -> Float[Array, "batch classes"]:
    """Return log p(y | x) in nats of examples as served, purified first by one draw."""
    return self.model.log_label_probs(self.params, self.carry, {"x": self.purified(key, x)})

  def slope(self, loss: str, key: Key[Array, ""], x: Num[Array, "batch *event"], y: Int[Array, " batch"]
            ) -> tuple[Float[Array, " batch"], Float[Array, "batch *event"]]:
    """Return the loss of each example as served, and its gradient in x; means over draws of the purifier."""
    def total(z: Float[Array, "batch *event"]) -> tuple[Array, Array]:
      losses = LOSSES[loss](self._relaxed(z), y)
      return jnp.sum(losses), losses

    def once(key: Key[Array, ""]) -> tuple[Array, Array]:
      z = jnp.asarray(self.purified(key, x)).astype(jnp.float32)
      (_, losses), slope = jax.value_and_grad(total, has_aux=True)(z)
      return losses, slope

    found = [once(each) for each in jax.random.split(key, self.num_draws)]
    losses, slopes = zip(*found, strict=True)
    return jnp.mean(jnp.stack(losses), axis=0), jnp.mean(jnp.stack(slopes), axis=0)

  def _relaxed(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch classes"]:
    if isinstance(self.model, HasRelaxedLabelProbs):
      return self.model.relaxed_log_label_probs(self.params, self.carry, x)
    return self.model.log_label_probs(self.params, self.carry, {"x": x})


def require_same_event(purifier: DataSpec, classifier: DataSpec) -> None:
  """Raise SpecError unless a purifier's data have the classifier's event and levels."""
  theirs, ours = ((spec.event, spec.levels) for spec in (purifier, classifier))
  if theirs != ours:
    raise SpecError(f"the purifier is of events {theirs[0]} (spec.levels {theirs[1]}), but the classifier of {ours[0]} "
                    f"(spec.levels {ours[1]}); both must be of the same data.")


def served(spec: DataSpec, x: Num[Array | np.ndarray, "batch *event"]) -> Num[Array, "batch *event"]:
  """Return examples in the type that models take: integers as int32, real numbers as float32."""
  return jnp.asarray(x).astype(jnp.float32 if spec.levels is None else jnp.int32)
