"""Groups of mutually exclusive columns in binary data: a one-hot code is one block, a lone bit a block of one.

The columns of one categorical variable usually stand side by side, so a partition into runs of neighbouring columns is
sought in which no training row has two ones in a run. Exclusion alone leaves the borders open: a rare column can be
exclusive with the block next to it by accident. So the partition is chosen by its description length, that of the
training split in a model of independent runs (Rissanen 1978): each run is a categorical over its columns and "none",
coded by Krichevsky and Trofimov's estimator (1981), and joining neighbours must pay for having been looked for. Dynamic
programming finds the shortest.
"""

from collections.abc import Iterable

import numpy as np
import scipy.special
from jaxtyping import Float, Integer

# On independent columns, about the chance of finding any block, and of adding any one column to a block that is found.
FALSE_JOIN_CHANCE = 0.05


def find_blocks(rows: Iterable[np.ndarray]) -> tuple[tuple[int, ...], ...]:
  """Return the partition of the columns of the training rows, in order; single columns are blocks of one.

  The rows come in parts [batch, dim] of zeros and ones, of any sizes.

  Two independent columns with p and q ones in N rows exclude each other with chance exp(-p q / N), and joining them
  then shortens the description by about p q / N nats. So the first join of a block pays log(dim / FALSE_JOIN_CHANCE)
  nats, since it can happen at dim borders, and each further one log(1 / FALSE_JOIN_CHANCE). A column that is never one
  gains nothing and stays alone, except within a block.
  """
  packed, counts, num_rows = _pack(rows)
  dim = len(counts)
  first = _first_exclusive(packed)
  cost = np.zeros(dim + 1)  # cost[j]: nats of the best partition of the first j columns
  best_start = np.zeros(dim + 1, np.int64)
  total = np.concatenate([[0], np.cumsum(counts)])
  column_terms = np.concatenate([[0], np.cumsum(_log_gamma_ratio(counts))])
  for end in range(1, dim + 1):
    starts = np.arange(first[end - 1], end)
    size = end - starts
    none = num_rows - (total[end] - total[starts])
    nats = (_log_normalizer(num_rows, size + 1) - _log_gamma_ratio(none) - (column_terms[end] - column_terms[starts])
            - (size - 1) * np.log(FALSE_JOIN_CHANCE) + (size > 1) * np.log(dim))
    choices = cost[starts] + nats
    best = int(np.argmin(choices))
    cost[end], best_start[end] = choices[best], starts[best]
  found: list[tuple[int, ...]] = []
  end = dim
  while end > 0:
    found.append(tuple(range(int(best_start[end]), end)))
    end = int(best_start[end])
  return tuple(reversed(found))


def _pack(rows: Iterable[np.ndarray]) -> tuple[np.ndarray, Integer[np.ndarray, " dim"], int]:
  """Return each column's bits in bytes [dim, N / 8], its number of ones, and the number of rows."""
  pieces, counts, num_rows = [], 0, 0
  for part in rows:
    pieces.append(np.packbits(part.T.astype(bool), axis=1))
    counts = counts + part.sum(axis=0, dtype=np.int64)
    num_rows += len(part)
  return np.concatenate(pieces, axis=1), np.asarray(counts), num_rows


def _first_exclusive(packed: np.ndarray) -> Integer[np.ndarray, " dim"]:
  """Return for each column the first one from which on, up to it, no row has two ones."""
  first = np.zeros(len(packed), np.int64)
  for column in range(1, len(packed)):
    start = first[column - 1]
    overlaps = np.flatnonzero((packed[start:column] & packed[column]).any(axis=1))
    first[column] = start + overlaps[-1] + 1 if len(overlaps) else start
  return first


def _log_gamma_ratio(counts: Integer[np.ndarray, " num"]) -> Float[np.ndarray, " num"]:
  """Return log Gamma(n + 1/2) - log Gamma(1/2)."""
  return scipy.special.gammaln(counts + 0.5) - scipy.special.gammaln(0.5)


def _log_normalizer(num_rows: int, outcomes: Integer[np.ndarray, " num"]) -> Float[np.ndarray, " num"]:
  """Return log Gamma(N + K/2) - log Gamma(K/2) of the Krichevsky-Trofimov code of N symbols out of K."""
  return scipy.special.gammaln(num_rows + outcomes / 2) - scipy.special.gammaln(outcomes / 2)
