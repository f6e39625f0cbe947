"""Learned variances of the steps of noise (Nichol & Dhariwal, arXiv:2102.09672, section 3.1)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.diffusion import bound
from gdm.diffusion.paths.path import NoisePath, PathSample, expand, total
from gdm.diffusion.predictions import Prediction
from gdm.diffusion.samplers.ancestral import log_variance, posterior


@dataclasses.dataclass(frozen=True)
class LearnedVariance:
  """The network also gives v of equation 15: each step's log-variance is v log(forward) + (1 - v) log(posterior).

  The loss is the prediction's squared error plus `weight` T times the bound's term, which moves v alone; both are means
  over dimensions, and the term is in bits, as in the paper's code. At t = 1 / T the term is L_0, the decoder's
  -log p(data | x), where the decoder is the discretized normal; else there is none.

  Attributes:
    num_steps: T.
    weight: lambda, for a bound in bits/dim.
  """

  num_steps: int
  weight: float = 1e-3

  def __post_init__(self) -> None:
    checks.at_least("vlb_weight", self.weight, 0.0)

  def split(self, outputs: Float[Array, "batch *wide"]) -> tuple[Float[Array, "batch *event"],
                                                                 Float[Array, "batch *event"]]:
    """Return the prediction, and v: 0 at the posterior's log-variance, 1 at the forward one; 1/2 at first."""
    value, v = jnp.split(outputs, 2, axis=-1)
    return value, 0.5 * (v + 1.0)

  def divergence(self, path: NoisePath, s: Float[Array, " batch"], t: Float[Array, " batch"],
                 data: Float[Array, "batch *event"], predicted: Float[Array, "batch *event"],
                 v: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    """Return the KL between the posterior of a step from t to s and the model's normal, in nats (equation 4)."""
    q = jax.tree.map(lambda a: expand(a, data), posterior(path, s, t))
    log_p, log_q = log_variance(q, v), jnp.log(q.variance)
    mean = q.of_data * (predicted - data)
    return 0.5 * total(log_p - log_q + jnp.exp(log_q - log_p) + mean**2 * jnp.exp(-log_p) - 1.0)

  def last_log_variance(self, path: NoisePath, v: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    """Return the log-variance of the step from 1 / T: equation 15, with the next step's posterior variance for its 0.

    So it is in the paper's code.
    """
    first, second = (jnp.asarray(i / self.num_steps, v.dtype) for i in (1, 2))
    return log_variance(posterior(path, first, second)._replace(forward_variance=path.sigma(first) ** 2), v)

  def term(self, path: NoisePath, sample: PathSample, predicted: Float[Array, "batch *event"],
           v: Float[Array, "batch *event"], served: Array | None, levels: int | None) -> Float[Array, " batch"]:
    """Return the bound's term at the times of a sample, i / T, in nats of an example (equations 4 to 6).

    Args:
      path: noise path.
      sample: noised data.
      predicted: prediction of the data.
      v: output of the network.
      served: integers that the data are, where the discretized normal decodes them; else None.
      levels: number of levels of `served`.
    """
    unit = 1.0 / self.num_steps
    is_first = sample.t < 1.5 * unit
    # Each of the two terms is computed at all times, and where it does not apply, in a place where it is finite.
    t = jnp.where(is_first, 2.0 * unit, sample.t)
    data = sample.data
    inner = self.divergence(path, t - unit, t, data, predicted, v)
    if served is None or levels is None:
      return jnp.where(is_first, 0.0, inner)
    mean = data + expand(is_first.astype(data.dtype), data) * (predicted - data)
    decoded = bound.discretized_gaussian_loss(mean, self.last_log_variance(path, v), served, levels)
    return jnp.where(is_first, decoded, inner)


@dataclasses.dataclass(frozen=True, eq=False)
class VarianceDenoiser:
  """The prediction of the data, and v (gdm/diffusion/samplers/ancestral.py).

  Attributes:
    prediction, path: how the data follows from the network's prediction.
    predict: (x_t, t) -> the prediction and v.
  """

  prediction: Prediction
  path: NoisePath
  predict: Callable[[Array, Array], tuple[Array, Array]]

  def __call__(self, x: Float[Array, "batch *event"], t: Float[Array, " batch"]) -> Float[Array, "batch *event"]:
    return self.with_variance(x, t)[0]

  def with_variance(self, x: Float[Array, "batch *event"],
                    t: Float[Array, " batch"]) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    value, v = self.predict(x, t)
    return self.prediction.data(self.path.level(t).like(x), x, value), v
