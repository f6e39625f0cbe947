"""Classifiers by Bayes' rule: p(y) p(x | y) in closed form, of whole examples and of any of their features."""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from gdm import checks
from gdm.batches import checked, nan_unless_valid
from gdm.dataspec import DataSpec
from gdm.discriminative import labels
from gdm.discriminative.labels import Labelled
from gdm.errors import DataError, SpecError
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Objective, Params, PyTree


@dataclasses.dataclass(frozen=True)
class Bayes(abc.ABC):
  """p(x, y) = p(y) p(x | y), both counted.

  Parameters: "log_prior" [classes], and a model's own.

  Attributes:
    spec: data with labels.
    alpha: pseudo-count of p(x | y), see the model.
    prior_alpha: pseudo-count of each class in p(y); 0 takes the frequencies, of which then none may be 0.
  """

  spec: DataSpec
  alpha: float = 1.0
  prior_alpha: float = 0.0

  def __post_init__(self) -> None:
    name = type(self).__name__
    self.spec.require_whole(name)
    labels.num_classes(self.spec, name)
    checks.positive("alpha", self.alpha, "so that no probability is zero")
    checks.at_least("prior_alpha", self.prior_alpha, 0)

  @property
  def num_classes(self) -> int:
    return labels.num_classes(self.spec, type(self).__name__)

  @property
  def kind_of_score(self) -> Kind:
    """What log p(x) is, as a number of data of so many levels."""
    return Kind.EXACT

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return ()

  @abc.abstractmethod
  def fit(self, data: Labelled) -> dict[str, Float[np.ndarray, "..."]]:
    """Return the parameters of p(x | y)."""

  @abc.abstractmethod
  def fresh(self) -> dict[str, Float[np.ndarray, "..."]]:
    """Return parameters of p(x | y) that are the same for every class."""

  @abc.abstractmethod
  def log_given_labels(self, own: PyTree, x: Num[Array, "batch dims"],
                       known: Bool[Array, "batch dims"] | None) -> Float[Array, "batch classes"]:
    """Return log p of the known features of x given every label, in nats; of all where `known` is None."""

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return a model in which x says nothing of y."""
    prior = np.full(self.num_classes, -np.log(self.num_classes))
    return as_parameters({"log_prior": prior, **self.fresh()}), {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report: Any = None) -> tuple[Params, Carry]:
    """Return smoothed frequencies, or moments, of each class; one pass, with all examples in memory.

    Raises:
      DataError: there is no batch, one holds values that the spec does not allow, all labels are of one class, or a
        class has no example.
      SpecError: there are no labels.
    """
    data = labels.gathered(self.spec, batches, self)
    counts = np.bincount(data.y, minlength=self.num_classes) + self.prior_alpha
    for missing in np.flatnonzero(counts == 0)[:1]:
      raise DataError(f"class {missing} has no example to fit to, so that its probability would be 0; set "
                      "model.prior_alpha above 0, or serve data of every class.")
    return as_parameters({"log_prior": np.log(counts / counts.sum()), **self.fit(data)}), {}

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x), the sum over labels, in nats; nothing of it is drawn or estimated."""
    nats = jax.nn.logsumexp(self._joint(params, batch["x"], None), axis=1)
    found = LogLikelihood.of(nats, self.spec.num_dims, self.kind_of_score,
                             unbiased=self.kind_of_score is Kind.LOWER_BOUND)
    return checked(self.spec, batch, found)

  def log_label_probs(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label in nats; NaN for examples that the spec does not allow."""
    log_probs = jax.nn.log_softmax(self._joint(params, batch["x"], None), axis=1)
    return nan_unless_valid(self.spec, batch, log_probs, given=("y",))

  def known_log_likelihood(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
                           known: Bool[Array | np.ndarray, "..."]) -> Float[Array, " batch"]:
    """Return the exact log p of the known features alone, in nats.

    Args:
      params: the parameters.
      x: examples; what they hold in unknown features is of no account.
      known: which features are known, of all examples [*event] or of each [batch, *event].
    """
    return jax.nn.logsumexp(self._joint(params, x, known), axis=1)

  def known_log_label_probs(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
                            known: Bool[Array | np.ndarray, "..."]) -> Float[Array, "batch classes"]:
    """Return log p(y | known features) of every label in nats; the arguments are those of `known_log_likelihood`."""
    return jax.nn.log_softmax(self._joint(params, x, known), axis=1)

  def _joint(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
             known: Bool[Array | np.ndarray, "..."] | None) -> Float[Array, "batch classes"]:
    """Return log p(known features of x, y)."""
    flat = as_flat(self.spec, x)
    if known is not None:
      known = jnp.asarray(known)
      if known.shape not in (self.spec.event, (len(x), *self.spec.event)):
        raise SpecError(f"known has shape {known.shape}; it must be spec.event, {self.spec.event}, or that after the "
                        f"batch axis, {(len(x), *self.spec.event)}.")
      known = jnp.broadcast_to(known, (len(x), *self.spec.event)).reshape(flat.shape)
      flat = jnp.where(known, flat, 0)
    own = params["model"]
    return own["log_prior"] + self.log_given_labels(own, flat, known)


def as_flat(spec: DataSpec, x: Num[Array | np.ndarray, "batch *event"]) -> Num[Array, "batch dims"]:
  """Return examples with their event flattened, integers as int32."""
  x = jnp.asarray(x)
  return x.reshape(x.shape[0], spec.num_dims).astype(jnp.float32 if spec.levels is None else jnp.int32)


def as_parameters(own: dict[str, Any]) -> dict[str, PyTree]:
  """Return the parameters of a model, in float32."""
  return {"model": {name: jnp.asarray(value, jnp.float32) for name, value in own.items()}}
