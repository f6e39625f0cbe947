"""Integers to bits and back by steps of noise (bits back; Kingma et al., arXiv:2107.00630, section 7.3).

The states of a diffusion model are latents z_0 to z_T of an example, and bits back codes it by them. The order is
Bit-Swap's (arXiv:1905.06845): pop z_0 by q(z_0 | x), push x by p(x | z_0); then at each step pop z_t by q(z_t | z_s)
and push z_s by p(z_s | z_t); at last push z_T by its normal. So the stack must lend the bits of one state at a time. In
the mean an example costs the model's bound in so many steps.

States are bins of one width w. A state is the middle of its bin, which is off by up to half of it, and the normal back
to it counts that as an error: w^2 / 24 over its variance, in nats for each number and step. One stack holds all
examples; the first ones to be encoded are alone in their batch, since what they pop is initial bits.
"""

import functools
import math
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm.errors import NotFiniteError
from gdm.evaluation.coding.bottomless import BottomlessStack, pop_even, push_even
from gdm.evaluation.coding.gaussians import BASE, BinGrid
from gdm.evaluation.coding.latent_coder import LatentCoder
from gdm.evaluation.coding.outputs import OutputCoder
from gdm.evaluation.coding.parts import Parts
from gdm.evaluation.coding.programs import compiler_options
from gdm.model import Carry, HasNoiseSteps, Params

_REACH = 8.0  # states are coded in [-_REACH, _REACH]; beyond it the outermost bins go on
_FINE = 64.0  # bins in the narrowest normal's deviation, at least, where digits suffice: 1e-5 nats a number and step
_DIGITS = (3, 4)
_NEAR, _NEAR_DIGITS = 8.0, 2  # reach of what is popped, in deviations, and its digits
_SHARE = 8  # examples on the stack for each one of the next batch, so that they hold the bits that it pops
_ENTRIES = 1 << 21  # of tables of one batch, at most


class _Near:
  """Bins near the mean of a normal: the least probability of a table sends no number further off than its reach.

  A bin is one of 1,024 coarse ones, which reach eight deviations to each side, and an even choice within it.
  """

  def __init__(self, width: float, deviation: float):
    """`width` is that of a bin."""
    num = BASE**_NEAR_DIGITS
    self._fine = 1 << max(0, math.ceil(math.log2(2.0 * _NEAR * deviation / (width * num))))
    self._width, self._half, self._deviation = self._fine * width, num // 2, deviation
    self._grid = BinGrid.uniform(self._width, _NEAR_DIGITS)

  def pop(self, stack: BottomlessStack,
          mean: Float[np.ndarray, "num dims"]) -> tuple[Int[np.ndarray, "num dims"], float]:
    """Pop bins, and return the bits that they cost."""
    start, mean, scale = self._placed(mean)
    coarse, within = self._grid.pop(stack, mean, scale), pop_even(stack, mean.size, self._fine)
    cost = self._grid.cost(coarse, mean, scale) + mean.size * math.log2(self._fine)
    return (start + coarse) * self._fine + within.reshape(mean.shape), cost

  def push(self, stack: BottomlessStack, bins: Int[np.ndarray, "num dims"],
           mean: Float[np.ndarray, "num dims"]) -> None:
    """Push bins so that `pop` gives them."""
    start, mean, scale = self._placed(mean)
    push_even(stack, (bins % self._fine).ravel(), self._fine)
    self._grid.push(stack, bins // self._fine - start, mean, scale)

  def _placed(self, mean: Float[np.ndarray, "num dims"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first coarse bin of each number, its mean from there, and its deviation."""
    start = np.floor(mean / self._width).astype(np.int64) - self._half
    return start, mean - start * self._width, np.full(mean.shape, self._deviation)


class _Normals(NamedTuple):
  """The numbers of `gdm.model.NoiseSteps`."""

  factors: Float[np.ndarray, " steps"]
  deviations: Float[np.ndarray, " states"]
  deviations_before: Float[np.ndarray, " steps"]
  last_deviation: float


class _Outputs(NamedTuple):
  """The decoder of the first state, as `OutputCoder` asks for it."""

  model: Any

  @property
  def spec(self) -> Any:
    return self.model.spec

  def level_log_probs(self, params: Params, carry: Carry, state: Float[Array, "batch dims"],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    levels = self.model.noise_steps(params, carry).level_log_probs(state)
    return levels[..., channel, :] if self.spec.is_image else levels


def noise_steps_batch_size(model: HasNoiseSteps, num_examples: int, at_most: int) -> int:
  """Return a batch size whose tables fit in memory. Raise ConfigError where the model cannot be coded."""
  model.require_noise_steps()
  return max(1, min(at_most, num_examples // _SHARE, _ENTRIES // (BASE * cast(Any, model).spec.num_dims)))


class NoiseStepsCoder(LatentCoder):
  """Encodes and decodes with one model, its parameters, and batches of up to one size; compiles when it is made.

  After `encode`, `parts` and `num_initial_bits` say what its result consists of: the output is of x given z_0, the
  prior of the states by p, and the posterior of the states by q, which were popped.
  """

  way = "bits back through steps of noise"

  def __init__(self, model: HasNoiseSteps, params: Params, carry: Carry, batch_size: int):
    spec = cast(Any, model).spec
    super().__init__(spec.require_discrete(self.way), batch_size, _SHARE)
    self._state, self._dims = (params, carry), spec.num_dims
    flat = jax.ShapeDtypeStruct((batch_size, self._dims), jnp.float32)
    x = jax.ShapeDtypeStruct((batch_size, *spec.event), jnp.int32)
    index = jax.ShapeDtypeStruct((), jnp.int32)

    def compiled(function: Any, *arguments: Any) -> Any:
      call = jax.jit(functools.partial(function, model))
      return call.lower(params, carry, *arguments).compile(compiler_options())

    self._first, self._before = compiled(_first, x), compiled(_before, flat, index)
    factors, forward, back, last = (np.asarray(each, np.float64) for each in compiled(_normals)(params, carry))
    self._normals = _Normals(factors, forward, back, float(last))
    self._output = OutputCoder(_Outputs(model), params, carry, flat, batch_size)
    narrowest = min(self._normals.deviations.min(), self._normals.deviations_before.min())
    if not narrowest > 0.0:
      raise NotFiniteError(f"a step of noise has the deviation {narrowest}; no bits can be made of it.")
    enough = [digits for digits in _DIGITS if 2.0 * _REACH / BASE**digits <= narrowest / _FINE]
    digits = enough[0] if enough else _DIGITS[-1]
    self._grid = BinGrid.uniform(2.0 * _REACH / BASE**digits, digits)
    self._near = [_Near(2.0 * _REACH / BASE**digits, float(each)) for each in self._normals.deviations]

  @property
  def num_steps(self) -> int:
    return len(self._normals.factors)

  def _push_batch(self, stack: BottomlessStack, x: Int[np.ndarray, "num *event"]) -> Parts:
    num, padded = len(x), self._output.padded(x)
    bins, popped = self._pop(stack, self._of_data(padded)[:num], 0)
    output = self._output.push(stack, self._latents(bins), padded, num)
    prior = 0.0
    for step in range(self.num_steps):
      following, cost = self._pop(stack, self._forward(bins, step), step + 1)
      prior += self._push(stack, bins, *self._backward(following, step))
      bins, popped = following, popped + cost
    prior += self._push(stack, bins, np.zeros(bins.shape), self._normals.last_deviation)
    return Parts(output, prior, popped)

  def _pop_batch(self, stack: BottomlessStack, num: int) -> Int[np.ndarray, "num *event"]:
    shape = num, self._dims
    bins = self._grid.pop(stack, np.full(shape, _REACH), np.full(shape, self._normals.last_deviation))
    for step in reversed(range(self.num_steps)):
      mean, deviation = self._backward(bins, step)
      before = self._grid.pop(stack, mean + _REACH, np.full(mean.shape, deviation))
      self._near[step + 1].push(stack, bins, self._forward(before, step) + _REACH)
      bins = before
    x = self._output.pop(stack, self._latents(bins), num)
    self._near[0].push(stack, bins, self._of_data(x)[:num] + _REACH)
    return x[:num]

  def _pop(self, stack: BottomlessStack, mean: Float[np.ndarray, "num dims"],
           state: int) -> tuple[Int[np.ndarray, "num dims"], float]:
    """Pop the bins of a state by q, and return the bits that they cost. Raise NotFiniteError beyond the grid."""
    bins, cost = self._near[state].pop(stack, mean + _REACH)
    if not 0 <= bins.min() <= bins.max() < len(self._grid.middles):
      raise NotFiniteError(f"state {state} lies beyond {_REACH:g} deviations; no bits can be made of it.")
    return bins, cost

  def _push(self, stack: BottomlessStack, bins: Int[np.ndarray, "num dims"], mean: Float[np.ndarray, "num dims"],
            deviation: float) -> float:
    return self._grid.push(stack, bins, mean + _REACH, np.full(mean.shape, deviation))

  def _of_data(self, x: Int[np.ndarray, "batch *event"]) -> Float[np.ndarray, "batch dims"]:
    return np.asarray(self._first(*self._state, x), np.float64)

  def _forward(self, bins: Int[np.ndarray, "num dims"], step: int) -> Float[np.ndarray, "num dims"]:
    """Return the mean of the state after a step."""
    return self._normals.factors[step] * self._middles(bins)

  def _backward(self, bins: Int[np.ndarray, "num dims"], step: int) -> tuple[Float[np.ndarray, "num dims"], float]:
    """Return the normal of the state before a step, by the prediction given the one after."""
    mean = np.asarray(self._before(*self._state, self._latents(bins), np.int32(step + 1)), np.float64)[:len(bins)]
    if not np.isfinite(mean).all():
      raise NotFiniteError("the model predicts NaN or infinity; no bits can be made of it.")
    return mean, float(self._normals.deviations_before[step])

  def _middles(self, bins: Int[np.ndarray, "num dims"]) -> Float[np.ndarray, "num dims"]:
    return self._grid.middles[bins] - _REACH

  def _latents(self, bins: Int[np.ndarray, "num dims"]) -> Float[np.ndarray, "batch dims"]:
    """Return states as the model takes them, the last one repeated up to the batch."""
    rows = self._middles(bins)
    return np.concatenate([rows, np.repeat(rows[-1:], self._batch_size - len(rows), axis=0)]).astype(np.float32)


def _first(model: HasNoiseSteps, params: Params, carry: Carry, x: Int[Array, "batch *event"]) -> Array:
  return model.noise_steps(params, carry).first(x)


def _before(model: HasNoiseSteps, params: Params, carry: Carry, state: Float[Array, "batch dims"],
            index: Int[Array, ""]) -> Array:
  return model.noise_steps(params, carry).before(state, index)


def _normals(model: HasNoiseSteps, params: Params, carry: Carry) -> tuple[Array, Array, Array, Array]:
  steps = model.noise_steps(params, carry)
  return steps.factors, steps.deviations, steps.deviations_before, steps.last_deviation
