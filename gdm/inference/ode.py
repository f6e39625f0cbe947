"""Ordinary differential equations to a tolerance, by an adaptive solver: Dormand-Prince 5(4), of diffrax."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from gdm import checks
from gdm.errors import UserError
from gdm.precision import highest_precision

# The first step tried, of the whole way.
FIRST_STEP = 0.01


class ToleranceError(UserError):
  """An ODE that was not solved to its tolerance."""


@dataclasses.dataclass(frozen=True)
class Tolerance:
  """When an adaptive solver is content: an estimated error per step of at most atol + rtol |x|, of every example.

  Attributes:
    rtol: relative.
    atol: absolute.
    max_steps: accepted and rejected steps, after which it gives up.
  """

  rtol: float = 1e-5
  atol: float = 1e-5
  max_steps: int = 1000

  def __post_init__(self) -> None:
    for name in ("rtol", "atol"):
      checks.positive(name, getattr(self, name))
    checks.at_least("max_steps", self.max_steps, 1)


class Solution(NamedTuple):
  """The end of an ODE's path, and the work it took. Where `solved` is False, `y` is NaN.

  Attributes:
    y: the state at each of the times asked for, or at the last alone.
    nfe: evaluations of the velocity.
    solved: whether the error stayed within the tolerance.
  """

  y: Any
  nfe: Int[Array, ""]
  solved: Bool[Array, ""]


@highest_precision()
def solve(function: Callable[[Array, Any], Any], y: Any, start: Float[Array, ""] | float, end: Float[Array, ""] | float,
          tolerance: Tolerance, save: Float[Array, " num"] | None = None) -> Solution:
  """dy/dt = function(t, y) from one time to another, in either direction.

  One step size serves the batch: the error of its worst example decides.

  Args:
    function: `(t [], y) -> dy/dt`, of arrays [batch, ...] or pytrees of them.
    y: the state at `start`.
    start, end: times.
    tolerance: of each step.
    save: times in the ODE's direction at which to return the state, instead of the last alone.
  """
  if any(isinstance(time, Tracer) for time in (start, end)):
    # From 0 to 1: diffrax compares times that are traced by a call to the host, which no export can have.
    first, span, original = start, end - start, function
    function = lambda t, y: jax.tree.map(lambda a: a * span, original(first + t * span, y))  # noqa: E731
    save = None if save is None else jnp.clip((save - first) / span, 0.0, 1.0)
    start, end = 0.0, 1.0
  saveat = diffrax.SaveAt(t1=save is None, ts=save, controller_state=True)
  controller = _Counting(diffrax.PIDController(rtol=tolerance.rtol, atol=tolerance.atol, norm=_worst))
  solution = diffrax.diffeqsolve(
      diffrax.ODETerm(lambda t, y, args: function(jnp.asarray(t), y)), diffrax.Dopri5(), start, end,
      FIRST_STEP * (end - start), y, saveat=saveat, stepsize_controller=controller,
      max_steps=tolerance.max_steps, throw=False)
  finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(solution.ys)]))
  solved = (solution.result == diffrax.RESULTS.successful) & finite
  y = jax.tree.map(lambda a: jnp.where(solved, a if save is not None else a[0], jnp.nan), solution.ys)
  state: Any = solution.controller_state
  return Solution(y, state[1], solved)


def require_solved(nfe: Any, solved: Any, tolerance: Tolerance) -> None:
  """Raise a ToleranceError that names the tolerance and the evaluations, unless the ODEs were solved."""
  if not bool(np.all(solved)):
    raise ToleranceError(f"the ODE did not reach rtol={tolerance.rtol:g}, atol={tolerance.atol:g} after "
                         f"{int(np.max(nfe))} evaluations (max_steps={tolerance.max_steps}); allow more steps or a "
                         "larger tolerance, or compute in float64.")


class _Counting(diffrax.AbstractStepSizeController):
  """A controller that counts the velocity's evaluations, which diffrax's statistics leave out.

  Six stages of an attempted step are new; the first is the last of the step before, once one was accepted.
  """

  inner: diffrax.PIDController

  def wrap(self, direction):
    return _Counting(self.inner.wrap(direction))

  def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
    t1, state = self.inner.init(terms, t0, t1, y0, dt0, args, func, error_order)
    return t1, (state, jnp.zeros((), jnp.int32), jnp.zeros((), bool))

  def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state) -> Any:
    state, nfe, accepted = controller_state
    keep, *between, state, result = self.inner.adapt_step_size(t0, t1, y0, y1_candidate, args, y_error, error_order,
                                                               state)
    return keep, *between, (state, nfe + jnp.where(accepted, 6, 7), accepted | keep), result


def _worst(error: Any) -> Float[Array, ""]:
  """Return the largest over examples of the root mean square of an example's errors."""
  norms = [jnp.sqrt(jnp.mean(a.reshape(a.shape[0], -1) ** 2, axis=-1)).max() for a in jax.tree.leaves(error)]
  return jnp.max(jnp.stack(norms))
