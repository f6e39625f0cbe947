"""Normalization of activations as bijections: by the first batch (Glow), or by each batch (RealNVP).

A channel is an entry of the last axis; all other axes are what its mean and variance are taken over.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.distributions.moments import moments
from gdm.errors import ConfigError
from gdm.flows.bijections.bijection import Bijection, Transformed
from gdm.flows.bijections.linear import per_pixel


def require_two(x: Float[Array, "batch *event"], who: str) -> None:
  """A ConfigError unless x holds at least two examples to take a variance over."""
  if x.shape[0] < 2:
    raise ConfigError(f"{who} takes means and variances over a batch, but the batch has {x.shape[0]} example(s); "
                      "it needs at least 2 (batch_size).")


class ActNorm(Bijection):
  """y = (x - mean) exp(-log_scale) with learned parameters that start from data.

  Kingma & Dhariwal, arXiv:1807.03039, section 3.1: what `init` gives out has mean 0 and variance 1 in each channel,
  in whichever direction it runs. So there are no parameters that have not seen a batch.

  Attributes:
    floor: a channel whose standard deviation is at most so many times its largest magnitude counts as constant: it is
      centred, and keeps its scale.

  Example:
    norm, x = ActNorm(), jax.random.normal(key, (16, 4))
    variables = norm.init(key, x)
    y, log_det = norm.apply(variables, x)
    x = norm.apply(variables, y, method="inverse").value
  """

  floor: float = 1e-5

  @nn.compact
  def parameters(self, x: Float[Array, "batch *event"],
                 sign: float) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Return the mean and log-scale; at initialization such that y (sign +1) or x (sign -1) comes out normalized."""
    if self.is_initializing():
      require_two(x, "ActNorm at its start")
    elif not self.has_variable("params", "mean"):
      raise ConfigError("ActNorm has no parameters: they start from data, so run `init` on a batch first.")

    def centre_and_log_std() -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
      centre, scale, _ = moments(x, tuple(range(x.ndim - 1)), self.floor)
      return centre, jnp.log(scale)

    def mean(_: Key[Array, ""]) -> Float[Array, " channels"]:
      centre, log_std = centre_and_log_std()
      return centre if sign > 0.0 else -centre * jnp.exp(-log_std)

    return self.param("mean", mean), self.param("log_scale", lambda _: sign * centre_and_log_std()[1])

  def forward(self, x, context=None):
    mean, log_scale = self.parameters(x, 1.0)
    return Transformed((x - mean) * jnp.exp(-log_scale), per_pixel(-jnp.sum(log_scale), x))

  def inverse(self, y, context=None):
    mean, log_scale = self.parameters(y, -1.0)
    return Transformed(y * jnp.exp(log_scale) + mean, per_pixel(jnp.sum(log_scale), y))


class BatchNorm(Bijection):
  """y = (x - mean) / sqrt(variance + epsilon) exp(gamma) + beta (RealNVP, arXiv:1605.08803, appendix E).

  In training (where "statistics" is mutable) `forward` takes mean and variance of the batch, and moves the running
  averages towards them; its log-det holds them constant, as RealNVP's does, although each is a function of all
  examples. Otherwise, and in `inverse` always, they are the running averages, which start at those of the batch that
  `init` saw. The learned gamma and beta are MAF's (Papamakarios et al., arXiv:1705.07057, appendix B).

  Attributes:
    momentum: what the running averages keep of themselves in each step.
    epsilon: added to the variance.
    learned: whether gamma and beta are there; RealNVP has none.

  Example:
    norm, x = BatchNorm(momentum=0.9), jax.random.normal(key, (16, 4))
    variables = norm.init(key, x)
    (y, log_det), changed = norm.apply(variables, x, mutable=["statistics"])  # in training
    y, log_det = norm.apply({**variables, **changed}, x)
  """

  momentum: float = 0.99
  epsilon: float = 1e-5
  learned: bool = True

  def __post_init__(self) -> None:
    checks.rate("momentum of BatchNorm", self.momentum)
    super().__post_init__()

  @nn.compact
  def parameters(self, x: Float[Array, "batch *event"], observe: bool) -> tuple[Array, Array, Array, Array]:
    """Mean, log of the standard deviation, gamma and beta, after a look at the batch if it is time to `observe`."""
    size, axes = x.shape[-1], tuple(range(x.ndim - 1))
    fresh = not self.has_variable("statistics", "mean")
    running_mean = self.variable("statistics", "mean", lambda: jnp.zeros(size, x.dtype))
    running_variance = self.variable("statistics", "variance", lambda: jnp.ones(size, x.dtype))
    mean, variance = running_mean.value, running_variance.value
    if observe and self.is_mutable_collection("statistics"):
      require_two(x, "BatchNorm in training")
      keep = 0.0 if fresh else self.momentum
      batch_mean, batch_variance = jnp.mean(x, axis=axes), jnp.var(x, axis=axes)
      running_mean.value = jax.lax.stop_gradient(keep * mean + (1.0 - keep) * batch_mean)
      running_variance.value = jax.lax.stop_gradient(keep * variance + (1.0 - keep) * batch_variance)
      mean, variance = batch_mean, batch_variance
    log_std = 0.5 * jnp.log(variance + self.epsilon)
    if not self.learned:
      return mean, log_std, jnp.zeros(size, x.dtype), jnp.zeros(size, x.dtype)
    zeros = jax.nn.initializers.zeros
    return mean, log_std, self.param("gamma", zeros, (size,)), self.param("beta", zeros, (size,))

  def forward(self, x, context=None):
    mean, log_std, gamma, beta = self.parameters(x, observe=True)
    log_scale = gamma - log_std
    return Transformed((x - mean) * jnp.exp(log_scale) + beta, per_pixel(jnp.sum(log_scale), x))

  def inverse(self, y, context=None):
    mean, log_std, gamma, beta = self.parameters(y, observe=False)
    log_scale = gamma - log_std
    return Transformed((y - beta) * jnp.exp(-log_scale) + mean, per_pixel(-jnp.sum(log_scale), y))


def has_batch_statistics(module: Any) -> bool:
  """Return whether a `BatchNorm` is anywhere among the fields of a module."""
  if isinstance(module, BatchNorm):
    return True
  if isinstance(module, nn.Module):  # `parent` leads back to where the search came from
    return any(has_batch_statistics(getattr(module, field.name)) for field in dataclasses.fields(module)
               if field.name not in ("parent", "name"))
  return isinstance(module, list | tuple) and any(map(has_batch_statistics, module))
