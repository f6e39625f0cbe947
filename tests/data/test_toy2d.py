"""The densities of the plane are densities, and their samples follow them."""

import numpy as np
import pytest
import scipy.integrate

from gdm.data.load import load_dataset
from gdm.data.sources import toy2d
from gdm.errors import ConfigError

SHAPES = sorted(toy2d.DENSITIES)


@pytest.mark.fast_cases("banana", "checkerboard", "eight_gaussians", "grid", "ring", "ring8", "rings", "spiral",
                        "two_moons")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_density_integrates_to_one(shape):
  # midpoints of a grid finer than any sigma: exact for the squares, spectral for what is smooth
  step, num = {"grid": (0.04, 120), "ring8": (0.01, 110)}.get(shape, (0.08, 60))
  axis = np.arange(-num, num) * step + step / 2
  grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
  density = np.exp(toy2d.DENSITIES[shape]().log_prob(grid))
  assert density.sum() * step**2 == pytest.approx(1, abs=1e-5)


@pytest.mark.fast_cases("banana", "checkerboard", "eight_gaussians", "grid", "ring", "ring8", "rings", "spiral",
                        "two_moons")
@pytest.mark.parametrize("shape", SHAPES)
def test_samples_follow_the_density(shape):
  dataset = load_dataset(f"toy2d:{shape}")
  x = dataset.split("train")["x"]
  end = 1.25 if shape == "ring8" else 5.0
  assert x.dtype == np.float32 and np.abs(x).max() < end
  counts, _, _ = np.histogram2d(x[:, 0], x[:, 1], bins=20, range=[[-end, end], [-end, end]])
  fine = end * ((np.arange(200) + 0.5) / 100 - 1)
  grid = np.stack(np.meshgrid(fine, fine, indexing="ij"), axis=-1)
  mass = np.exp(dataset.log_prob(grid.reshape(-1, 2))).reshape(20, 10, 20, 10).mean((1, 3)) * (end / 10) ** 2
  expected = mass * len(x)
  seen = expected > 5
  chi2 = ((counts - expected)[seen] ** 2 / expected[seen]).sum()
  assert chi2 < seen.sum() + 5 * np.sqrt(2 * seen.sum())
  assert counts[expected < 1e-3].sum() <= 1


def _by_quadrature(shape: str, x: np.ndarray) -> float:
  """The density at x by adaptive quadrature over the curve, written independently of the implementation."""
  sigma = {"two_moons": 0.2, "spirals": 0.1, "spiral": 0.2}[shape]
  signs = [1] if shape == "spiral" else [1, -1]

  def point(t):
    if shape == "two_moons":
      return np.array([2 * np.cos(np.pi * t) - 1, 2 * np.sin(np.pi * t) - 0.5]), 1.0
    angle = 3 * np.pi * t
    return np.array([-np.cos(angle), np.sin(angle)]) * angle / 3, 2 * t

  def integrand(t):
    center, weight = point(t)
    squares = np.array([((x - sign * center) ** 2).sum() for sign in signs])
    return weight * np.exp(-squares / (2 * sigma**2)).mean() / (2 * np.pi * sigma**2)

  return scipy.integrate.quad(integrand, 0, 1, limit=500, points=np.linspace(0, 1, 41)[1:-1], epsabs=0, epsrel=1e-10)[0]


@pytest.mark.fast_cases("spiral")
@pytest.mark.parametrize("shape", ["two_moons", "spirals", "spiral"])
def test_curves_are_integrated_to_six_digits(shape):
  dataset = load_dataset(f"toy2d:{shape}")
  x = np.concatenate([dataset.split("test")["x"][:20].astype(np.float64), [[0.0, 0.0], [2.0, -3.0], [-3.9, 3.9]]])
  expected = [np.log(_by_quadrature(shape, row)) for row in x]
  np.testing.assert_allclose(dataset.log_prob(x), expected, atol=1e-6)


def test_sizes_and_splits():
  dataset = load_dataset("toy2d:rings", seed=1)
  assert {name: dataset.num_examples(name) for name in dataset.splits} == toy2d.SIZES
  assert dataset.fingerprint("test") == load_dataset("toy2d:rings", seed=2).fingerprint("test")
  assert len({dataset.fingerprint(name) for name in dataset.splits}) == 3
  assert dataset.spec.levels is None and dataset.spec.event == (2,)


def test_standardizing_carries_the_density_along():
  plain, scaled = (load_dataset("toy2d:two_moons", transforms=t) for t in ((), ("standardize",)))
  mean, std = (np.array(scaled.info["standardize"][key]) for key in ("mean", "std"))
  z = scaled.split("test")["x"][:50].astype(np.float64)
  np.testing.assert_allclose(scaled.log_prob(z), plain.log_prob(z * std + mean) + np.log(std).sum())
  assert load_dataset("toy2d:two_moons", transforms=("quantize:8",)).log_prob is None


def test_an_unknown_density_names_the_nearest():
  with pytest.raises(ConfigError, match=r"two_moon'.*two_moons"):
    load_dataset("toy2d:two_moon")


def test_a_larger_training_set_leaves_the_other_splits_alone():
  few, many = load_dataset("toy2d:rings"), load_dataset("toy2d:rings#train=12000")
  assert (few.num_examples("train"), many.num_examples("train")) == (10_000, 12_000)
  assert all(few.fingerprint(split) == many.fingerprint(split) for split in ("valid", "test"))


@pytest.mark.parametrize(("shape", "num", "deviation"), [("grid", 25, 0.05), ("ring8", 8, 0.01),
                                                         ("eight_gaussians", 8, 0.35)])
def test_modes_of_mixtures_are_known_and_standardized_along(shape, num, deviation):
  plain, scaled = (load_dataset(f"toy2d:{shape}", transforms=t) for t in ((), ("standardize",)))
  assert plain.modes.centers.shape == (num, 2)
  np.testing.assert_array_equal(plain.modes.deviation, [deviation] * 2)
  mean, std = (np.array(scaled.info["standardize"][key]) for key in ("mean", "std"))
  np.testing.assert_allclose(scaled.modes.centers * std + mean, plain.modes.centers, atol=1e-12)
  np.testing.assert_allclose(scaled.modes.deviation * std, plain.modes.deviation)
  assert load_dataset("toy2d:rings").modes is None
  assert load_dataset(f"toy2d:{shape}", transforms=("quantize:8",)).modes is None
