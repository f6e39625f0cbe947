"""Sliced Wasserstein distance between two sets of points."""

import numpy as np


def sliced_wasserstein(x, y, num_slices=1000, seed=0):
  """Return the mean over random directions of the Wasserstein-1 distance of projections; sets of one size."""
  directions = np.random.default_rng(seed).normal(size=(num_slices, x.shape[1]))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  one, other = (np.sort(np.asarray(each, np.float64) @ directions.T, axis=0) for each in (x, y))
  return float(np.mean(np.abs(one - other)))
