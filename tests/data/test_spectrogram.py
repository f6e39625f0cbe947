"""Spectrograms: the transform is inverted, tones are in their bands, and sound comes back."""

import numpy as np
import pytest

from gdm.data.spectrogram import LEVELS, RANGE, Spectrogram, heard
from gdm.errors import ConfigError

FORM = Spectrogram(bands=24, samples=2048, rate=8000)
TIME = np.arange(FORM.samples) / FORM.rate


def tone(hertz, amplitude=1.0):
  return amplitude * np.sin(2.0 * np.pi * hertz * TIME)


def test_the_transform_is_inverted_and_a_full_tone_has_amplitude_one():
  waves = np.random.default_rng(0).uniform(-1.0, 1.0, (3, FORM.samples))
  np.testing.assert_allclose(FORM.inverse(FORM.transform(waves)), waves, atol=1e-12)
  frames = FORM.transform(tone(1000.0)[None])  # a whole number of periods in a window
  assert FORM.event == (24, 16, 1) and frames.shape == (1, 16, FORM.window // 2 + 1)
  np.testing.assert_allclose(np.abs(frames[0, 4:-4]).max(axis=1), 1.0, rtol=1e-6)


def test_a_tone_is_bright_in_its_band_by_its_decibels():
  loud, soft = FORM.encode(np.stack([tone(1000.0), tone(1000.0, 0.1)]))[:, :, 8, 0].astype(float)
  mel = 2595.0 * np.log10(1.0 + 1000.0 / 700.0) / (2595.0 * np.log10(1.0 + 4000.0 / 700.0)) * 25
  assert abs((24 - int(np.argmax(loud))) - mel) <= 1.0  # bands count from the lowest row, at 1
  assert loud.max() - soft.max() == pytest.approx(20.0 / RANGE * (LEVELS - 1), abs=1.0)
  assert not FORM.encode(np.zeros((1, FORM.samples))).any()
  assert np.all(FORM.filters >= 0) and np.allclose(FORM.filters.sum(axis=0), 1.0)


def test_sound_of_a_spectrogram_has_that_spectrogram():
  waves = np.stack([tone(440.0, 0.5) * np.exp(-3.0 * TIME), tone(200.0, 0.3) + tone(1500.0 + 500.0 * TIME, 0.1)])
  x = FORM.encode(waves)
  again = FORM.encode(FORM.decode(x))
  loud = x > 100
  assert np.abs(again.astype(int) - x)[loud].mean() < 6.0  # levels, of 0.3 decibels each
  np.testing.assert_array_equal(FORM.decode(x), FORM.decode(x))
  assert np.abs(FORM.decode(np.zeros((1, *FORM.event), int))).max() < 1e-5
  assert heard(np.full((2, FORM.samples), 128), FORM).max() == 0


def test_what_cannot_be_is_said():
  with pytest.raises(ConfigError, match=r"a multiple of 128 samples \(16 ms\).*they have 2000.*clip:2048"):
    Spectrogram(24, 2000, 8000)
  with pytest.raises(ConfigError, match="bands of a spectrogram is 200, so many"):
    Spectrogram(200, 2048, 8000)
  assert Spectrogram.of({"spectrogram": {"bands": 24, "samples": 2048, "rate": 8000}}) == FORM
  assert Spectrogram.of({}) is None
