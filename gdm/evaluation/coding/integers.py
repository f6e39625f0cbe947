"""Examples to bits and back by an integer flow: integers are shifted until they leave, by their own distributions.

Nothing is paid but -log2 p(x): there are no latents to choose and no initial bits. Each step is one compiled program
that both directions run on the same integers, with zeros wherever it must not look, so that rounding falls alike.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer, UInt32

from gdm.errors import DataError
from gdm.evaluation.coding.programs import compiler_options, quantized, require_range
from gdm.evaluation.coding.tables import Stack
from gdm.model import Carry, HasIntegerSteps, IntegerStep, Params

_TABLE_ENTRIES = 1 << 25  # of one batch, at most


def integers_batch_size(model: HasIntegerSteps, num_examples: int, at_most: int) -> int:
  """Return a batch size whose tables fit in memory."""
  spec = cast(Any, model).spec
  largest = max(len(step.moved) for step in model.integer_steps)
  return max(1, min(at_most, num_examples, _TABLE_ENTRIES // (largest * spec.require_discrete("lossless coding"))))


class IntegerCoder:
  """Encodes and decodes with one model, its parameters, and batches of one size; compiles when it is made."""

  def __init__(self, model: HasIntegerSteps, params: Params, carry: Carry, batch_size: int):
    spec = cast(Any, model).spec
    self._spec, self._state, self._batch_size = spec, (params, carry), batch_size
    self._levels, self._steps = spec.require_discrete("lossless coding"), model.integer_steps
    z = jax.ShapeDtypeStruct((batch_size, spec.num_dims), jnp.int32)
    self._programs = [jax.jit(functools.partial(_program, model, i, step.leaves)).lower(params, carry, z).compile(
        compiler_options()) for i, step in enumerate(self._steps)]

  def encode(self, x: Integer[np.ndarray, "examples *event"],
             length: Integer[np.ndarray, " examples"] | None = None) -> UInt32[np.ndarray, " words"]:
    """Return the bits of x, in words of 32.

    Raises:
      DataError: a value is outside [0, levels), or examples have lengths.
      NotFiniteError: the model gives probabilities that are not finite.
    """
    if length is not None:
      raise DataError("the data has lengths, but an integer flow is of whole examples; choose a model of sequences.")
    require_range(x, self._levels)
    stack = Stack()
    for start in reversed(range(0, len(x), self._batch_size)):
      part = x[start:start + self._batch_size]
      z = np.zeros((self._batch_size, self._spec.num_dims), np.int32)
      z[:len(part)] = part.reshape(len(part), -1)
      for i, step in enumerate(self._steps):  # what leaves last is popped first
        made = self._run(i, step, z)
        if step.leaves:
          stack.push(z[:len(part), step.moved].ravel(), _tables(made, len(part)))
        else:
          z[:, step.moved] = (z[:, step.moved] + made) % self._levels
    return stack.words()

  def decode(self, words: UInt32[np.ndarray, " words"], num_examples: int, has_length: bool = False,
             pad: int = 0) -> tuple[Int[np.ndarray, "examples *event"], None]:
    """Return the inverse of `encode`, and no lengths.

    Raises:
      DataError: the bits are not of this model and so many examples.
      NotFiniteError: the model gives probabilities that are not finite.
    """
    stack, batches = Stack(words), []
    for start in range(0, num_examples, self._batch_size):
      num = min(self._batch_size, num_examples - start)
      z = np.zeros((self._batch_size, self._spec.num_dims), np.int32)
      for i, step in reversed(list(enumerate(self._steps))):
        made = self._run(i, step, z)
        if step.leaves:
          z[:num, step.moved] = stack.pop(_tables(made, num)).reshape(num, -1)
        else:
          z[:, step.moved] = (z[:, step.moved] - made) % self._levels
      batches.append(z[:num].reshape(num, *self._spec.event))
    if not stack.is_empty:
      raise DataError("the payload holds more bits than its examples take; it is not of this model.")
    return np.concatenate(batches), None

  def _run(self, index: int, step: IntegerStep, z: Int[np.ndarray, "batch dims"]) -> np.ndarray:
    """Return shifts, or probabilities, of what the step moves, given only what it sees."""
    seen = np.zeros_like(z)
    seen[:, step.seen] = z[:, step.seen]
    return np.asarray(self._programs[index](*self._state, seen))


def _program(model: HasIntegerSteps, index: int, leaves: bool, params: Params, carry: Carry,
             z: Int[Array, "batch dims"]) -> Array:
  if leaves:
    return jnp.exp(model.step_log_probs(params, carry, index, z).astype(jnp.float32))
  return model.step_shift(params, carry, index, z)


def _tables(probs: np.ndarray, num: int) -> Int[np.ndarray, "places levels"]:
  return quantized(probs[:num].reshape(-1, probs.shape[-1]))
