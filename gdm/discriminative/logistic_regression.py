"""Softmax regression: a linear classifier, convex, solved to its optimum by L-BFGS."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from jaxtyping import Array, Float, Int, Key, Num

from gdm import checks
from gdm.batches import nan_unless_valid
from gdm.dataspec import DataSpec
from gdm.discriminative import labels
from gdm.model import Batch, Carry, Objective, Params, PyTree

Report = Callable[[int, Mapping[str, float]], None]
REPORT_EVERY = 50  # iterations
_MANY_FEATURES = 1024  # whose covariance is not factorized
_OPTIMIZER = optax.lbfgs(memory_size=20)


@dataclasses.dataclass(frozen=True)
class LogisticRegression:
  """p(y | x) = softmax(x W + b), at the least mean cross-entropy + l2 / 2 |W|^2; of two classes logistic regression.

  Parameters: "weights" W [dims, classes] and "bias" b [classes]. Integers are taken as points of [-1, 1].

  Attributes:
    spec: any data with labels.
    l2: penalty on weights, not on the bias, beside the mean over examples: scikit-learn's C is 1 / (l2 examples). With
      0 there is no optimum where a plane separates the classes.
    tolerance: norm of the gradient at which it is solved.
    num_iterations: most steps of L-BFGS.

  Example:
    model = LogisticRegression(DataSpec((57,), None, num_classes=2), l2=1e-3)
    params, carry = model.solve(key, [{"x": x, "y": y}])
  """

  spec: DataSpec
  l2: float = 1e-4
  tolerance: float = 1e-6
  num_iterations: int = 1000

  def __post_init__(self) -> None:
    name = type(self).__name__
    self.spec.require_whole(name)
    labels.num_classes(self.spec, name)
    checks.at_least("l2", self.l2, 0)
    checks.positive("tolerance", self.tolerance)
    checks.at_least("num_iterations", self.num_iterations, 1)

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return ()

  @property
  def criterion(self) -> str:
    return "cross_entropy"

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return zeros: all labels are equally likely."""
    classes = labels.num_classes(self.spec, "LogisticRegression")
    return {"model": {"weights": jnp.zeros((self.spec.num_dims, classes)), "bias": jnp.zeros(classes)}}, {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report: Report | None = None) -> tuple[Params, Carry]:
    """Return the optimum, found in float64 from zero with all examples in memory.

    Raises:
      DataError: there is no batch, one holds values that the spec does not allow, or all labels are of one class.
      SpecError: there are no labels.
    """
    data = labels.gathered(self.spec, batches, self)
    x = np.asarray(data.x, np.float64)
    if self.spec.levels is not None:
      x = 2.0 * x / (self.spec.levels - 1) - 1.0
    mean = x.mean(axis=0)
    axes = Axes.of(x - mean, labels.num_classes(self.spec, "LogisticRegression"), self.l2)
    with jax.enable_x64(True):
      found = self._minimized(jnp.asarray(axes.coordinates(x - mean)), jnp.asarray(data.y), jnp.asarray(mean),
                              Axes(*map(jnp.asarray, axes)), report)
      weights, bias = (np.asarray(found[name]) for name in ("weights", "bias"))
    return {"model": {"weights": jnp.asarray(weights, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}}, {}

  def validate(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]
               ) -> Mapping[str, Float[Array, " batch"]]:
    """Return the cross-entropy in nats and the error, 0 or 1, of each example; NaN at labels that there are none of."""
    return labels.label_numbers(self.log_label_probs(params, carry, batch), batch, self)

  def log_label_probs(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label in nats; NaN for examples that the spec does not allow."""
    log_probs = self.relaxed_log_label_probs(params, carry, jnp.asarray(batch["x"]))
    return nan_unless_valid(self.spec, batch, log_probs, given=("y",))

  def relaxed_log_label_probs(self, params: Params, carry: Carry, x: Num[Array, "batch *event"]
                              ) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label in nats, between levels too: differentiable in x, as served."""
    flat = labels.inputs(self.spec, x).reshape(-1, self.spec.num_dims)
    return jax.nn.log_softmax(flat @ params["model"]["weights"] + params["model"]["bias"], axis=1)

  def _minimized(self, z: Float[Array, "examples dims"], y: Int[Array, " examples"], mean: Float[Array, " dims"],
                 axes: "Axes", report: Report | None) -> PyTree:
    """Return weights and bias for x, by coordinates z of x - mean."""
    classes = labels.num_classes(self.spec, "LogisticRegression")
    own = {"weights": jnp.zeros((z.shape[1], classes)), "bias": jnp.zeros(classes)}
    state, norm = _OPTIMIZER.init(own), np.inf
    for iteration in range(1, self.num_iterations + 1):
      after, state, value, norm = _step(self.l2, own, state, z, y, mean, axes)
      if report is not None and (iteration % REPORT_EVERY == 0 or norm <= self.tolerance):
        report(iteration, {"loss": float(value), "grad_norm": float(norm)})
      if norm <= self.tolerance:  # of `own`, before the step
        break
      own = after
    else:
      logging.warning("the gradient's norm is %.3g after %d iterations, above model.tolerance %g; set model.l2 above 0 "
                      "where a plane separates the classes, or model.num_iterations higher.", float(norm),
                      self.num_iterations, self.tolerance)
    weights = axes.weights(own["weights"])
    return {"weights": weights, "bias": own["bias"] - mean @ weights}


class Axes(NamedTuple):
  """Axes along which the loss curves alike, so that L-BFGS needs few steps.

  At equal probabilities, the curvature by the weights of one class is (C - 1) / C^2 times the features' covariance,
  plus the penalty's (Böhning, 1992). Weights are `root` times the weights of coordinates; of very many features only
  the variances are taken, and both are vectors.

  Attributes:
    root: the inverse square root of the curvature.
    inverse: its inverse.
  """

  root: Float[Any, "..."]
  inverse: Float[Any, "..."]

  @classmethod
  def of(cls, centred: Float[np.ndarray, "examples dims"], classes: int, l2: float) -> "Axes":
    """Return the axes of examples whose mean is 0; along those on which nothing varies, and no penalty, the unit."""
    share = (classes - 1) / classes**2
    if centred.shape[1] > _MANY_FEATURES:
      scale = _floored(share * centred.var(axis=0) + l2)
      return cls(1.0 / scale, scale)
    values, vectors = np.linalg.eigh(share / len(centred) * centred.T @ centred)
    scale = _floored(np.maximum(values, 0.0) + l2)
    return cls((vectors / scale) @ vectors.T, (vectors * scale) @ vectors.T)

  def coordinates(self, centred: Float[np.ndarray, "examples dims"]) -> Float[np.ndarray, "examples dims"]:
    return centred * self.root if self.root.ndim == 1 else centred @ self.root

  def weights(self, own: Float[Array, "dims classes"]) -> Float[Array, "dims classes"]:
    """Return the weights of features, by those of coordinates."""
    return self.root[:, None] * own if self.root.ndim == 1 else self.root @ own

  def slope(self, own: Float[Array, "dims classes"]) -> Float[Array, "dims classes"]:
    """Return the gradient by weights of features, by that by weights of coordinates."""
    return self.inverse[:, None] * own if self.inverse.ndim == 1 else self.inverse @ own


def _floored(curvature: Float[np.ndarray, " dims"]) -> Float[np.ndarray, " dims"]:
  """Return square roots, 1 where there is no curvature beyond rounding."""
  return np.sqrt(np.where(curvature > 1e-13 * max(curvature.max(), 1e-300), curvature, 1.0))


# The data are arguments: as constants they would be copied into the program.
@jax.jit
def _step(l2: Float[Array, ""], own: PyTree, state: PyTree, z: Float[Array, "examples dims"],
          y: Int[Array, " examples"], mean: Float[Array, " dims"], axes: Axes) -> tuple[PyTree, PyTree, Array, Array]:
  """Return the next weights of coordinates, the optimizer's state, the loss, and the norm of its gradient by weights
  and bias of x, both before the step."""
  def loss(own: PyTree) -> Float[Array, ""]:
    log_probs = jax.nn.log_softmax(z @ own["weights"] + own["bias"], axis=1)
    fit = -jnp.mean(jnp.take_along_axis(log_probs, y[:, None], axis=1))
    return fit + 0.5 * l2 * jnp.sum(jnp.square(axes.weights(own["weights"])))

  value, grads = optax.value_and_grad_from_state(loss)(own, state=state)
  updates, state = _OPTIMIZER.update(grads, state, own, value=value, grad=grads, value_fn=loss)
  slope = axes.slope(grads["weights"]) + mean[:, None] * grads["bias"]
  norm = jnp.sqrt(jnp.sum(jnp.square(slope)) + jnp.sum(jnp.square(grads["bias"])))
  return optax.apply_updates(own, updates), state, value, norm
