"""Posterior samplers that use a model's own methods, `complete` and `sample_posterior`, and no denoiser."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from gdm.errors import SpecError
from gdm.inverse.operators.mask import Mask
from gdm.inverse.operators.operator import Leaf, registered
from gdm.inverse.samplers.steps import Draws
from gdm.model import Carry, Condition, HasComplete, HasPosterior, Params


@registered("operator", "y", "noise", static=())
@dataclasses.dataclass(frozen=True)
class Measurements:
  """Measurements y = A(x) + noise of examples x, all in the data's units; called, their log-likelihood.

  Attributes:
    operator: A.
    y: the measurements.
    noise: deviation of their Gaussian noise.
  """

  operator: Any  # an Operator
  y: Leaf  # Float[Array, "batch *measured"]
  noise: Leaf  # Float[Array, ""]

  def __call__(self, x: Num[Array, "n *event"], rows: Int[Array, " n"]) -> Float[Array, " n"]:
    """Return log N(y; A(x), noise^2) of each example by the measurement of its row, in nats, up to a constant."""
    residual = self.y[rows] - self.operator.forward(x.astype(jnp.float32))
    return -0.5 * jnp.sum(jnp.square(residual / self.noise).reshape(len(x), -1), axis=1)


def completion(model: HasComplete, params: Params, carry: Carry, seen: Measurements, key: Key[Array, ""], num: int,
               condition: Condition | None) -> Draws:
  """Draw the entries that a mask hides, in the data's units, by the model's `complete`.

  Raise SpecError where the operator is no mask, or the model cannot condition on that region or is conditional itself.
  """
  if not isinstance(seen.operator, Mask):
    raise SpecError(f"sampler is 'completion', which needs a mask, but the operator is "
                    f"{type(seen.operator).__name__}; choose --operator=mask:bottom, or another sampler.")
  if condition is not None:
    raise SpecError(f"sampler is 'completion', but {type(model).__name__} is given a condition, which completing takes "
                    "none of; choose another sampler.")
  prior: Any = model
  known, x = seen.operator.adjoint(jnp.ones((1, *seen.operator.measured)))[0] > 0.0, seen.operator.adjoint(seen.y)
  if prior.spec.levels is not None:
    x = jnp.round(x).astype(jnp.int32)
  found = model.complete(params, carry, key, jnp.tile(x, (num, *(1,) * (x.ndim - 1))), known)
  return Draws(found.x.reshape(num, len(seen.y), *found.x.shape[1:]), dict(found.info))


def posterior(model: HasPosterior, params: Params, carry: Carry, seen: Measurements, key: Key[Array, ""], num: int,
              condition: Condition | None) -> Draws:
  """Draw examples given measurements, in the data's units, by the model's `sample_posterior`."""
  found, info = _posterior(model, num, params, carry, seen, key, condition)
  return Draws(found, info)


@functools.partial(jax.jit, static_argnames=("model", "num"))
def _posterior(model: HasPosterior, num: int, params: Params, carry: Carry, seen: Measurements, key: Key[Array, ""],
               condition: Any) -> Any:
  found = model.sample_posterior(params, carry, key, seen, len(seen.y), num, condition)
  return found.x, dict(found.info)


