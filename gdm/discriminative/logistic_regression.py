"""Softmax regression: a linear classifier, convex, solved to its optimum by L-BFGS."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from jaxtyping import Array, Float, Int, Key

from gdm import checks
from gdm.batches import nan_unless_valid
from gdm.dataspec import DataSpec
from gdm.discriminative import labels
from gdm.model import Batch, Carry, Objective, Params, PyTree

Report = Callable[[int, Mapping[str, float]], None]
REPORT_EVERY = 50  # iterations


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
    # L-BFGS needs few steps where all curvatures are alike: a weight's is about (C - 1) / C^2 times its feature's
    # variance at equal probabilities, plus the penalty's.
    classes = labels.num_classes(self.spec, "LogisticRegression")
    mean, scale = x.mean(axis=0), np.sqrt((classes - 1) / classes**2 * x.var(axis=0) + self.l2)
    scale = np.where(scale > 1e-9 * np.maximum(np.abs(mean), 1.0), scale, 1.0)
    with jax.enable_x64(True):
      found = self._minimized(jnp.asarray((x - mean) / scale), jnp.asarray(data.y), jnp.asarray(mean),
                              jnp.asarray(scale), report)
      weights, bias = (np.asarray(found[name]) for name in ("weights", "bias"))
    return {"model": {"weights": jnp.asarray(weights, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}}, {}

  def validate(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]
               ) -> Mapping[str, Float[Array, " batch"]]:
    """Return the cross-entropy in nats and the error, 0 or 1, of each example; NaN at labels that there are none of."""
    return labels.label_numbers(self.log_label_probs(params, carry, batch), batch, self)

  def log_label_probs(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label in nats; NaN for examples that the spec does not allow."""
    x = labels.inputs(self.spec, batch["x"]).reshape(-1, self.spec.num_dims)
    logits = x @ params["model"]["weights"] + params["model"]["bias"]
    return nan_unless_valid(self.spec, batch, jax.nn.log_softmax(logits, axis=1), given=("y",))

  def _minimized(self, z: Float[Array, "examples dims"], y: Int[Array, " examples"], mean: Float[Array, " dims"],
                 scale: Float[Array, " dims"], report: Report | None) -> PyTree:
    """Return weights and bias for x = mean + scale z."""

    def restored(own: PyTree) -> PyTree:
      weights = own["weights"] / scale[:, None]
      return {"weights": weights, "bias": own["bias"] - mean @ weights}

    def loss(own: PyTree, z: Float[Array, "examples dims"], y: Int[Array, " examples"]) -> Float[Array, ""]:
      log_probs = jax.nn.log_softmax(z @ own["weights"] + own["bias"], axis=1)
      fit = -jnp.mean(jnp.take_along_axis(log_probs, y[:, None], axis=1))
      return fit + 0.5 * self.l2 * jnp.sum(jnp.square(own["weights"] / scale[:, None]))

    def slope(grads: PyTree) -> Float[Array, ""]:
      """Return the norm of the gradient by weights and bias of x, from that by those of z."""
      weights = scale[:, None] * grads["weights"] + mean[:, None] * grads["bias"]
      return jnp.sqrt(jnp.sum(jnp.square(weights)) + jnp.sum(jnp.square(grads["bias"])))

    optimizer, classes = optax.lbfgs(memory_size=20), labels.num_classes(self.spec, "LogisticRegression")

    @jax.jit  # the data are arguments: as constants they would be copied into the program
    def step(own: PyTree, state: PyTree, z: Array, y: Array) -> tuple[PyTree, PyTree, Array, Array]:
      def of(own: PyTree) -> Float[Array, ""]:
        return loss(own, z, y)

      value, grads = optax.value_and_grad_from_state(of)(own, state=state)
      updates, state = optimizer.update(grads, state, own, value=value, grad=grads, value_fn=of)
      return optax.apply_updates(own, updates), state, value, slope(grads)

    own = {"weights": jnp.zeros((z.shape[1], classes)), "bias": jnp.zeros(classes)}
    state, norm = optimizer.init(own), np.inf
    for iteration in range(1, self.num_iterations + 1):
      after, state, value, norm = step(own, state, z, y)
      if report is not None and (iteration % REPORT_EVERY == 0 or norm <= self.tolerance):
        report(iteration, {"loss": float(value), "grad_norm": float(norm)})
      if norm <= self.tolerance:  # of `own`, before the step
        break
      own = after
    else:
      logging.warning("the gradient's norm is %.3g after %d iterations, above model.tolerance %g; set model.l2 above 0 "
                      "where a plane separates the classes, or model.num_iterations higher.", float(norm),
                      self.num_iterations, self.tolerance)
    return restored(own)
