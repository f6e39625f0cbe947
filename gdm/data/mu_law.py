"""Mu-law companding (ITU-T G.711, mu = 255): sound in 256 levels, finer where it is quiet, as a telephone hears.

By the smooth curve, not the standard's 16 straight segments: what WaveNet does (van den Oord et al. 2016, sec. 2.2).
"""

import numpy as np
from jaxtyping import Float, Integer, UInt8

MU = 255
LEVELS = MU + 1


def mu_law_encode(wave: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
  """Return the level in [0, 256) nearest to sgn(x) ln(1 + mu |x|) / ln(1 + mu), of samples x in [-1, 1]; others are
  clipped.

  Decoding it gives x with an error of at most (1 + mu |x|) (256^(1 / 255) - 1) / mu: half a level.
  """
  wave = np.clip(wave, -1.0, 1.0)
  companded = np.sign(wave) * np.log1p(MU * np.abs(wave)) / np.log1p(MU)
  return np.floor((companded + 1.0) / 2.0 * MU + 0.5).astype(np.uint8)


def mu_law_decode(levels: Integer[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
  """Return the samples in [-1, 1] that levels in [0, 256) stand for."""
  companded = 2.0 * np.asarray(levels, np.float64) / MU - 1.0
  return np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(MU)) / MU
