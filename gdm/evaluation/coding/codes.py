"""Examples to bits and back by discrete codes: the codes by their own model, then the examples given their codes.

An example costs -log2 of p(x | codes) p(codes), the model's own bound. The payload has two parts: a word that says how
many words the codes take, the codes' words, and those of the examples given the codes.
"""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Integer, UInt32

from gdm.errors import DataError
from gdm.evaluation.coding.chains import SymbolChain, chain_of
from gdm.evaluation.coding.coder import Coder, coding_batch_size
from gdm.evaluation.coding.outputs import OutputCoder
from gdm.evaluation.coding.programs import compiler_options, require_range
from gdm.evaluation.coding.tables import Stack
from gdm.model import Carry, HasCodes, Params

_TABLE_ENTRIES = 1 << 25  # of one batch, at most


def chain_of_codes(model: HasCodes) -> SymbolChain:
  """Return the model's codes as a chain of symbols. Raise ConfigError where they are none."""
  return chain_of(model.code_model())


def codes_batch_size(model: HasCodes, num_examples: int, at_most: int) -> int:
  """Return a batch size whose tables fit in memory."""
  spec = cast(Any, model).spec
  size = coding_batch_size(chain_of_codes(model), num_examples, at_most)
  return max(1, min(size, _TABLE_ENTRIES // (spec.num_dims * spec.require_discrete("lossless coding"))))


class CodesCoder:
  """Encodes and decodes with one model, its parameters, and batches of one size; compiles when it is made."""

  def __init__(self, model: HasCodes, params: Params, carry: Carry, batch_size: int):
    own, _ = model.of_code_model(params, carry)
    chain, spec = chain_of_codes(model), cast(Any, model).spec
    self._codes = Coder(chain, own, batch_size)
    self._state, self._batch_size, self._spec = (params, carry), batch_size, spec
    self._levels = spec.require_discrete("lossless coding")
    codes = jax.ShapeDtypeStruct((batch_size, *chain.spec.event), jnp.int32)
    self._output = OutputCoder(model, params, carry, codes, batch_size)

    def encode(params, carry, x):
      return model.encode(params, carry, {"x": x}, jax.random.key(0)).astype(jnp.int32)

    x = jax.ShapeDtypeStruct((batch_size, *spec.event), jnp.int32)
    self._encode = jax.jit(encode).lower(params, carry, x).compile(compiler_options())

  def encode(self, x: Integer[np.ndarray, "examples *event"],
             length: Integer[np.ndarray, " examples"] | None = None) -> UInt32[np.ndarray, " words"]:
    """Return the bits of x, in words of 32.

    Raises:
      DataError: a value is outside [0, levels), or examples have lengths.
      NotFiniteError: the model gives probabilities that are not finite.
    """
    if length is not None:
      raise DataError("the data has lengths, but codes are of whole examples; choose a model of sequences.")
    require_range(x, self._levels)
    stack, every = Stack(), []
    for start in reversed(range(0, len(x), self._batch_size)):
      part = np.asarray(x[start:start + self._batch_size], np.int32)
      padded = self._output.padded(part)
      codes = np.asarray(self._encode(*self._state, padded))
      every.append(codes[:len(part)])
      self._output.push(stack, _whole(codes, len(part)), padded, len(part))
    first = self._codes.encode(np.concatenate(every[::-1]))
    return np.concatenate([np.array([len(first)], np.uint32), first, stack.words()])

  def decode(self, words: UInt32[np.ndarray, " words"], num_examples: int, has_length: bool = False,
             pad: int = 0) -> tuple[Int[np.ndarray, "examples *event"], None]:
    """Return the inverse of `encode`, and no lengths.

    Raises:
      DataError: the bits are not of this model and so many examples.
      NotFiniteError: the model gives probabilities that are not finite.
    """
    num_words = int(words[0]) if len(words) else 0
    if num_words >= len(words):
      raise DataError("the payload is shorter than its first word says; it is not of this model.")
    codes, _ = self._codes.decode(words[1:1 + num_words], num_examples)
    stack, batches = Stack(words[1 + num_words:]), []
    for start in range(0, num_examples, self._batch_size):
      part = codes[start:start + self._batch_size]
      batches.append(self._output.pop(stack, self._output.padded(part), len(part))[:len(part)])
    if not stack.is_empty:
      raise DataError("the payload holds more bits than its examples take; it is not of this model.")
    return np.concatenate(batches), None


def _whole(codes: Int[np.ndarray, "batch *event"], num: int) -> Int[np.ndarray, "batch *event"]:
  """Return the codes with zeros where there is no example, as the decoder has them."""
  return np.where(np.arange(len(codes)).reshape(-1, *[1] * (codes.ndim - 1)) < num, codes, 0)
