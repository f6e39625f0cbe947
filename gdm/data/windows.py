"""Sequences as windows of one size: all of it once, for evaluation, or at random offsets, for training.

A sequence comes in pieces (recordings, lines, or one text), and no window reaches over the end of its piece. The last
window of a piece is shorter: padded with 0, which is a token like any other, so that only "length" tells.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from gdm.data import draws
from gdm.data.split import Op, Rows

Pieces = Sequence[Integer[np.ndarray, " _tokens"]]


def cut(pieces: Pieces, context: int) -> dict[str, np.ndarray]:
  """Every token once, in order: "x" [N, context], and "length" [N] from 1 to the context; pieces without tokens fall
  out."""
  pieces = [piece for piece in pieces if len(piece)]
  nums = [-(-len(piece) // context) for piece in pieces]
  x = np.zeros((sum(nums), context), pieces[0].dtype if pieces else np.uint8)
  length = np.full(sum(nums), context, np.int32)
  stop = 0
  for piece, num in zip(pieces, nums, strict=True):
    start, stop = stop, stop + num
    x[start:stop].reshape(-1)[:len(piece)] = piece
    length[stop - 1] = len(piece) - (num - 1) * context
  return {"x": x, "length": length}


def at_random_offsets(pieces: Pieces, context: int, seed: int) -> Op:
  """Return an operation that puts windows from anywhere in place of the given rows; each place is as likely as another.

  A piece shorter than the context has one place, and gives a shorter window.
  """
  tokens = np.concatenate(pieces)
  sizes = np.array([len(piece) for piece in pieces])
  ends = np.cumsum(sizes)
  places = np.where(sizes > 0, np.maximum(sizes - context, 0) + 1, 0)
  stops = np.cumsum(places)

  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    place = (draws.uniforms(seed, epoch, examples, 1)[:, 0] * stops[-1]).astype(np.int64)
    piece = np.searchsorted(stops, place, side="right")
    offset = ends[piece] - sizes[piece] + place - (stops[piece] - places[piece])
    length = np.minimum(ends[piece] - offset, context).astype(np.int32)
    step = np.arange(context)
    inside = step < length[:, None]
    return {**rows, "x": np.where(inside, tokens[np.where(inside, offset[:, None] + step, 0)], 0).astype(tokens.dtype),
            "length": length}
  return op
