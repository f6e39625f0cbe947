"""Spectrograms of sound, as images of integers, and sound from them again.

A spectrogram has a column for each 16 ms of sound and a row for each band of frequencies, the highest on top. Bands are
evenly spaced on the mel scale, as a listener tells pitches apart; their power is in decibels, in 256 levels. The phase
is lost, so that the way back is an estimate: Griffin and Lim's.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Integer, UInt8

from gdm import checks
from gdm.data.mu_law import mu_law_decode
from gdm.errors import ConfigError

LEVELS = 256
FRAMES_PER_SECOND = 62.5
OVERLAP = 4  # windows that cover a sample
RANGE = 80.0  # decibels from level 0 to the last one, which is the power of a full-scale sine
_LEAST_POWER = 1e-12
_CHUNK = 64  # sounds that are worked on at a time
_SEED = 20261201  # of the phases that Griffin and Lim's iterations start with

Waves = Float[np.ndarray, "num samples"]
Frames = Complex[np.ndarray, "num frames bins"]


@dataclasses.dataclass(frozen=True)
class Spectrogram:
  """How images are spectrograms of sound of one length; kept in `Dataset.info["spectrogram"]`.

  Attributes:
    bands: rows of an image.
    samples: of a sound.
    rate: samples per second.

  Raise ConfigError where the length is no whole number of frames, or a band is too narrow to have a frequency.

  Example:

    spectrogram = Spectrogram(bands=32, samples=5120, rate=8000)  # images [32, 40, 1]
    images = spectrogram.encode(waves)
    waves = spectrogram.decode(images)
  """

  bands: int
  samples: int
  rate: int

  def __post_init__(self) -> None:
    checks.at_least("bands of a spectrogram", self.bands, 1)
    if self.hop < 1 or self.samples % self.hop or self.samples < self.window:
      near = max(OVERLAP, round(self.samples / max(self.hop, 1))) * self.hop
      raise ConfigError(f"a spectrogram needs sounds of a multiple of {self.hop} samples (16 ms) and at least "
                        f"{self.window}, but they have {self.samples}; make them so by the transform clip:{near}, say.")
    if not self.filters.any(axis=0).all():
      raise ConfigError(f"bands of a spectrogram is {self.bands}, so many that some hold none of the "
                        f"{self.window // 2 + 1} frequencies of a frame; take fewer.")

  @classmethod
  def of(cls, info: Mapping[str, Any]) -> "Spectrogram | None":
    """Return how the data whose facts these are is spectrograms; None where it is none."""
    return cls(**info["spectrogram"]) if "spectrogram" in info else None

  @property
  def hop(self) -> int:
    """Samples from one frame to the next."""
    return round(self.rate / FRAMES_PER_SECOND)

  @property
  def window(self) -> int:
    """Samples of a frame."""
    return OVERLAP * self.hop

  @property
  def event(self) -> tuple[int, int, int]:
    """Shape of an image: bands, frames, 1."""
    return (self.bands, self.samples // self.hop, 1)

  @functools.cached_property
  def filters(self) -> Float[np.ndarray, "bins bands"]:
    """Weights of frequencies in the power of each band, the lowest first: triangles that sum to one."""
    mel = np.linspace(0.0, _mel(self.rate / 2.0), self.bands + 2)
    low, centre, high = (_hertz(each) for each in (mel[:-2], mel[1:-1], mel[2:]))
    hertz = np.linspace(0.0, self.rate / 2.0, self.window // 2 + 1)[:, None]
    triangles = np.maximum(0.0, np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)))
    return triangles / np.maximum(triangles.sum(axis=0), 1e-9)

  def encode(self, waves: Waves) -> UInt8[np.ndarray, "num bands frames 1"]:
    """Return the spectrograms of sounds in [-1, 1]."""
    parts = [self._levels(waves[start:start + _CHUNK]) for start in range(0, len(waves), _CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, *self.event), np.uint8)

  def decode(self, x: Integer[np.ndarray, "num bands frames 1"], iterations: int = 60) -> Waves:
    """Return sounds in [-1, 1] whose spectrograms are near x: by the fast algorithm of Griffin and Lim (Perraudin et
    al., WASPAA 2013) from phases drawn by a fixed seed, so that the same x gives the same sound.

    Args:
      x: the images.
      iterations: each makes the phases of neighbouring frames agree better.
    """
    parts = [self._waves(x[start:start + _CHUNK], iterations) for start in range(0, len(x), _CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, self.samples))

  def transform(self, waves: Waves) -> Frames:
    """Return the short-time Fourier transform: frames by a Hann window, of which a full-scale sine has amplitude 1."""
    edge = (self.window - self.hop) // 2
    padded = np.pad(waves, ((0, 0), (edge, self.window - self.hop - edge)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=1)[:, ::self.hop]
    return np.fft.rfft(frames * self._hann, axis=-1) * (2.0 / self._hann.sum())

  def inverse(self, frames: Frames) -> Waves:
    """Return the sounds whose transform is nearest in squares; those of a transform themselves."""
    edge = (self.window - self.hop) // 2
    pieces = np.fft.irfft(frames * (self._hann.sum() / 2.0), self.window, axis=-1) * self._hann
    total = np.zeros((len(frames), self.samples + self.window - self.hop))
    weight = np.zeros(total.shape[1])
    for index in range(frames.shape[1]):
      place = slice(index * self.hop, index * self.hop + self.window)
      total[:, place] += pieces[:, index]
      weight[place] += self._hann**2
    return (total / np.maximum(weight, 1e-9))[:, edge:edge + self.samples]

  @functools.cached_property
  def _hann(self) -> Float[np.ndarray, " window"]:
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(self.window) / self.window)

  def _levels(self, waves: Waves) -> UInt8[np.ndarray, "num bands frames 1"]:
    power = np.abs(self.transform(waves)) ** 2 @ self.filters
    decibels = 10.0 * np.log10(np.maximum(power, _LEAST_POWER))
    levels = np.clip(np.rint((decibels / RANGE + 1.0) * (LEVELS - 1)), 0, LEVELS - 1).astype(np.uint8)
    return np.swapaxes(levels, 1, 2)[:, ::-1, :, None]

  def _waves(self, x: Integer[np.ndarray, "num bands frames 1"], iterations: int) -> Waves:
    # Level 0 stands for silence, and for all that is below it.
    levels = np.swapaxes(x[:, ::-1, :, 0], 1, 2)
    power = np.where(levels > 0, 10.0 ** (RANGE * (levels / (LEVELS - 1) - 1.0) / 10.0), 0.0)
    magnitude = np.sqrt(_unmixed(power, self.filters))
    phase = np.random.default_rng(_SEED).uniform(0.0, 2.0 * np.pi, magnitude.shape[1:])
    frames = magnitude * np.exp(1j * phase)
    before = frames
    for _ in range(iterations):
      consistent = self.transform(self.inverse(frames))
      moved = consistent + 0.99 * (consistent - before)
      frames, before = magnitude * moved / np.maximum(np.abs(moved), 1e-12), consistent
    return np.clip(self.inverse(frames), -1.0, 1.0)


def heard(x: Integer[np.ndarray, "num samples"], spectrogram: Spectrogram) -> UInt8[np.ndarray, "num bands frames 1"]:
  """Return the spectrograms of sounds in 8-bit mu-law."""
  return spectrogram.encode(mu_law_decode(x))


def _unmixed(power: Float[np.ndarray, "num frames bands"], filters: Float[np.ndarray, "bins bands"],
             iterations: int = 40) -> Float[np.ndarray, "num frames bins"]:
  """Return powers of frequencies, none negative, whose sums in bands are nearly `power`: multiplicative updates for the
  squared error (Lee and Seung, NeurIPS 2000)."""
  shares = filters / np.maximum(filters.sum(axis=1, keepdims=True), 1e-9)
  found = power @ shares.T + _LEAST_POWER
  for _ in range(iterations):
    found = found * (power @ filters.T + 1e-20) / (found @ filters @ filters.T + 1e-20)
  return found


def _mel(hertz: float) -> float:
  return 2595.0 * float(np.log10(1.0 + hertz / 700.0))


def _hertz(mel: Float[np.ndarray, " bands"]) -> Float[np.ndarray, " bands"]:
  return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
