"""Examples to bits and back by an integer flow: integers are shifted until they leave, by their own distributions.

Nothing is paid but -log2 p(x): there are no latents to choose and no initial bits. Each step is one compiled program
that both directions run on the same integers, with zeros wherever it must not look, so that rounding falls alike. Which
integers can leave the encoder sees; the payload begins with the least of them and their number.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, UInt32

from gdm.errors import DataError
from gdm.evaluation.coding.programs import compiler_options, quantized, require_range
from gdm.evaluation.coding.tables import Stack
from gdm.model import Carry, HasIntegerSteps, Params

_TABLE_ENTRIES = 1 << 25  # of one batch, at most
_SPREAD = 4  # values that may leave, in multiples of the levels, which batches are made for
_MAX_VALUES = 1 << 16


def integers_batch_size(model: HasIntegerSteps, num_examples: int, at_most: int) -> int:
  """Return a batch size whose tables fit in memory."""
  spec = cast(Any, model).spec
  largest = max(len(step.moved) for step in model.integer_steps) * _SPREAD * spec.require_discrete("lossless coding")
  return max(1, min(at_most, num_examples, _TABLE_ENTRIES // largest))


class IntegerCoder:
  """Encodes and decodes with one model, its parameters, and batches of one size; compiles when it is made, and again
  for as many values as leave."""

  def __init__(self, model: HasIntegerSteps, params: Params, carry: Carry, batch_size: int):
    spec = cast(Any, model).spec
    self._model, self._spec, self._state, self._batch_size = model, spec, (params, carry), batch_size
    self._levels, self._steps = spec.require_discrete("lossless coding"), model.integer_steps
    self._z = jax.ShapeDtypeStruct((batch_size, spec.num_dims), jnp.int32)
    self._shifts = {i: jax.jit(functools.partial(_shift, model, i)).lower(params, carry, self._z).compile(
        compiler_options()) for i, step in enumerate(self._steps) if not step.leaves}
    self._leaving: dict[tuple[int, int], Any] = {}

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
    parts = [x[start:start + self._batch_size] for start in range(0, len(x), self._batch_size)]
    ends = [self._shifted(part) for part in parts]
    least = min(int(z[:len(part)].min()) for z, part in zip(ends, parts, strict=True))
    values = np.arange(least, 1 + max(int(z[:len(part)].max()) for z, part in zip(ends, parts, strict=True)))
    stack = Stack()
    for part in reversed(parts):  # so that decoding begins at the beginning
      z = self._padded(part)
      for i, step in enumerate(self._steps):  # what leaves last is popped first
        if step.leaves:
          stack.push((z[:len(part), step.moved] - least).ravel(), self._tables(i, z, values, len(part)))
        else:
          z[:, step.moved] += self._shift(i, z)
    return np.concatenate([np.array([least, len(values)], np.int32).view(np.uint32), stack.words()])

  def decode(self, words: UInt32[np.ndarray, " words"], num_examples: int, has_length: bool = False,
             pad: int = 0) -> tuple[Int[np.ndarray, "examples *event"], None]:
    """Return the inverse of `encode`, and no lengths.

    Raises:
      DataError: the bits are not of this model and so many examples.
      NotFiniteError: the model gives probabilities that are not finite.
    """
    if len(words) < 2 or not 0 < int(words[1]) <= _MAX_VALUES:
      raise DataError("the payload does not begin with the values that it holds; it is not of this model.")
    least, num_values = (int(word) for word in words[:2].view(np.int32))
    values, stack, batches = np.arange(least, least + num_values), Stack(words[2:]), []
    for start in range(0, num_examples, self._batch_size):
      num = min(self._batch_size, num_examples - start)
      z = np.zeros((self._batch_size, self._spec.num_dims), np.int32)
      for i, step in reversed(list(enumerate(self._steps))):
        if step.leaves:
          z[:num, step.moved] = values[stack.pop(self._tables(i, z, values, num))].reshape(num, -1)
        else:
          z[:, step.moved] -= self._shift(i, z)
      batches.append(z[:num].reshape(num, *self._spec.event))
    if not stack.is_empty:
      raise DataError("the payload holds more bits than its examples take; it is not of this model.")
    return np.concatenate(batches), None

  def _padded(self, part: Integer[np.ndarray, "num *event"]) -> Int[np.ndarray, "batch dims"]:
    z = np.zeros((self._batch_size, self._spec.num_dims), np.int32)
    z[:len(part)] = part.reshape(len(part), -1)
    return z

  def _shifted(self, part: Integer[np.ndarray, "num *event"]) -> Int[np.ndarray, "batch dims"]:
    """Return the integers as they leave."""
    z = self._padded(part)
    for i in self._shifts:
      z[:, self._steps[i].moved] += self._shift(i, z)
    return z

  def _seen(self, index: int, z: Int[np.ndarray, "batch dims"]) -> Int[np.ndarray, "batch dims"]:
    """Return what a step may look at, zeros elsewhere."""
    seen, places = np.zeros_like(z), self._steps[index].seen
    seen[:, places] = z[:, places]
    return seen

  def _shift(self, index: int, z: Int[np.ndarray, "batch dims"]) -> Int[np.ndarray, "batch moved"]:
    return np.asarray(self._shifts[index](*self._state, self._seen(index, z)))

  def _tables(self, index: int, z: Int[np.ndarray, "batch dims"], values: Int[np.ndarray, " values"],
              num: int) -> Int[np.ndarray, "places values"]:
    values = values.astype(np.int32)
    program = self._leaving.get((index, len(values)))
    if program is None:
      program = jax.jit(functools.partial(_leave, self._model, index)).lower(*self._state, self._z, values).compile(
          compiler_options())
      self._leaving[index, len(values)] = program
    probs = np.asarray(program(*self._state, self._seen(index, z), values))[:num]
    return quantized(probs.reshape(-1, len(values)))


def _shift(model: HasIntegerSteps, index: int, params: Params, carry: Carry,
           z: Int[Array, "batch dims"]) -> Int[Array, "batch moved"]:
  return model.step_shift(params, carry, index, z)


def _leave(model: HasIntegerSteps, index: int, params: Params, carry: Carry, z: Int[Array, "batch dims"],
           values: Int[Array, " values"]) -> Float[Array, "batch moved values"]:
  """Return probabilities of the values that leave, which sum to one as tables do."""
  return jax.nn.softmax(model.step_log_probs(params, carry, index, z, values).astype(jnp.float32), axis=-1)
