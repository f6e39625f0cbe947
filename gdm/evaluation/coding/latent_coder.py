"""The loop of all coders by latents: batches on one stack, above initial bits."""

import abc
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Integer, UInt32

from gdm.errors import DataError
from gdm.evaluation.coding.bottomless import BottomlessStack
from gdm.evaluation.coding.parts import Parts
from gdm.evaluation.coding.programs import require_range


def growing_batches(num_examples: int, at_most: int, share: int) -> list[slice]:
  """Return batches in the order of decoding: the last ones, which are encoded first, are small, since each example of
  one must find `share` examples on the stack."""
  sizes: list[int] = []
  while (done := sum(sizes)) < num_examples:
    sizes.append(min(max(1, done // share), at_most, num_examples - done))
  ends = np.cumsum(sizes[::-1]).tolist()
  return [slice(end - size, end) for end, size in zip(ends, sizes[::-1], strict=True)]


class LatentCoder(abc.ABC):
  """Encodes and decodes batch by batch; a subclass codes one batch.

  After `encode`, `parts` and `num_initial_bits` say what its result consists of.
  """

  way: ClassVar[str]  # its name in messages

  def __init__(self, levels: int, batch_size: int, share: int):
    """`share` is of `growing_batches`."""
    self._levels, self._batch_size, self._share = levels, batch_size, share
    self.parts, self.num_initial_bits = Parts(), 0

  @abc.abstractmethod
  def _push_batch(self, stack: BottomlessStack, x: Int[np.ndarray, "num *event"]) -> Parts:
    """Push examples, and return the bits that they cost."""

  @abc.abstractmethod
  def _pop_batch(self, stack: BottomlessStack, num: int) -> Int[np.ndarray, "num *event"]:
    """Pop as many examples as `_push_batch` pushed."""

  def encode(self, x: Integer[np.ndarray, "examples *event"],
             length: Integer[np.ndarray, " examples"] | None = None) -> UInt32[np.ndarray, " words"]:
    """Return the bits of x, the initial ones among them, in words of 32.

    Args:
      x: examples of integers in [0, levels).
      length: None.

    Raises:
      DataError: a value is outside [0, levels), or examples have lengths.
      NotFiniteError: the model gives numbers that are not finite.
    """
    if length is not None:
      raise DataError(f"the data has lengths, but {self.way} codes whole examples; choose a model of sequences.")
    require_range(x, self._levels)
    stack, self.parts = BottomlessStack(), Parts()
    # The last first, so that decoding begins at the beginning.
    for part in reversed(growing_batches(len(x), self._batch_size, self._share)):
      spent = self._push_batch(stack, np.asarray(x[part], np.int32))
      self.parts = Parts(*(a + b for a, b in zip(self.parts, spent, strict=True)))
    self.num_initial_bits = 32 * stack.num_initial
    return stack.words()

  def decode(self, words: UInt32[np.ndarray, " words"], num_examples: int, has_length: bool = False,
             pad: int = 0) -> tuple[Int[np.ndarray, "examples *event"], None]:
    """Return the inverse of `encode`, and no lengths.

    Raises:
      DataError: the bits are not of this model and so many examples.
      NotFiniteError: the model gives numbers that are not finite.
    """
    stack = BottomlessStack(words)
    batches = [self._pop_batch(stack, part.stop - part.start)
               for part in growing_batches(num_examples, self._batch_size, self._share)]
    if not stack.is_initial:
      raise DataError("below the payload's examples there are other bits than the initial ones; it is not of this "
                      "model.")
    return np.concatenate(batches), None
