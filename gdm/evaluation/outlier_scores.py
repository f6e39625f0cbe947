"""Scores that order examples by how much they are like the data, made of log-likelihoods or label probabilities. All
are higher for what is more like the data."""

import bz2
import io
import lzma
import math
import zlib

import numpy as np
from jaxtyping import Float, Int, Integer, Num
from PIL import Image

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError

# Of a dictionary for single examples: that of the preset, 64 MiB, would be filled anew for each.
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]


def likelihood_ratio(nats: Float[np.ndarray, " num"],
                     background: Float[np.ndarray, " num"]) -> Float[np.ndarray, " num"]:
  """Return log p(x) - log p_background(x), in nats: what the model knows beyond a background that both share (Ren et
  al., arXiv:1906.02845, equation 5). The background may be a model of mutated data."""
  return nats - background


def complexity_corrected(nats: Float[np.ndarray, " num"], bits: Num[np.ndarray, " num"]) -> Float[np.ndarray, " num"]:
  """Return log p(x) in nats plus what a lossless coder needs, in nats too: a ratio to the coder's own distribution
  (Serrà et al., arXiv:1909.11480, equation 1, with the sign of likelihoods)."""
  return nats + math.log(2.0) * bits


def coded_bits(x: Integer[np.ndarray, "num *event"], spec: DataSpec) -> Int[np.ndarray, " num"]:
  """Return the bits of each example by the coder that does best on it: deflate, bzip2, LZMA and, of images, PNG.

  Headers, the same for all examples of an event, are left in. Raise SpecError for real numbers, or more than 256
  levels.
  """
  if spec.levels is None or spec.levels > 256:
    raise SpecError(f"spec.levels is {spec.levels}; general coders take examples of at most 256 levels.")
  return np.array([8 * min(map(len, _codes(row, spec))) for row in x.astype(np.uint8)])


def typicality(nats: Float[np.ndarray, " num"], entropy: float, size: int,
               seed: int = 0) -> Float[np.ndarray, " batches"]:
  """Return minus the distance, in nats, of each batch's mean log-likelihood from that of data: samples of a model have
  the typical likelihood, not the highest (Nalisnick et al., arXiv:1906.02994, section 3.1).

  Args:
    nats: log-likelihoods of examples of one kind.
    entropy: mean of -log p(x) over data that the model did not see, in nats.
    size: examples in a batch; the order is drawn by the seed, and a rest is left out.
    seed: of the order.

  Raise ConfigError where there are not two batches.
  """
  num = len(nats) // size if size > 0 else 0
  if num < 2:
    raise ConfigError(f"size is {size}; {len(nats)} examples must make at least two batches.")
  drawn = np.random.default_rng(seed).permutation(nats)[:num * size]
  return -np.abs(-drawn.reshape(num, size).mean(axis=1) - entropy)


def confidence(log_probs: Float[np.ndarray, "num classes"]) -> Float[np.ndarray, " num"]:
  """Return the log-probability of the likeliest label (Hendrycks and Gimpel, arXiv:1610.02136)."""
  return log_probs.max(axis=1)


def agreement(log_probs: Float[np.ndarray, "models num classes"]) -> Float[np.ndarray, " num"]:
  """Return minus the information, in nats, that labels have of which classifier of an ensemble tells them: 0 where all
  agree (Lakshminarayanan et al., arXiv:1612.01474, section 3.5, up to a factor)."""
  mean = np.logaddexp.reduce(log_probs, axis=0) - math.log(len(log_probs))
  return np.mean(_entropy(log_probs), axis=0) - _entropy(mean)


def _entropy(log_probs: Float[np.ndarray, "*shape classes"]) -> Float[np.ndarray, "*shape"]:
  return -np.sum(np.exp(log_probs) * np.maximum(log_probs, -1e4), axis=-1)


def _codes(row: np.ndarray, spec: DataSpec) -> list[bytes]:
  raw = row.tobytes()
  codes = [zlib.compress(raw, 9), bz2.compress(raw, 9), lzma.compress(raw, lzma.FORMAT_RAW, filters=_LZMA)]
  if spec.is_image:
    file = io.BytesIO()
    Image.fromarray(row[..., 0] if row.shape[-1] == 1 else row).save(file, "PNG", optimize=True)
    codes.append(file.getvalue())
  return codes
