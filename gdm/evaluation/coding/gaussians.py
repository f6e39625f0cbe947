"""Real numbers as symbols: bins of a grid, and tables of a Gaussian's mass in them.

The grid of latents has 2**15 bins of equal mass under a logistic distribution, which is fine near its centre and
reaches out to 7 deviations of a standard normal. A bin is coded as three digits of base 32, each by a table given those
before, so that a table has few entries: the least probability of an entry, 2**-24, sends a draw far off once in 170,000
times.
"""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.special import ndtr

from gdm.evaluation.coding.bottomless import BottomlessStack
from gdm.evaluation.coding.tables import bits, quantize

BASE, DIGITS = 32, 3
BINS = BASE**DIGITS
SPREAD = 0.7  # scale of the logistic
_LEAST = 1e-14  # mass that every entry has besides, where rounding leaves none


@dataclasses.dataclass(frozen=True, eq=False)
class BinGrid:
  """Bins of the real numbers, BASE**digits of them.

  Attributes:
    edges: of the bins, from minus to plus infinity.
    middles: a point in each.
    digits: of a bin's number.
  """

  edges: Float[np.ndarray, " edges"]
  middles: Float[np.ndarray, " bins"]
  digits: int

  @classmethod
  @functools.cache
  def logistic(cls, digits: int) -> "BinGrid":
    """Return bins of equal mass under the logistic; their points are their medians."""
    num = BASE**digits

    def quantile(share: Float[np.ndarray, " shares"]) -> Float[np.ndarray, " shares"]:
      return SPREAD * (np.log(share) - np.log1p(-share))

    edges = np.concatenate([[-math.inf], quantile(np.arange(1, num) / num), [math.inf]])
    return cls(edges, quantile((np.arange(num) + 0.5) / num), digits)

  @classmethod
  @functools.cache
  def uniform(cls, width: float, digits: int) -> "BinGrid":
    """Return bins of one width from 0 on, but for the first and the last, which have no end."""
    places = np.arange(BASE**digits + 1) * width
    return cls(np.concatenate([[-math.inf], places[1:-1], [math.inf]]), places[:-1] + width / 2, digits)

  def pop(self, stack: BottomlessStack, mean: Float[np.ndarray, "*shape"],
          scale: Float[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """Pop bins of Gaussians."""
    prefix, flat = np.zeros(mean.size, np.int64), (mean.ravel(), scale.ravel())
    for digit in range(self.digits):
      prefix = prefix * BASE + stack.pop(digit_tables(*flat, prefix, digit, self))
    return prefix.reshape(mean.shape)

  def push(self, stack: BottomlessStack, bins: Integer[np.ndarray, "*shape"], mean: Float[np.ndarray, "*shape"],
           scale: Float[np.ndarray, "*shape"]) -> float:
    """Push bins so that `pop` gives them, and return the bits that they cost."""
    flat, cost = (mean.ravel(), scale.ravel()), 0.0
    for digit in reversed(range(self.digits)):
      prefix, symbol = digits_of(bins.ravel(), digit, self.digits)
      tables = digit_tables(*flat, prefix, digit, self)
      stack.push(symbol, tables)
      cost += float(np.sum(bits(tables, symbol)))
    return cost

  def cost(self, bins: Integer[np.ndarray, "*shape"], mean: Float[np.ndarray, "*shape"],
           scale: Float[np.ndarray, "*shape"]) -> float:
    """Return the bits that bins cost."""
    cost = 0.0
    for digit in range(self.digits):
      prefix, symbol = digits_of(bins, digit, self.digits)
      cost += float(np.sum(bits(digit_tables(mean, scale, prefix, digit, self), symbol)))
    return cost


def midpoints(index: Integer[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
  """Return the median of each bin under the logistic."""
  return BinGrid.logistic(DIGITS).middles[index]


def digit_tables(mean: Float[np.ndarray, "*shape"], scale: Float[np.ndarray, "*shape"],
                 prefix: Integer[np.ndarray, "*shape"], digit: int,
                 grid: BinGrid | None = None) -> Int[np.ndarray, "*shape base"]:
  """Return tables of one digit of each Gaussian's bin.

  Args:
    mean, scale: means and standard deviations.
    prefix: the digits before, as one number.
    digit: which one, from 0.
    grid: the bins; those of latents by default.
  """
  grid = grid or BinGrid.logistic(DIGITS)
  width = BASE**(grid.digits - 1 - digit)
  places = (prefix[..., None] * BASE + np.arange(BASE + 1)) * width
  below = ndtr((grid.edges[places] - mean[..., None]) / scale[..., None])
  mass = np.diff(below, axis=-1) + _LEAST
  return quantize(mass / mass.sum(axis=-1, keepdims=True))


@functools.cache
def _standard(digit: int) -> Int[np.ndarray, "prefixes base"]:
  prefix = np.arange(BASE**digit)
  return digit_tables(np.zeros(len(prefix)), np.ones(len(prefix)), prefix, digit)


def standard_tables(prefix: Integer[np.ndarray, "*shape"], digit: int) -> Int[np.ndarray, "*shape base"]:
  """Return tables of one digit of a standard normal's bin."""
  return _standard(digit)[prefix]


def digits_of(index: Integer[np.ndarray, "*shape"], digit: int, digits: int = DIGITS
              ) -> tuple[Integer[np.ndarray, "*shape"], Integer[np.ndarray, "*shape"]]:
  """Return the digits before one, as one number, and that one."""
  upto = index // BASE**(digits - 1 - digit)
  return upto // BASE, upto % BASE


def standard_bits(index: Integer[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
  """Return the cost of bins under a standard normal."""
  total = np.zeros(index.shape)
  for digit in range(DIGITS):
    prefix, symbol = digits_of(index, digit)
    total += bits(standard_tables(prefix, digit), symbol)
  return total
