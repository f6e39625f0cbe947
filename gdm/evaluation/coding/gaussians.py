"""Real numbers as symbols: bins of a grid, and tables of a Gaussian's mass in them.

The grid has 2**15 bins of equal mass under a logistic distribution, which is fine near its centre and reaches out
to 7 deviations of a standard normal. A bin is coded as three digits of base 32, each by a table given those before, so
that a table has few entries: the least probability of an entry, 2**-24, sends a draw far off once in 170,000 times.
"""

import functools
import math

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.special import ndtr

from gdm.evaluation.coding.tables import bits, quantize

BASE, DIGITS = 32, 3
BINS = BASE**DIGITS
SPREAD = 0.7  # scale of the logistic
_LEAST = 1e-14  # mass that every entry has besides, where rounding leaves none


@functools.cache
def _edges() -> Float[np.ndarray, " edges"]:
  share = np.arange(1, BINS) / BINS
  inner = SPREAD * (np.log(share) - np.log1p(-share))
  return np.concatenate([[-math.inf], inner, [math.inf]])


def midpoints(index: Integer[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
  """Return the median of each bin under the logistic."""
  share = (index + 0.5) / BINS
  return SPREAD * (np.log(share) - np.log1p(-share))


def digit_tables(mean: Float[np.ndarray, "*shape"], scale: Float[np.ndarray, "*shape"],
                 prefix: Integer[np.ndarray, "*shape"], digit: int) -> Int[np.ndarray, "*shape base"]:
  """Return tables of one digit of each Gaussian's bin.

  Args:
    mean, scale: means and standard deviations.
    prefix: the digits before, as one number.
    digit: which one, from 0.
  """
  width = BASE**(DIGITS - 1 - digit)
  places = (prefix[..., None] * BASE + np.arange(BASE + 1)) * width
  below = ndtr((_edges()[places] - mean[..., None]) / scale[..., None])
  mass = np.diff(below, axis=-1) + _LEAST
  return quantize(mass / mass.sum(axis=-1, keepdims=True))


@functools.cache
def _standard(digit: int) -> Int[np.ndarray, "prefixes base"]:
  prefix = np.arange(BASE**digit)
  return digit_tables(np.zeros(len(prefix)), np.ones(len(prefix)), prefix, digit)


def standard_tables(prefix: Integer[np.ndarray, "*shape"], digit: int) -> Int[np.ndarray, "*shape base"]:
  """Return tables of one digit of a standard normal's bin."""
  return _standard(digit)[prefix]


def digits_of(index: Integer[np.ndarray, "*shape"], digit: int
              ) -> tuple[Integer[np.ndarray, "*shape"], Integer[np.ndarray, "*shape"]]:
  """Return the digits before one, as one number, and that one."""
  upto = index // BASE**(DIGITS - 1 - digit)
  return upto // BASE, upto % BASE


def standard_bits(index: Integer[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
  """Return the cost of bins under a standard normal."""
  total = np.zeros(index.shape)
  for digit in range(DIGITS):
    prefix, symbol = digits_of(index, digit)
    total += bits(standard_tables(prefix, digit), symbol)
  return total
