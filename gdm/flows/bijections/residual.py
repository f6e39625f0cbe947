"""Residual flows: y = x + g(x), g a contraction (Behrmann et al., arXiv:1811.00995; Chen et al., arXiv:1906.02735)."""

import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.errors import ConfigError
from gdm.flows.bijections.bijection import DETAILS, Bijection, Transformed, in_training

# A further term of the series is taken with this probability.
GO_ON = 0.5
MAX_ITERATIONS = 1000


class InvertibleResidual(Bijection):
  """y = x + g(x) of vectors, which has one inverse where the Lipschitz constant of g is below 1.

  log |det| is the log-determinant of the Jacobian, which takes as many derivatives as dimensions; or, where an rng
  named "probe" is given, an unbiased estimate of tr log(1 + J) = sum_k (-1)^(k + 1) tr(J^k) / k by a random probe of
  each example and a random number of terms (arXiv:1906.02735, equation 6). The inverse is a fixed point, without
  gradients. Detail: "unsolved", 1 where it was not found, and all is NaN; the determinant is NaN where it is not
  positive, so that g cannot be a contraction.

  Attributes:
    branch: g, a module of (x, context).
    train_terms: of the series that are always taken, in training; 0 for the exact determinant.
    terms: of them elsewhere.
    tolerance: of the fixed point: the largest change in its last iteration, relative and absolute, or a few roundings.

  Example:
    layer, x = InvertibleResidual(Contraction(hidden=(32,))), jax.random.normal(key, (16, 4))
    variables = layer.init(key, x)
    y, log_det = layer.apply(variables, x)
    x = layer.apply(variables, y, method="inverse").value
  """

  branch: nn.Module
  train_terms: int = 2
  terms: int = 0
  tolerance: float = 1e-6

  def __post_init__(self) -> None:
    for name in ("train_terms", "terms"):
      checks.at_least(name, getattr(self, name), 0, "(0: the exact determinant)")
    checks.positive("tolerance", self.tolerance)
    super().__post_init__()

  @property
  def is_estimated(self) -> bool:
    """Whether log-determinants in scoring are known in expectation only."""
    return self.terms > 0

  def forward(self, x, context=None):
    if self.is_initializing():
      return Transformed(x + self.branch(x, context), jnp.zeros(len(x), x.dtype))
    g = self._pure(context)
    return Transformed(x + g(x), self._log_det(g, x))

  def inverse(self, y, context=None):
    g = self._pure(context)
    tolerance = max(self.tolerance, 4.0 * float(jnp.finfo(y.dtype).eps))

    def unfinished(state):
      _, change, count = state
      return (count < MAX_ITERATIONS) & (change > tolerance)

    def iterate(state):
      x, _, count = state
      new = y - g(x)
      return new, jnp.max(jnp.abs(new - x) / (1.0 + jnp.abs(new))), count + 1

    x, change, _ = jax.lax.while_loop(unfinished, iterate, (y, jnp.asarray(jnp.inf, y.dtype), 0))
    solved = change <= tolerance
    self.sow(DETAILS, "unsolved", 1 - solved.astype(jnp.int32))
    x = jnp.where(solved, x, jnp.nan)
    return Transformed(x, -self._log_det(g, x))

  def _pure(self, context: Float[Array, "batch width"] | None) -> Callable[[Array], Array]:
    """Return g as a pure function: Flax modules and raw transformations of JAX don't mix."""
    module, variables = self.branch.unbind()
    return lambda x: _apply(module, variables, x, context)

  def _log_det(self, g: Callable[[Array], Array], x: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
    terms = (self.train_terms if in_training(self) else self.terms) * self.has_rng("probe")
    return log_det_by_series(g, x, self.make_rng("probe"), terms) if terms else log_det_of_jacobian(g, x)


def _apply(module: nn.Module, variables: Any, x: Array, context: Array | None) -> Array:
  out: Any = module.apply(variables, x, context)
  return out


def log_det_of_jacobian(g: Callable[[Array], Array], x: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
  """Return log det(1 + J) of each example, NaN where the determinant is not positive."""
  _, push = jax.linearize(g, x)
  axes = jnp.broadcast_to(jnp.eye(x.shape[1], dtype=x.dtype)[:, None], (x.shape[1], *x.shape))
  jacobian = jnp.moveaxis(jax.vmap(push)(axes), 0, -1)  # [batch, outputs, inputs]
  sign, log_det = jnp.linalg.slogdet(jnp.eye(x.shape[1], dtype=x.dtype) + jacobian)
  return jnp.where(sign > 0, log_det, jnp.nan)


def log_det_by_series(g: Callable[[Array], Array], x: Float[Array, "batch dims"], key: Key[Array, ""],
                      terms: int) -> Float[Array, " batch"]:
  """Return an unbiased estimate of log det(1 + J) of each example, with an unbiased gradient.

  After `terms` terms each further one is taken with probability `GO_ON` and weighs as much more (Russian roulette). The
  gradient is that of w^T J v with w = sum_k (-1)^k (J^T)^k v held fixed, the Neumann series (arXiv:1906.02735, equation
  8), so that nothing of the loop is kept in memory.
  """
  probe_key, count_key = jax.random.split(key)
  v = jax.random.rademacher(probe_key, x.shape, x.dtype)
  # P(more than j) = GO_ON^j.
  more = jnp.floor(jnp.log(jax.random.uniform(count_key, minval=np.finfo(np.float32).tiny)) / np.log(GO_ON))
  num = terms + more.astype(jnp.int32)
  _, pull = jax.vjp(g, jax.lax.stop_gradient(x))

  def add(k, state):
    total, w, power = state  # power is (J^T)^k v
    weight = (-1.0) ** k * GO_ON ** -jnp.maximum(k + 1 - terms, 0).astype(x.dtype)  # by how seldom it comes so far
    w = w + weight * power
    (power,) = pull(power)
    return total + weight / (k + 1) * jnp.sum(power * v, axis=1), w, power

  total, w, _ = jax.lax.fori_loop(0, num, add, (jnp.zeros(len(x), x.dtype), jnp.zeros_like(x), v))
  total, w = jax.lax.stop_gradient((total, w))
  along = jnp.sum(w * jax.jvp(g, (x,), (v,))[1], axis=1)
  return total + along - jax.lax.stop_gradient(along)


class Contraction(nn.Module):
  """A perceptron of vectors with a Lipschitz constant of at most `coefficient`, in x (arXiv:1906.02735, section 3.2).

  Each matrix is divided by its spectral norm where that is above its share of the coefficient. The norm is that of the
  matrix itself, by its singular values, not of some power iterations, which would lie below it.

  Attributes:
    hidden: sizes of the hidden layers, one at least.
    coefficient: below 1.
    context: width of the context, which may move the first hidden layer by any amount; 0 for none.

  Example:
    g, x = Contraction(hidden=(32,), coefficient=0.9), jax.random.normal(key, (16, 4))
    variables = g.init(key, x)
    change = g.apply(variables, x) - g.apply(variables, x + 1.0)  # of a norm of at most 0.9 sqrt(4) each
  """

  hidden: tuple[int, ...] = (64, 64)
  coefficient: float = 0.95
  context: int = 0

  def __post_init__(self) -> None:
    checks.sizes("hidden", self.hidden)
    if not self.hidden or not 0.0 < self.coefficient < 1.0:
      raise ConfigError(f"hidden is {self.hidden} and coefficient {self.coefficient}; there must be a hidden layer, "
                        "and the coefficient must be above 0 and below 1, else nothing can be inverted.")
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch dims"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch dims"]:
    sizes = (x.shape[1], *self.hidden, x.shape[1])
    share, h = self.coefficient ** (1.0 / (len(sizes) - 1)), x
    for i, (rows, columns) in enumerate(itertools.pairwise(sizes)):
      if i:
        h = self.lip_swish(h, f"beta_{i}")
      matrix = self.param(f"matrix_{i}", jax.nn.initializers.orthogonal(), (rows, columns), x.dtype)
      bias = self.param(f"bias_{i}", jax.nn.initializers.zeros, (columns,), x.dtype)
      h = h @ (matrix * (share / jnp.maximum(share, spectral_norm(matrix)))) + bias
      if i == 0 and context is not None:
        h = h + nn.Dense(columns, use_bias=False, name="context")(context)
    return h

  def lip_swish(self, h: Float[Array, "batch units"], name: str) -> Float[Array, "batch units"]:
    """Return h sigmoid(beta h) / 1.1, beta > 0 learned, which nowhere has a slope above 1 (equation 10)."""
    beta = jax.nn.softplus(self.param(name, jax.nn.initializers.constant(0.5), (), h.dtype))
    return h * jax.nn.sigmoid(beta * h) / 1.1


def spectral_norm(matrix: Float[Array, "rows columns"]) -> Float[Array, ""]:
  """Return the largest singular value, with its gradient u v^T."""
  tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
  v = jax.lax.stop_gradient(jnp.linalg.eigh(tall.T @ tall)[1][:, -1])
  made = tall @ v
  u = jax.lax.stop_gradient(made / jnp.maximum(jnp.linalg.norm(made), jnp.finfo(made.dtype).tiny))
  return u @ made
