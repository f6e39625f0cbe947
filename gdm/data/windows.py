"""Sequences as windows of one size: all of it once, for evaluation, or at random offsets, for training.

A sequence comes in pieces (recordings, lines, or one text), and no window reaches over the end of its piece. The last
window of a piece is shorter: padded with 0, which is a token like any other, so that only "length" tells.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer, Shaped

from gdm.data import draws
from gdm.data.split import Op, Rows

Pieces = Sequence[Shaped[np.ndarray, "_steps ..."]]


def cut(pieces: Pieces, context: int) -> dict[str, np.ndarray]:
  """Every step once, in order: "x" [N, context, *step], and "length" [N] from 1 to the context; pieces without steps
  fall out."""
  pieces = [piece for piece in pieces if len(piece)]
  nums = [-(-len(piece) // context) for piece in pieces]
  step = pieces[0].shape[1:] if pieces else ()
  x = np.zeros((sum(nums), context, *step), pieces[0].dtype if pieces else np.uint8)
  length = np.full(sum(nums), context, np.int32)
  stop = 0
  for piece, num in zip(pieces, nums, strict=True):
    start, stop = stop, stop + num
    x[start:stop].reshape(-1, *step)[:len(piece)] = piece
    length[stop - 1] = len(piece) - (num - 1) * context
  return {"x": x, "length": length}


def labels_of_windows(pieces: Pieces, context: int, labels: Shaped[np.ndarray, " pieces"]
                      ) -> Shaped[np.ndarray, " windows"]:
  """Return the label of each window of `cut`, that of its piece."""
  return np.repeat(labels, [-(-len(piece) // context) for piece in pieces])


def at_random_offsets(pieces: Pieces, context: int, seed: int,
                      labels: Shaped[np.ndarray, " pieces"] | None = None) -> Op:
  """Return an operation that puts windows from anywhere in place of the given rows; each place is as likely as another.

  A piece shorter than the context has one place, and gives a shorter window. With labels of the pieces, "y" is that of
  the window's.
  """
  tokens = np.concatenate(pieces)
  ends = np.cumsum([len(piece) for piece in pieces])
  place = RandomPlaces(ends, context, seed)

  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    offset, length = place(examples, epoch)
    step = np.arange(context)
    inside = step < length[:, None]
    x = tokens[np.where(inside, offset[:, None] + step, 0)]
    inside = inside.reshape(*inside.shape, *(1,) * (tokens.ndim - 1))
    label = {} if labels is None else {"y": labels[np.searchsorted(ends, offset, side="right")]}
    return {**rows, "x": np.where(inside, x, 0).astype(tokens.dtype), "length": length, **label}
  return op


class RandomPlaces:
  """Places of windows at random: `place(examples, epoch)` returns the first token and the length of each.

  Args:
    ends: number of tokens up to the end of each piece.
    context: tokens of a window.
    seed: of the draws.
  """

  def __init__(self, ends: Integer[np.ndarray, " pieces"], context: int, seed: int):
    self._ends = ends.astype(np.int64)
    self._sizes = np.diff(self._ends, prepend=0)
    self._places = np.where(self._sizes > 0, np.maximum(self._sizes - context, 0) + 1, 0)
    self._stops = np.cumsum(self._places)
    self._context, self._seed = context, seed

  def __call__(self, examples: Integer[np.ndarray, " batch"], epoch: int
               ) -> tuple[Integer[np.ndarray, " batch"], Integer[np.ndarray, " batch"]]:
    num = int(self._stops[-1])
    if num <= 1 << 32:
      place = (draws.uniforms(self._seed, epoch, examples, 1)[:, 0] * num).astype(np.int64)
    else:  # 32 bits would miss places
      high, low = draws.words(self._seed, epoch, examples, 2).astype(np.uint64).T
      place = (((high << np.uint64(21)) | (low >> np.uint64(11))) * 2.0**-53 * num).astype(np.int64)
    piece = np.searchsorted(self._stops, place, side="right")
    offset = self._ends[piece] - self._sizes[piece] + place - (self._stops[piece] - self._places[piece])
    return offset, np.minimum(self._ends[piece] - offset, self._context).astype(np.int32)
