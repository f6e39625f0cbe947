"""A bijection by an ordinary differential equation: continuous normalizing flows (FFJORD, Grathwohl et al.,
arXiv:1810.01367; Chen et al., arXiv:1806.07366, theorem 1).

dx/dt = v(x, t) from t = 0, the data, to t = 1, the base; along it log |det| grows by the divergence of v.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.flows.bijections.bijection import DETAILS, PENALTIES, Bijection, Transformed, in_training
from gdm.inference.divergence import ExactTrace, Hutchinson, JacobianTrace, divergence
from gdm.inference.ode import Tolerance, solve


class Continuous(Bijection):
  """The flow of a velocity field, solved to a tolerance; its inverse is the same equation backwards.

  Where an rng named "probe" is given the divergence is estimated by random probes of each example (arXiv:1810.01367,
  section 3.1), else it is exact and takes as many derivatives as dimensions. Details: "nfe", and "unsolved", 1 where
  the tolerance was not reached and all is NaN. Penalties of a path (arXiv:2002.02798, section 4): the velocity's mean
  square along it, and that of its derivative along the probes.

  Attributes:
    velocity: a module of (x, what it is given) -> [batch, *event], where the time is the first entry of what is given
      and the context follows.
    tolerance: of the solver, relative and absolute, or a few roundings.
    train_probes: of the divergence in training; 0 for an exact one.
    probes: of it elsewhere.
    kinetic: weight of the velocity's mean square.
    jacobian: weight of the mean square of its derivative along the probes; needs probes.

  Example:
    layer, x = Continuous(MLP(outputs=2, context=1)), jax.random.normal(key, (16, 2))  # the time is the MLP's context
    variables = layer.init(key, x)
    y, log_det = layer.apply(variables, x)
    y, estimate = layer.clone(probes=1).apply(variables, x, rngs={"probe": key})
  """

  velocity: nn.Module
  tolerance: float = 1e-5
  train_probes: int = 1
  probes: int = 0
  kinetic: float = 0.0
  jacobian: float = 0.0

  def __post_init__(self) -> None:
    checks.positive("tolerance", self.tolerance)
    for name in ("train_probes", "probes", "kinetic", "jacobian"):
      checks.at_least(name, getattr(self, name), 0)
    super().__post_init__()

  @property
  def is_estimated(self) -> bool:
    """Whether log-determinants are known to a tolerance or in expectation only."""
    return True

  def forward(self, x, context=None):
    return self._solved(x, context, 0.0, 1.0)

  def inverse(self, y, context=None):
    return self._solved(y, context, 1.0, 0.0)

  def _solved(self, x: Float[Array, "batch *event"], context: Float[Array, "batch width"] | None, start: float,
              end: float) -> Transformed:
    if self.is_initializing():
      self.velocity(x, _given(jnp.zeros((), x.dtype), x, context))  # makes the parameters; a fresh flow moves little
      return Transformed(x, jnp.zeros(len(x), x.dtype))
    # Flax modules and raw transformations of JAX don't mix: the field becomes a pure function of its variables.
    module, variables = self.velocity.unbind()
    # One step size serves the batch: an example that is not finite would take the others with it.
    finite = jnp.all(jnp.isfinite(x.reshape(len(x), -1)), axis=1)
    start_at = jnp.where(finite.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)
    num = (self.train_probes if in_training(self) else self.probes) * self.has_rng("probe")
    trace: JacobianTrace = Hutchinson(num) if num else ExactTrace()
    probes = trace.probes(self.make_rng("probe") if num else jax.random.key(0), x.shape)

    def function(t, state):
      def field(x):
        out: Any = module.apply(variables, x, _given(t, x, context))
        return out

      value, rate = divergence(field, state[0], probes)
      return value, rate, *self._rates(field, state[0], value, probes)

    zeros, least = jnp.zeros(len(x), x.dtype), max(self.tolerance, 8.0 * float(jnp.finfo(x.dtype).eps))
    solution = solve(function, (start_at, zeros, *(zeros for name in ("kinetic", "jacobian") if getattr(self, name))),
                     jnp.asarray(start, x.dtype), jnp.asarray(end, x.dtype), Tolerance(least, least))
    self.sow(DETAILS, "nfe", solution.nfe)
    self.sow(DETAILS, "unsolved", 1 - solution.solved.astype(jnp.int32))
    value, log_det, *penalties = solution.y
    for name, penalty in zip([n for n in ("kinetic", "jacobian") if getattr(self, n)], penalties, strict=True):
      self.sow(PENALTIES, name, getattr(self, name) * jnp.mean(jnp.abs(penalty)))
    return Transformed(value, jnp.where(finite, log_det, jnp.nan))

  def _rates(self, field, x: Float[Array, "batch *event"], value: Float[Array, "batch *event"],
             probes: Float[Array, "num batch *event"]) -> list[Float[Array, " batch"]]:
    """Return the rates at which the penalties that have a weight grow."""
    rates = []
    if self.kinetic:
      rates.append(jnp.mean(value.reshape(len(x), -1) ** 2, axis=1))
    if self.jacobian:
      along = jax.vmap(lambda probe: jax.jvp(field, (x,), (probe.astype(x.dtype),))[1])(probes)
      rates.append(jnp.mean(jnp.sum(along**2, axis=0).reshape(len(x), -1), axis=1))
    return rates


def _given(t: Float[Array, ""], x: Float[Array, "batch *event"],
           context: Float[Array, "batch width"] | None) -> Float[Array, "batch more"]:
  """Return the time of each example, and its context."""
  time = jnp.full((len(x), 1), t, x.dtype)
  return time if context is None else jnp.concatenate([time, context.astype(x.dtype)], axis=1)
