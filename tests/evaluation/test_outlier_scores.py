"""Scores of outliers: units, signs, and what each is blind to."""

import math
import zlib

import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.outlier_scores import (
  agreement,
  coded_bits,
  complexity_corrected,
  confidence,
  likelihood_ratio,
  typicality,
)

SPEC = DataSpec((12, 12, 1), 256)


def test_what_two_models_share_cancels_in_their_ratio():
  nats, shared = np.random.default_rng(0).normal(size=(2, 5))
  np.testing.assert_allclose(likelihood_ratio(nats + shared, shared), nats)


def test_a_model_that_is_the_coder_is_corrected_to_nothing():
  """log p = -bits log 2: both are in nats."""
  x = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 1)).astype(np.uint8)
  bits = coded_bits(x, SPEC)
  np.testing.assert_allclose(complexity_corrected(-bits * math.log(2.0), bits), 0.0, atol=1e-9)


def test_noise_takes_its_entropy_and_flat_pictures_almost_nothing():
  rng = np.random.default_rng(0)
  noise, flat = rng.integers(0, 256, (5, 12, 12, 1)), np.full((5, 12, 12, 1), 7)
  of_noise, of_flat = coded_bits(noise, SPEC), coded_bits(flat, SPEC)
  assert of_noise.min() >= 8 * 144 and of_flat.max() < 8 * 30
  assert np.all(of_flat <= 8 * len(zlib.compress(flat[0].astype(np.uint8).tobytes(), 9)))
  assert coded_bits(np.zeros((2, 9), int), DataSpec((9,), 2)).shape == (2,)
  assert coded_bits(np.zeros((2, 4, 4, 3), int), DataSpec((4, 4, 3), 256)).shape == (2,)
  for spec in (DataSpec((9,), None), DataSpec((9,), 257)):
    with pytest.raises(SpecError, match="at most 256 levels"):
      coded_bits(np.zeros((2, 9), int), spec)


def test_typicality_is_lower_on_both_sides_and_is_surer_of_larger_batches():
  rng = np.random.default_rng(0)
  own, likelier = rng.normal(-5.0, 1.0, 2000), rng.normal(-4.5, 1.0, 2000)
  np.testing.assert_allclose(np.sort(typicality(np.array([-4.0, -6.0, -5.0]), 5.0, 1)), [-1.0, -1.0, 0.0])
  gaps = [np.mean(typicality(own, 5.0, size)[:, None] > typicality(likelier, 5.0, size)) for size in (1, 10, 100)]
  assert gaps[0] < 0.6 < gaps[1] < 0.99 < gaps[2]
  for size in (0, -1, 1500):
    with pytest.raises(ConfigError, match=f"size is {size}; 2000 examples must make at least two batches"):
      typicality(own, 5.0, size)


def test_agreement_is_zero_of_one_opinion_and_log_two_below_of_two_sure_ones():
  sure = np.log(np.array([[[1.0 - 1e-12, 1e-12]], [[1e-12, 1.0 - 1e-12]]]))
  np.testing.assert_allclose(agreement(sure), [-math.log(2.0)], rtol=1e-6)
  unsure = np.log(np.full((3, 4, 5), 0.2))
  np.testing.assert_allclose(agreement(unsure), 0.0, atol=1e-12)
  np.testing.assert_allclose(confidence(sure[0]), [0.0], atol=1e-9)
  with np.errstate(divide="ignore"):
    np.testing.assert_allclose(agreement(np.log(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))), [-math.log(2.0)])
