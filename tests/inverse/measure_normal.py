"""Measures errors of posterior samplers on a normal prior with the exact denoiser, for docs/results/inverse.md.

  PYTHONPATH=tests python tests/inverse/measure_normal.py

Four dimensions, two measured, 2,000 draws; errors of the mean are in deviations, of the covariance relative to its
norm. About 0.03 and 0.04 are chance.
"""

import jax
import numpy as np
from helpers.exact_denoisers import normal

from gdm.inverse.operators import projection
from gdm.inverse.problem import posed
from gdm.inverse.samplers.named import SAMPLERS

NUM = 2000
MATRIX = np.random.default_rng(5).normal(size=(2, 4)) / 2
PRIORS = {"standard": np.ones(4), "other": None}

if __name__ == "__main__":
  for name, method in SAMPLERS.items():
    cells = []
    for eigenvalues in PRIORS.values():
      prior = normal(4, eigenvalues=eigenvalues)
      y, denoiser = MATRIX @ prior.sample(3, 1)[0], prior.denoiser()
      for noise in (0.0, 0.3):
        if (method.noiseless and noise) or (method.noisy and not noise):
          cells.append("-")
          continue
        mean, covariance = prior.posterior(MATRIX, y, noise).moments()
        problem = posed(denoiser, projection((4,), MATRIX), y[None].astype(np.float32), noise)
        settings = {"num_particles": NUM} if method.particles else {}
        call = jax.jit(lambda problem, key, method=method, denoiser=denoiser, settings=settings: method.function(
            denoiser, problem, key, NUM, num_steps=300, **settings).x)
        x = np.asarray(call(problem, jax.random.key(0)))[:, 0]
        of_mean = np.abs(x.mean(axis=0) - mean).max() / np.sqrt(np.diag(covariance)).max()
        of_covariance = np.linalg.norm(np.cov(x.T) - covariance) / np.linalg.norm(covariance)
        cells.append(f"{of_mean:.2f}, {of_covariance:.2f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)
