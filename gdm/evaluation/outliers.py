"""Whether a model tells other data from its own: sets of pictures to try it on, and the area under the ROC curve."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Float, Num

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.intervals import Interval, share_interval, student_975

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
BYTES = 256

Pictures = Num[np.ndarray, "_ _ _ _"]  # number, height, width, channels


class Separation(NamedTuple):
  """A measure of how well scores tell two sets apart.

  Attributes:
    auroc: the probability that an example of the first set scores above one of the second; ties count half.
    ci95: its 95 % interval.
  """

  auroc: float
  ci95: Interval


def separation(inside: Float[np.ndarray, " inside"], outside: Float[np.ndarray, " outside"]) -> Separation:
  """Return the area under the ROC curve of scores that should be higher inside, with its interval.

  The interval is Student's of the logarithm of the odds, auroc to 1 - auroc, so that it stays within [0, 1]; the
  standard error is that of DeLong, DeLong and Clarke-Pearson (1988), the degrees of freedom are Brunner and Munzel's
  (2000). Where the scores show no spread, as where they separate the sets perfectly, it is that of a share of as many
  independent trials as the smaller set has examples: so large is the variance at most (Birnbaum and Klose, 1957).

  Raise ConfigError unless there are two or more scores in both sets, none of them NaN.
  """
  for name, scores in (("inside", inside), ("outside", outside)):
    if len(scores) < 2 or np.isnan(scores).any():
      raise ConfigError(f"{name} has {len(scores)} scores, {int(np.isnan(scores).sum())} of them NaN; there must be at "
                        "least 2, and none NaN.")
  # An example's placement: the share of the other set that it beats.
  ranks = scipy.stats.rankdata(np.concatenate([inside, outside]))
  of_inside = (ranks[:len(inside)] - scipy.stats.rankdata(inside)) / len(outside)
  of_outside = 1.0 - (ranks[len(inside):] - scipy.stats.rankdata(outside)) / len(inside)
  auroc, sizes = float(of_inside.mean()), np.array([len(inside), len(outside)])
  parts = np.array([np.var(of_inside, ddof=1), np.var(of_outside, ddof=1)]) / sizes
  variance = float(parts.sum())
  if variance == 0.0:
    return Separation(auroc, share_interval(auroc, float(sizes.min())))
  degrees = variance**2 / float(np.sum(parts**2 / (sizes - 1)))
  half = student_975(degrees) * math.sqrt(variance) / (auroc * (1.0 - auroc))
  low, high = scipy.special.expit(scipy.special.logit(auroc) + np.array([-half, half]))
  return Separation(auroc, Interval(float(low), float(high)))


def rotated(x: Pictures, seed: int) -> Pictures:
  """Turned by a quarter. Raise SpecError for pictures that are not square."""
  if x.shape[1] != x.shape[2]:
    raise SpecError(f"pictures are {x.shape[1]} x {x.shape[2]}; only square ones can be rotated by a quarter. Leave "
                    "'rotated' out, or name 'shuffled' or other data.")
  return np.rot90(x, axes=(1, 2))


def shuffled(x: Pictures, seed: int) -> Pictures:
  """Return the pixels of each picture in an order of its own."""
  flat = x.reshape(len(x), -1, x.shape[-1])
  order = np.argsort(np.random.default_rng(seed).random(flat.shape[:2]), axis=1)
  return np.take_along_axis(flat, order[..., None], axis=1).reshape(x.shape)


MADE_OF_DATA: Mapping[str, Callable[[Pictures, int], Pictures]] = {"rotated": rotated, "shuffled": shuffled}


def patches(pictures: Pictures, spec: DataSpec, num: int, seed: int) -> Pictures:
  """Patches of the data's size and levels, cut at random places out of pictures of bytes, grey where the data is.

  Raise SpecError where the pictures are too small, or of other channels than the data or three.
  """
  *_, height, width, channels = pictures.shape
  if not (spec.is_image and spec.is_discrete):
    raise SpecError(f"spec is {spec}; patches of pictures are cut for pictures of integers.")
  rows, columns, kept = spec.event
  if rows > height or columns > width or channels not in (kept, len(LUMINANCE)):
    raise SpecError(f"pictures have shape {pictures.shape}; no patch of shape {spec.event} can be cut out of them.")
  rng = np.random.default_rng(seed)
  index = rng.integers(len(pictures), size=num)
  top, left = rng.integers(height - rows + 1, size=num), rng.integers(width - columns + 1, size=num)
  cut = pictures[index[:, None, None], (top[:, None] + np.arange(rows))[:, :, None],
                 (left[:, None] + np.arange(columns))[:, None, :]].astype(np.float64)
  cut = cut if channels == kept else cut @ np.asarray(LUMINANCE)[:, None]
  return np.floor(cut / BYTES * (spec.levels or BYTES)).astype(np.uint8)
