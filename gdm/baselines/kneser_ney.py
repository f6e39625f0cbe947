"""Kneser and Ney's smoothing of n-gram counts, interpolated and with three discounts.

Chen and Goodman, An empirical study of smoothing techniques for language modeling, 1998 (TR-10-98, Harvard), section
3.4: from the counts c(h w) of a token w after a context h,

  p(w | h) = (c(h w) - D(c(h w))) / c(h) + gamma(h) p(w | h'),      h' = h without its first token,

where D is one of three discounts, for counts of one, two, and three and more, and gamma(h) is what they take away, so
that the sum over w is one. The last context, of no tokens, falls back on the uniform distribution. Orders below the
highest count in how many different contexts an n-gram was seen, not how often (Kneser and Ney, Improved backing-off for
M-gram language modeling, 1995); one at the start of a sequence has no context, and counts as often as it was seen.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

# Where an order has not every count from one to four among its n-grams, as with few tokens (as in KenLM: Heafield et
# al., Scalable modified Kneser-Ney language model estimation, 2013).
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
PAD = -1  # before the start of a sequence
_ROWS_AT_ONCE = 1 << 21


@dataclasses.dataclass(frozen=True)
class NGramWeights:
  """A trie of n-grams with what each adds to its last token's probability.

  Node 0 is the empty context and node i + 1 the n-gram i: the n-grams are sorted by their length, then by their tokens,
  so that those that continue a context stand side by side.

  Attributes:
    first: of each node, and once more at the end, the first n-gram that continues it.
    token: the last token of each n-gram.
    weight: (c - D) / c(h) of each n-gram.
    backoff: gamma of each node; 1 where nothing followed.
  """

  first: Int[np.ndarray, " nodes_and_one"]
  token: Int[np.ndarray, " ngrams"]
  weight: Float[np.ndarray, " ngrams"]
  backoff: Float[np.ndarray, " nodes"]


class Counter:
  """Counts of all n-grams of sequences that come in parts.

  Args:
    order: tokens of the longest n-grams, the predicted one included.
    start: the token that stands before each sequence; larger than any other.
  """

  def __init__(self, order: int, start: int):
    self._order, self._start = order, start
    self._rows = np.empty((0, order), np.int32)
    self._counts = np.empty(0, np.int64)
    self._waiting: list[Int[np.ndarray, "num order"]] = []
    self._num_waiting = 0

  def add(self, x: Int[np.ndarray, "batch steps"], num_real: Int[np.ndarray, " batch"]) -> None:
    """Count the n-grams of sequences, of which the first `num_real` tokens count.

    What is kept of a token are the `order` tokens that end there: all n-grams that end there are the ends of these.
    """
    before = np.full((len(x), self._order), PAD, np.int32)
    before[:, -1] = self._start
    padded = np.concatenate([before, x.astype(np.int32)], axis=1)
    rows = np.lib.stride_tricks.sliding_window_view(padded, self._order, axis=1)[:, 1:]
    self._waiting.append(rows[np.arange(x.shape[1]) < num_real[:, None]])
    self._num_waiting += len(self._waiting[-1])
    if self._num_waiting >= _ROWS_AT_ONCE:
      self._merge()

  def _merge(self) -> None:
    rows = np.concatenate([self._rows, *self._waiting])
    counts = np.concatenate([self._counts, np.ones(self._num_waiting, np.int64)])
    self._rows, self._counts = distinct(rows, counts)
    self._waiting, self._num_waiting = [], 0

  def ngrams(self) -> list[tuple[Int[np.ndarray, "num length"], Int[np.ndarray, " num"]]]:
    """Return the different n-grams of each length from 1 on, sorted by their tokens, and how often each was seen."""
    self._merge()
    found = []
    for length in range(1, self._order + 1):
      rows = self._rows[:, -length:]
      is_whole = rows[:, 0] != PAD
      grams, counts = rows[is_whole], self._counts[is_whole]
      if length == 1:  # the start ends no row, but is a context
        grams = np.concatenate([grams, [[self._start]]]).astype(np.int32)
        counts = np.append(counts, 1)
      found.append(distinct(grams, counts))
    return found


def distinct(rows: Int[np.ndarray, "num length"], counts: Int[np.ndarray, " num"]
             ) -> tuple[Int[np.ndarray, "different length"], Int[np.ndarray, " different"]]:
  """Return the different rows in lexicographic order, and the sum of the counts of each."""
  if not len(rows):
    return rows, counts
  order = np.lexsort(rows.T[::-1])
  rows, counts = rows[order], counts[order]
  begins = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))
  return rows[begins], np.add.reduceat(counts, begins)


def smooth(counter: Counter, start: int) -> NGramWeights:
  """Return the smoothed weights of counted n-grams."""
  ngrams = counter.ngrams()
  sizes = [len(counts) for _, counts in ngrams]
  offsets = np.concatenate([[0], np.cumsum(sizes)])
  trie = _Trie(start + 1)
  for grams, _ in ngrams:
    trie.add(grams)
  weight, backoff = np.empty(offsets[-1]), np.ones(offsets[-1] + 1)
  for length, (grams, counts) in enumerate(ngrams, start=1):
    if length < len(ngrams):
      longer, _ = ngrams[length]
      contexts = np.bincount(trie.find(longer[:, 1:]) - 1 - offsets[length - 1], minlength=len(grams))
      counts = np.where(grams[:, 0] == start, counts, contexts)
    parent = trie.find(grams[:, :-1])
    predicted = grams[:, -1] != start
    counts = np.where(predicted, counts, 0).astype(np.float64)
    discount = np.minimum(discounts(counts[predicted])[np.minimum(counts, 3).astype(int)], counts)
    total, taken = (np.bincount(parent, values, minlength=len(backoff)) for values in (counts, discount))
    weight[offsets[length - 1]:offsets[length]] = (counts - discount) / np.maximum(total[parent], 1.0)
    backoff = np.where(total > 0, taken / np.maximum(total, 1.0), backoff)
  return NGramWeights(trie.first, np.concatenate([grams[:, -1] for grams, _ in ngrams]), weight, backoff)


def discounts(counts: Float[np.ndarray, " num"]) -> Float[np.ndarray, "4"]:
  """Return the discounts of counts of 0, 1, 2, and 3 or more (Chen and Goodman 1998, equation 26)."""
  one, two, three, four = (float(np.sum(counts == i)) for i in range(1, 5))
  found = FALLBACK_DISCOUNTS
  if min(one, two, three, four) > 0:
    share = one / (one + 2 * two)
    estimated = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
    if all(0 < value <= i for i, value in enumerate(estimated, start=1)):
      found = estimated
  return np.array([0.0, *found])


class _Trie:
  """Nodes by their n-grams, length after length."""

  def __init__(self, num_tokens: int):
    self._num_tokens = num_tokens
    self._keys: list[Int[np.ndarray, " num"]] = []  # node of the context, token: in order
    self._first = [1]  # the first node of each length, from 1 on

  def add(self, grams: Int[np.ndarray, "num length"]) -> None:
    """The n-grams of the next length, in order."""
    self._keys.append(self.find(grams[:, :-1]) * self._num_tokens + grams[:, -1])
    self._first.append(self._first[-1] + len(grams))

  def find(self, grams: Int[np.ndarray, "num length"]) -> Int[np.ndarray, " num"]:
    """Return the nodes of n-grams that are there."""
    node = np.zeros(len(grams), np.int64)
    for place in range(grams.shape[1]):
      node = self._first[place] + np.searchsorted(self._keys[place], node * self._num_tokens + grams[:, place])
    return node

  @property
  def first(self) -> Int[np.ndarray, " nodes_and_one"]:
    """Return for each node the number of the first n-gram that continues it, and the number of all n-grams."""
    contexts = np.concatenate(self._keys) // self._num_tokens
    return np.searchsorted(contexts, np.arange(len(contexts) + 2))
