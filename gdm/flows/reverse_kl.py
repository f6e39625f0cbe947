"""Flows fitted to an unnormalized density instead of to data, and how well they cover it.

The reverse divergence KL(q || p) = E_q[log q(x) - log p~(x)] + log Z needs draws of the flow alone (Rezende & Mohamed,
arXiv:1505.05770; Noé et al., arXiv:1812.01729). It may leave out modes of p, which weights of draws from q cannot see:
Pareto's k tells a q whose tails are too thin, not a mode where q never goes.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.extras import load_extra
from gdm.flows.base import HasChoice
from gdm.flows.flow import Flow
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params

LogDensity = Callable[[Float[Array, "batch *event"]], Float[Array, " batch"]]


@dataclasses.dataclass(frozen=True)
class ReverseKL:
  """A flow as a model that training fits to a target; batches only say where initialization begins.

  Attributes:
    flow: the flow; its inverse must have gradients, as that of couplings has.
    target: log p~, the log-density up to a constant, of examples [batch, *event] in nats.
    num: draws of each step.

  Example:

    model = ReverseKL(flow, lambda x: -0.5 * jnp.sum(((x - 1.0) / 0.3) ** 2, axis=-1))
    state = init_state(model, optimizers_for(model, optax.adam(1e-3)), jax.random.key(0), {"x": start})
    ...
    draws = importance(model, state.params, state.carry, jax.random.key(1), 10_000)
    print(draws.log_z, draws.effective_sample_size)
  """

  flow: Flow
  target: LogDensity
  num: int = 256

  def __post_init__(self) -> None:
    checks.at_least("num", self.num, 1)

  @property
  def spec(self):
    return self.flow.spec

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(("model",), self.loss, unit="nats, up to log Z"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return the flow's parameters, from examples in the region where it is to begin."""
    return self.flow.init(key, batch)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the mean of log q - log p~ over draws of the flow: KL(q || p) - log Z, in nats."""
    z, draws, log_q = self._draw(params, carry, key, self.num)
    gaps = log_q - self.target(draws)
    loss = jnp.mean(gaps)
    if isinstance(self.flow.base, HasChoice):
      # The probability of a component is moved by the score of its draws (Williams, 1992), with the mean as baseline;
      # without it the weights of a mixture would have gradients of mean zero.
      score = self.flow.base.log_choice(params["model"]["base"], z)
      loss = loss + jnp.mean(jax.lax.stop_gradient(gaps - loss) * (score - jax.lax.stop_gradient(score)))
    return LossOutput(loss, {"reverse_kl": Mean.of(gaps)}, carry)

  def draw(self, params: Params, carry: Carry, key: Key[Array, ""],
           num: int) -> tuple[Float[Array, "num *event"], Float[Array, " num"]]:
    """Return draws of the flow and their log-density in nats; gradients pass through both."""
    return self._draw(params, carry, key, num)[1:]

  def _draw(self, params: Params, carry: Carry, key: Key[Array, ""],
            num: int) -> tuple[Float[Array, "num *latent"], Float[Array, "num *event"], Float[Array, " num"]]:
    """Return draws of the base, those of the flow, and their log-density in nats."""
    base = params["model"]["base"]
    z = self.flow.base.sample(base, key, num, self.flow.latent_event(params, carry, None), 1.0)
    x, log_det = self.flow.inverse(params, carry, z)
    return z, x, self.flow.base.log_prob(base, z) - log_det


class Importance(NamedTuple):
  """Draws of a flow, weighted to be of the target.

  Attributes:
    x: the draws [num, *event].
    log_weights: log p~(x) - log q(x) of each, in nats.
    log_z: the estimate of log Z; its exponential is unbiased.
    effective_sample_size: (sum w)^2 / sum w^2 (Kong 1992), at most num. Few heavy weights make it small; a mode that no
      draw has reached leaves it as it is.
  """

  x: Array
  log_weights: Float[np.ndarray, " num"]
  log_z: float
  effective_sample_size: float

  def smoothed(self) -> tuple[Float[np.ndarray, " num"], float]:
    """Return normalized log-weights whose largest are smoothed, and Pareto's k (Vehtari et al., arXiv:1507.02646), by
    the package arviz.

    Means under the weights are not to be trusted where k is above 0.7. Raise ConfigError where the extra "diagnostics"
    is not installed.
    """
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", FutureWarning)  # arviz announces its next version on import
      arviz = load_extra("arviz", "diagnostics", "smoothing of importance weights")
    log_weights, k = arviz.psislw(np.array(self.log_weights, np.float64))
    return np.asarray(log_weights), float(k)


def importance(model: ReverseKL, params: Params, carry: Carry, key: Key[Array, ""], num: int) -> Importance:
  """Return weighted draws of a fitted flow, and what they say of the target's log Z."""
  def weighted(params, carry, key):
    x, log_q = model.draw(params, carry, key, num)
    return x, model.target(x) - log_q

  x, log_weights = jax.jit(weighted)(params, carry, key)
  each: Any = np.asarray(log_weights, np.float64)
  shifted = np.exp(each - each.max())
  return Importance(x, each, float(each.max() + math.log(shifted.mean())), float(shifted.sum()**2 / (shifted**2).sum()))
