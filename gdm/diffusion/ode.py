"""The probability-flow ODE and the likelihood by it (Song et al., arXiv:2011.13456, section 4.3 and appendix D).

dx/dt = alpha' x_0 + sigma' noise, both as predicted at (x, t), has the same marginals as the path's SDE. Along it log p
changes by minus the divergence. An adaptive solver (Dormand-Prince 5(4), of diffrax) keeps its error to a tolerance.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from gdm import checks
from gdm.diffusion.divergence import ExactTrace, JacobianTrace, divergence
from gdm.diffusion.paths.path import NoisePath, prior_scale
from gdm.diffusion.predictions import PREDICTIONS, Denoise
from gdm.errors import UserError
from gdm.precision import highest_precision

VelocityField = Callable[[Float[Array, "batch *event"], Float[Array, " batch"]], Float[Array, "batch *event"]]


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


class ODELikelihood(NamedTuple):
  """Log-densities in nats by the ODE, the latents where it ends, and what it took."""

  log_prob: Float[Array, " batch"]
  latent: Float[Array, "batch *event"]
  nfe: Int[Array, ""]
  solved: Bool[Array, ""]


def probability_flow(denoise: Denoise, path: NoisePath) -> VelocityField:
  """Return the velocity of the ODE; t is above 0, where the noise of a denoised x is unknown."""
  def velocity(x, t):
    level = path.level(t).like(x)
    data = denoise(x, t)
    return PREDICTIONS["velocity"].target(level, data, PREDICTIONS["data"].noise(level, x, data))

  return velocity


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


def log_likelihood(denoise: Denoise, path: NoisePath, data: Float[Array, "batch *event"], key: Key[Array, ""],
                   trace: JacobianTrace | None = None, tolerance: Tolerance | None = None) -> ODELikelihood:
  """Log-density of `data`, taken to be x at the path's first time, by the ODE to its last.

  Pure, so under `jax.jit` an unsolved ODE cannot raise: its log-densities are NaN; `require_solved` raises.

  Args:
    denoise: predicts the data.
    path: noise path.
    data: real numbers.
    key: of the probes.
    trace: how the divergence is found; exact by default, which takes as many derivatives as dimensions.
    tolerance: of the solver.
  """
  probes = (trace or ExactTrace()).probes(key, data.shape)
  velocity = probability_flow(denoise, path)

  def function(t, state):
    times = jnp.full(data.shape[0], t)
    return divergence(lambda x: velocity(x, times), state[0], probes)

  start, end = (jnp.asarray(end, data.dtype) for end in path.ends)
  (latent, change), nfe, solved = solve(function, (data, jnp.zeros(data.shape[0], data.dtype)), start, end,
                                        tolerance or Tolerance())
  scale = prior_scale(path).astype(data.dtype)
  prior = jax.scipy.stats.norm.logpdf(latent, scale=scale).reshape(data.shape[0], -1).sum(axis=-1)
  return ODELikelihood(prior + change, latent, nfe, solved)


def require_solved(solution: Solution | ODELikelihood, tolerance: Tolerance) -> None:
  """Raise a ToleranceError that names the tolerance and the evaluations, unless the ODE was solved."""
  if not bool(np.all(solution.solved)):
    raise ToleranceError(f"the probability-flow ODE did not reach rtol={tolerance.rtol:g}, atol={tolerance.atol:g} "
                         f"after {int(np.max(solution.nfe))} evaluations (max_steps={tolerance.max_steps}); allow more "
                         "steps or a larger tolerance, or compute in float64.")


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
