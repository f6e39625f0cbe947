"""Scores of restored examples: peak signal-to-noise ratio, structural similarity, coverage of intervals."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num
from scipy.ndimage import correlate1d

from gdm import checks
from gdm.errors import SpecError

_WINDOW, _DEVIATION = 11, 1.5  # of the structural similarity, in pixels
_K1, _K2 = 0.01, 0.03
LEAST_SIDE = 3  # of an image, in pixels, for a structural similarity


class Coverage(NamedTuple):
  """Intervals between draws.

  Attributes:
    share: share of true values inside.
    stated: the share that there would be if truths were draws as well.
  """

  share: float
  stated: float


def psnr(x: Num[np.ndarray, "batch *event"], truth: Num[np.ndarray, "batch *event"],
         peak: float) -> Float[np.ndarray, " batch"]:
  """Return 10 log10(peak^2 / mean squared error) of each example, in decibels; infinite where they are equal.

  `peak` is the range of the data, in its units.
  """
  errors = np.mean((np.asarray(x, np.float64) - np.asarray(truth, np.float64)).reshape(len(x), -1) ** 2, axis=1)
  with np.errstate(divide="ignore"):
    return 10.0 * np.log10(peak**2 / errors)


def ssim(x: Num[np.ndarray, "batch height width channels"], truth: Num[np.ndarray, "batch height width channels"],
         peak: float) -> Float[np.ndarray, " batch"]:
  """Return the structural similarity of images, at most 1: the mean over all pixels whose window is inside (Wang et
  al., 2004, equation 13).

  The window is a normal of deviation 1.5 pixels, 11 wide as in the paper, or as wide as the image allows.

  Args:
    x: images.
    truth: images to compare with.
    peak: range of the data, in its units.

  Raise SpecError for images less than 3 pixels wide or high.
  """
  one, other = (np.asarray(each, np.float64) for each in (x, truth))
  side = min(one.shape[1:3])
  if side < LEAST_SIDE:
    raise SpecError(f"images are {one.shape[1:3]}; structural similarity needs at least {LEAST_SIDE} x {LEAST_SIDE} "
                    "pixels.")
  reach = (min(_WINDOW, side) - 1) // 2
  weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _DEVIATION) ** 2)
  weights /= weights.sum()

  def blurred(values):
    for axis in (1, 2):
      values = correlate1d(values, weights, axis=axis)
    return values[:, reach:values.shape[1] - reach, reach:values.shape[2] - reach]

  mean, of_other = blurred(one), blurred(other)
  variance, other_variance = blurred(one**2) - mean**2, blurred(other**2) - of_other**2
  covariance = blurred(one * other) - mean * of_other
  small, large = (_K1 * peak) ** 2, (_K2 * peak) ** 2
  values = ((2 * mean * of_other + small) * (2 * covariance + large)
            / ((mean**2 + of_other**2 + small) * (variance + other_variance + large)))
  return np.mean(values.reshape(len(one), -1), axis=1)


def coverage(draws: Num[np.ndarray, "num batch *event"], truth: Num[np.ndarray, "batch *event"], level: float = 0.9,
             seed: int = 0) -> Coverage:
  """Return the share of values between the k-th smallest and the k-th largest draw.

  k is the largest for which at least `level` is stated, or 1 where there are too few draws for that. Ranks among equal
  draws are random, so that discrete values are covered as often as continuous ones. Raise ConfigError unless the level
  is in (0, 1), or for a single draw.
  """
  num = len(draws)
  checks.at_least("number of draws", num, 2)
  checks.rate("level", level)
  k = max(1, math.floor((1.0 - level) / 2.0 * (num + 1) + 1e-9))
  below, equal = np.sum(draws < truth, axis=0), np.sum(draws == truth, axis=0)
  rank = below + np.random.default_rng(seed).integers(0, equal + 1)
  return Coverage(float(np.mean((rank >= k) & (rank <= num - k))), (num + 1 - 2 * k) / (num + 1))
