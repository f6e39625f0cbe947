"""A stack of bits that can be popped before anything was pushed: initial bits lie below.

Bits back begins by popping latents. What it pops first is no payload, but numbers of a fixed generator, as many as are
needed; the decoder finds them below everything else, and that they are the generator's own is its last check.
"""

import numpy as np
from jaxtyping import Int, Integer, Num, UInt32

from gdm.evaluation.coding.tables import PRECISION, Stack, uniform

_WORD = 32
_AT_ONCE = 8  # words added where some are needed
_CHUNK = 5  # bits of an even choice that are popped at once
_STATE = 2  # words of the coder's state, below which it loses bits


class BottomlessStack:
  """A `Stack` with initial bits below; `num_initial` words of 32 of them."""

  def __init__(self, words: Num[np.ndarray, " words"] | None = None):
    """`words` as of `words()`; without them there is nothing yet."""
    self._stack = Stack(words)
    self.num_initial = 0

  def push(self, symbols: Integer[np.ndarray, " num"], tables: Int[np.ndarray, "num values"]) -> None:
    """Push symbols so that `pop` with the same tables gives them in the same order."""
    self._require(_STATE)
    self._stack.push(symbols, tables)

  def pop(self, tables: Int[np.ndarray, "num values"]) -> Int[np.ndarray, " num"]:
    """Pop a symbol for each table, with more initial bits below where those on the stack do not suffice."""
    self._require(_STATE)
    if self._stack.num_words * _WORD >= len(tables) * PRECISION + _STATE * _WORD:
      return self._stack.pop(tables)
    while True:
      before = self._stack.copy()
      symbols = self._stack.pop(tables)
      if self._stack.num_words >= _STATE:
        return symbols
      self._stack = before
      self._add(_AT_ONCE)

  def words(self) -> UInt32[np.ndarray, " words"]:
    """Return the bits, the initial ones among them, in words of 32."""
    return self._stack.words()

  @property
  def is_initial(self) -> bool:
    """Whether nothing is left but initial bits."""
    words = self.words()
    return bool((words == _initial(len(words))[::-1]).all())

  def _require(self, words: int) -> None:
    if self._stack.num_words < words:
      self._add(words)

  def _add(self, num: int) -> None:
    """Put more initial words below all that is on the stack, which changes nothing of it."""
    more = _initial(self.num_initial + num)[self.num_initial:][::-1]
    self._stack = Stack(np.concatenate([more, self._stack.words()]))
    self.num_initial += num


def pop_even(stack: BottomlessStack, num: int, size: int) -> Int[np.ndarray, " num"]:
  """Pop `num` integers in [0, size), all equally likely; size is a power of 2."""
  values = np.zeros(num, np.int64)
  for each in _chunks(size):
    values = values * each + stack.pop(uniform(num, each))
  return values


def push_even(stack: BottomlessStack, values: Integer[np.ndarray, " num"], size: int) -> None:
  """Push integers in [0, size) so that `pop_even` gives them."""
  for each in reversed(_chunks(size)):
    stack.push(values % each, uniform(len(values), each))
    values = values // each


def _chunks(size: int) -> list[int]:
  """Return small powers of 2 whose product is a larger one."""
  whole, rest = divmod(size.bit_length() - 1, _CHUNK)
  return [1 << _CHUNK] * whole + [1 << rest] * (rest > 0)


def _initial(num: int) -> UInt32[np.ndarray, " num"]:
  """Return the first initial words; the topmost is not 0, which the coder takes for its end."""
  words = np.random.Philox(key=0).random_raw(num).astype(np.uint32)
  words[:1] |= 1
  return words
