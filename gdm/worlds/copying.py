"""The frame before again, as a probability: what a model of pictures has to beat."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Integer, Shaped

from gdm.errors import DataError

Frames = Integer[np.ndarray, "episodes steps *frame"]
Lengths = Shaped[np.ndarray, " episodes"]


@dataclasses.dataclass(frozen=True)
class CopiedFrames:
  """A model of pictures that expects the frame before again, with a model of the change of each pixel.

  Pixels are independent given the frame before. A pixel keeps its level with a probability of its own for each level;
  when it changes, "marginal" gives it a level by how often the pixel changes to it, and "table" by how often it changes
  from this level to it. All probabilities are frequencies of training episodes, smoothed by a count or two, so that
  nothing is impossible. The pixels of a first frame have their frequencies in first frames.

  Example:
    CopiedFrames.fit(train_x, train_length, levels=8).bits_per_dim(test_x, test_length)

  Attributes:
    log_first: [pixels, levels], log-probabilities of a first frame.
    log_next: [pixels, levels, levels], log p(next | before).
  """

  log_first: Float[np.ndarray, "pixels levels"]
  log_next: Float[np.ndarray, "pixels levels levels"]

  @classmethod
  def fit(cls, x: Frames, length: Lengths, levels: int, change: str = "marginal") -> "CopiedFrames":
    """Return the model of training episodes; `change` is marginal or table."""
    flat = x.reshape(*x.shape[:2], -1)
    first = 1.0 + _counts(flat[:, 0, :], levels)
    pairs = _pair_counts(flat, np.asarray(length), levels)
    same = np.einsum("puu->pu", pairs)
    keep = (same + 1.0) / (pairs.sum(axis=2) + 2.0)
    moves = pairs * (1.0 - np.eye(levels))
    to = moves.sum(axis=1) + 1.0 / levels  # [pixels, levels]: how often the pixel changes to a level
    weights = np.broadcast_to((to / to.sum(axis=1, keepdims=True))[:, None], pairs.shape)
    if change == "table":
      weights = moves + weights
    weights = weights * (1.0 - np.eye(levels))
    changed = (1.0 - keep)[..., None] * weights / weights.sum(axis=2, keepdims=True)
    probs = np.eye(levels) * keep[..., None] + changed
    return cls(np.log(first / first.sum(axis=1, keepdims=True)), np.log(probs))

  def nats(self, x: Frames, length: Lengths, with_first: bool = True) -> Float[np.ndarray, " episodes"]:
    """Return the log-probability of each episode, in nats, or of its frames after the first given that one."""
    if x[0, 0].size != len(self.log_first):
      raise DataError(f"frames have {x[0, 0].size} pixels, but those that were fitted have {len(self.log_first)}; "
                      "score frames of one size.")
    flat, pixels = x.reshape(*x.shape[:2], -1).astype(int), np.arange(len(self.log_first))
    found = np.empty(len(flat))
    for row, (episode, num) in enumerate(zip(flat, length, strict=True)):
      frames = episode[:num]
      first = self.log_first[pixels, frames[0]].sum() if with_first else 0.0
      found[row] = first + self.log_next[pixels, frames[:-1], frames[1:]].sum()
    return found

  def bits_per_dim(self, x: Frames, length: Lengths, with_first: bool = True) -> float:
    """Return bits for each pixel of all real frames, or of those after the first of each episode."""
    num = np.sum(length) - (0 if with_first else len(length))
    return float(-self.nats(x, length, with_first).sum() / (num * len(self.log_first) * np.log(2.0)))


def _counts(values: Int[np.ndarray, "rows pixels"] | np.ndarray, levels: int) -> Float[np.ndarray, "pixels levels"]:
  pixels = np.broadcast_to(np.arange(values.shape[1]), values.shape)
  counts = np.bincount((pixels * levels + values).ravel(), minlength=values.shape[1] * levels)
  return counts.reshape(-1, levels).astype(np.float64)


def _pair_counts(flat: np.ndarray, length: np.ndarray, levels: int) -> Float[np.ndarray, "pixels levels levels"]:
  """Return how often each pixel goes from a level to a level."""
  real = np.arange(1, flat.shape[1]) < length[:, None]
  before, after = flat[:, :-1][real].astype(int), flat[:, 1:][real].astype(int)
  return _counts(before * levels + after, levels * levels).reshape(flat.shape[2], levels, levels)
