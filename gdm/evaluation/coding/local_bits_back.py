"""Integers to bits and back by a flow (local bits back; Ho, Lohn and Abbeel, arXiv:1905.08500).

A flow f is a density of real numbers, and bits are of bins. Noise u in [0, 1)^D, popped, makes x + u of integers x.
Near it f is linear: with the Jacobian J, z = f(x + u) + J e with e ~ N(0, s^2 I) is popped by N(f(x + u), s^2 J J^T),
x + u is pushed by N(f^-1(z), s^2 I), and z by the base (the paper's algorithm 1). In the mean an example costs minus
log2 p(f(x + u)) |det J|, the flow's bound with uniform noise, and what f bends within s.

The Jacobian is dense, one pass of the flow for each dimension: for data of some hundred dimensions, of any flow. z is
popped one dimension after another, by a triangular root of J J^T. One stack holds all examples, and the first ones
to be encoded are alone in their batch, since what they pop is initial bits.
"""

import functools
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm.errors import ConfigError, NotFiniteError
from gdm.evaluation.coding.bottomless import BottomlessStack, pop_even, push_even
from gdm.evaluation.coding.gaussians import BinGrid
from gdm.evaluation.coding.latent_coder import LatentCoder
from gdm.evaluation.coding.parts import Parts
from gdm.evaluation.coding.programs import compiler_options
from gdm.model import Carry, HasNormalBijection, Params
from gdm.precision import highest_precision

DIGITS = 4
DEVIATION = 2.0**-8  # s, in levels
MOST_DIMS = 1024  # whose Jacobians are made
_JACOBIAN_ENTRIES = 1 << 23  # of one batch, at most
_SHARE = 16  # examples on the stack for each one of the next batch, so that they hold the bits that it pops


def local_bits_back_batch_size(model: HasNormalBijection, num_examples: int, at_most: int) -> int:
  """Return a batch size whose Jacobians fit in memory. Raise ConfigError where the model cannot be coded."""
  model.require_normal_bijection()
  dims = cast(Any, model).spec.num_dims
  if dims > MOST_DIMS:
    raise ConfigError(f"examples have {dims} dimensions; local bits back needs the Jacobian of each, of at most "
                      f"{MOST_DIMS}.")
  return max(1, min(at_most, num_examples // _SHARE, _JACOBIAN_ENTRIES // dims**2))


class LocalBitsBackCoder(LatentCoder):
  """Encodes and decodes with one flow, its parameters, and batches of up to one size; compiles when it is made.

  After `encode`, `parts` and `num_initial_bits` say what its result consists of: the output is of x given z, the prior
  of z, and the posterior what was popped, of z and of the noise.
  """

  way = "local bits back"

  def __init__(self, model: HasNormalBijection, params: Params, carry: Carry, batch_size: int):
    spec = cast(Any, model).spec
    super().__init__(spec.require_discrete("local bits back"), batch_size, _SHARE)
    self._state, self._event, self._dims = (params, carry), spec.event, spec.num_dims
    self._fine = 1 << (5 * DIGITS - math.ceil(math.log2(self._levels)))  # bins of a level, a power of 2
    self._values, self._latents = BinGrid.uniform(1.0 / self._fine, DIGITS), BinGrid.logistic(DIGITS)
    flat = jax.ShapeDtypeStruct((batch_size, self._dims), jnp.float32)

    def compiled(function: Any) -> Any:
      return jax.jit(functools.partial(function, model)).lower(params, carry, flat).compile(compiler_options())

    self._forward, self._inverse = compiled(_forward), compiled(_inverse)

  def _push_batch(self, stack: BottomlessStack, x: Int[np.ndarray, "num *event"]) -> Parts:
    """Pop noise and z, then push x with its noise, and z."""
    x = x.reshape(-1, self._dims).astype(np.int64)
    fine = x * self._fine + pop_even(stack, x.size, self._fine).reshape(x.shape)
    mean, root = self._local(fine)
    bins, popped = np.zeros(x.shape, np.int64), 0.0
    residual = np.zeros(x.shape)
    for i in range(self._dims):
      centre, scale = _given(mean, root, residual, i)
      bins[:, i] = self._latents.pop(stack, centre, scale)
      residual[:, i] = (self._latents.middles[bins[:, i]] - centre) / scale
      popped += self._latents.cost(bins[:, i], centre, scale)
    back = self._invert(self._latents.middles[bins])
    output = self._values.push(stack, fine, back, np.full(x.shape, DEVIATION))
    prior = self._latents.push(stack, bins, np.zeros(x.shape), np.ones(x.shape))
    return Parts(output, prior, popped + x.size * math.log2(self._fine))

  def _pop_batch(self, stack: BottomlessStack, num: int) -> Int[np.ndarray, "num *event"]:
    """Pop z and x with its noise, then push z and the noise back."""
    shape = (num, self._dims)
    bins = self._latents.pop(stack, np.zeros(shape), np.ones(shape))
    z = self._latents.middles[bins]
    fine = self._values.pop(stack, self._invert(z), np.full(shape, DEVIATION))
    mean, root = self._local(fine)
    residual, moments = np.zeros(shape), []
    for i in range(self._dims):
      moments.append(_given(mean, root, residual, i))
      residual[:, i] = (z[:, i] - moments[i][0]) / moments[i][1]
    for i in reversed(range(self._dims)):
      self._latents.push(stack, bins[:, i], *moments[i])
    push_even(stack, (fine % self._fine).ravel(), self._fine)
    return (fine // self._fine).reshape(num, *self._event).astype(np.int32)

  def _local(self, fine: Int[np.ndarray, "num dims"]
             ) -> tuple[Float[np.ndarray, "num dims"], Float[np.ndarray, "num dims dims"]]:
    """Return f of bins, and the triangular root of the covariance of z about it."""
    mean, jacobian = (np.asarray(each, np.float64)[:len(fine)]
                      for each in self._forward(*self._state, self._padded(self._values.middles[fine])))
    if not (np.isfinite(mean).all() and np.isfinite(jacobian).all()):
      raise NotFiniteError("the flow gives numbers that are NaN or infinite; no bits can be made of them.")
    upper = np.linalg.qr(np.swapaxes(jacobian, 1, 2), mode="r")  # J^T = Q R, so that J J^T = R^T R
    root = DEVIATION * np.swapaxes(upper, 1, 2) * np.sign(np.diagonal(upper, axis1=1, axis2=2))[:, None, :]
    if not (np.diagonal(root, axis1=1, axis2=2) > 0.0).all():
      raise NotFiniteError("the flow's Jacobian is singular; no bits can be made of it.")
    return mean, root

  def _invert(self, z: Float[np.ndarray, "num dims"]) -> Float[np.ndarray, "num dims"]:
    """Return f^-1 of z, in levels."""
    x = np.asarray(self._inverse(*self._state, self._padded(z)), np.float64)[:len(z)]
    if not np.isfinite(x).all():
      raise NotFiniteError("the flow's inverse gives numbers that are NaN or infinite; no bits can be made of them.")
    return x

  def _padded(self, rows: Float[np.ndarray, "num dims"]) -> Float[np.ndarray, "batch dims"]:
    """Return rows of float32, the last one repeated up to the batch."""
    return np.concatenate([rows, np.repeat(rows[-1:], self._batch_size - len(rows), axis=0)]).astype(np.float32)


def _given(mean: Float[np.ndarray, "num dims"], root: Float[np.ndarray, "num dims dims"],
           residual: Float[np.ndarray, "num dims"], i: int
           ) -> tuple[Float[np.ndarray, " num"], Float[np.ndarray, " num"]]:
  """Return mean and deviation of dimension i of z given those before, by their residuals in units of deviations."""
  return mean[:, i] + np.sum(root[:, i, :i] * residual[:, :i], axis=1), root[:, i, i]


@highest_precision()
def _forward(model: HasNormalBijection, params: Params, carry: Carry, x: Float[Array, "batch dims"]
             ) -> tuple[Float[Array, "batch dims"], Float[Array, "batch dims dims"]]:
  """Return f(x) and its Jacobian, row by row: the derivatives that some bijections define go backwards alone."""
  def single(row: Float[Array, " dims"]) -> tuple[Float[Array, " dims"], Float[Array, " dims"]]:
    z = model.to_normal(params, carry, row.reshape(1, *cast(Any, model).spec.event)).reshape(-1)
    return z, z

  jacobian, z = jax.lax.map(jax.jacrev(single, has_aux=True), x)
  return z, jacobian


@highest_precision()
def _inverse(model: HasNormalBijection, params: Params, carry: Carry,
             z: Float[Array, "batch dims"]) -> Float[Array, "batch dims"]:
  return model.from_normal(params, carry, z).reshape(z.shape)
