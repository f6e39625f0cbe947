"""Categorical distributions as tables of integers, so that encoder and decoder share no float.

A table of n values has entries of at least 1 that sum to 2**24, the precision of the coder: a value of probability
k / 2**24 costs 24 - log2(k) bits.
"""

from typing import Any

import constriction
import numpy as np
from jaxtyping import Float, Int, Integer, Num, UInt32

PRECISION = 24
TOTAL = 1 << PRECISION

_stream: Any = constriction.stream  # type: ignore[attr-defined]

_FINE = 38  # bits of the fixed-point numbers that probabilities are read as; with PRECISION bits more they fit in int64

# Lazy construction, which is exact for what `weights` makes; perfect=True would search for a table of its own.
_FAMILY = _stream.model.Categorical(perfect=False)


def quantize(probs: Float[np.ndarray, "*shape values"]) -> Int[np.ndarray, "*shape values"]:
  """Tables for probabilities, which need not sum to one exactly.

  Probabilities are cut to multiples of 2**-38; all that follows is integer arithmetic. With p' = p / sum(p), an entry
  is at least (1 - values / 2**24) 2**24 p', up to that cut, so a symbol costs at most -log2(1 - values / 2**24) bits
  more: 3.4e-5 with 400 values.

  Raises:
    ValueError: a probability is negative, above 1 by more than rounding, or NaN; a row is all zero; more values than
      2**23.
  """
  num = probs.shape[-1]
  if num > TOTAL // 2:
    raise ValueError(f"a table has {num} values; it can have at most {TOTAL // 2}.")
  if not ((probs >= 0.0) & (probs <= 1.001)).all():
    raise ValueError("a probability is outside [0, 1] or NaN.")
  fine = np.floor(np.asarray(probs, np.float64) * 2.0**_FINE).astype(np.int64)
  sums = fine.sum(axis=-1, keepdims=True)
  if not (sums > 0).all():
    raise ValueError("all probabilities of a row are zero.")
  free = TOTAL - num  # what is left after 1 for each
  tables = fine * free // sums
  largest = np.argmax(tables, axis=-1)[..., None]
  rest = free - tables.sum(axis=-1, keepdims=True)  # of rounding down: in [0, values)
  np.put_along_axis(tables, largest, np.take_along_axis(tables, largest, axis=-1) + rest, axis=-1)
  return tables + 1


def bits(tables: Int[np.ndarray, "*shape values"],
         symbols: Integer[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
  """Return the cost of symbols under their tables."""
  entries = np.take_along_axis(tables, np.asarray(symbols)[..., None], axis=-1)[..., 0]
  return PRECISION - np.log2(entries)


class Stack:
  """A stack of bits (asymmetric numeral systems, Duda, arXiv:1311.2540): what was pushed last is popped first."""

  def __init__(self, words: Num[np.ndarray, " words"] | None = None):
    """`words` as of `words()`; without them the stack is empty."""
    coder = _stream.stack.AnsCoder
    self._coder = coder() if words is None or not len(words) else coder(np.asarray(words, np.uint32))

  def push(self, symbols: Integer[np.ndarray, " num"], tables: Int[np.ndarray, "num values"]) -> None:
    """Pushes symbols so that `pop` with the same tables gives them in the same order."""
    if len(symbols):
      self._coder.encode_reverse(np.asarray(symbols, np.int32), _FAMILY, _weights(tables))

  def pop(self, tables: Int[np.ndarray, "num values"]) -> Int[np.ndarray, " num"]:
    """Pops a symbol for each table. Popping by tables and pushing what came out leaves the stack as it was."""
    if not len(tables):
      return np.zeros(0, np.int32)
    return self._coder.decode(_FAMILY, _weights(tables))

  def copy(self) -> "Stack":
    """Return another stack with the same bits."""
    other = Stack()
    other._coder = self._coder.clone()
    return other

  @property
  def num_words(self) -> int:
    """Length of `words()`."""
    return int(self._coder.num_words())

  @property
  def is_empty(self) -> bool:
    return bool(self._coder.is_empty())

  def words(self) -> UInt32[np.ndarray, " words"]:
    """Return the bits, in words of 32."""
    return self._coder.get_compressed()


def _weights(tables: Int[np.ndarray, "num values"]) -> Float[np.ndarray, "num values"]:
  """Tables as constriction takes them.

  It keeps 1 of 2**24 for each value and scales weights to share what is left. Weights that already sum to that are
  scaled by exactly 1; being integers below 2**24 they and their cumulative sums are exact in float32.
  """
  return (tables - 1).astype(np.float32)


def uniform(num: int, values: int) -> Int[np.ndarray, "num values"]:
  """Tables by which each of the values is as likely as the others, as nearly as integers can say it."""
  return np.broadcast_to(quantize(np.full(values, 1.0 / values)), (num, values))
