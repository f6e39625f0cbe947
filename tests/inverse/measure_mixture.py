"""Measures sliced Wasserstein distances of posterior samplers from exact posteriors, for docs/results/inverse.md.

  PYTHONPATH=tests python tests/inverse/measure_mixture.py [seeds] [dims] [rows]

Problems are drawn as by Cardoso et al. (arXiv:2308.07983, section 5.1): singular values of A uniform in [0, 1], noise
uniform between 0 and the largest of them, the truth from the prior. The floor is other exact draws.
"""

import sys
import time

import jax
import numpy as np
from helpers.exact_denoisers import grid_of_25
from helpers.sliced import sliced_wasserstein

from gdm.inverse.operators import projection
from gdm.inverse.problem import posed
from gdm.inverse.samplers.named import SAMPLERS

SCALE = 11.4  # about the deviation of each dimension
NUM = 2000
SETTINGS = {"particles": {"num_particles": NUM, "num_steps": 200}, "ddrm": {"num_steps": 200},
            "repaint": {"num_steps": 100}}
NOISELESS = ("replacement", "repaint")


def problem_of(seed, dims, rows):
  """Return prior, matrix, measurement [rows] and noise of a problem."""
  prior, rng = grid_of_25(dims, seed), np.random.default_rng(1000 + seed)
  u, _, vt = np.linalg.svd(rng.normal(size=(rows, dims)), full_matrices=False)
  singular = rng.random(rows)
  matrix, noise = u @ np.diag(singular) @ vt, rng.random() * singular.max()
  return prior, matrix, matrix @ prior.sample(seed, 1)[0] + noise * rng.normal(size=rows), noise


def distances(seed, dims, rows, names, num=NUM):
  """Return the distance of each sampler, and the floor's, in the data's units."""
  prior, matrix, y, noise = problem_of(seed, dims, rows)
  exact = prior.posterior(matrix, y, noise)
  denoiser, found = prior.denoiser(scale=SCALE), {}
  problem = posed(denoiser, projection((dims,), matrix), y[None].astype(np.float32), noise)
  reference = exact.sample(1, num)
  for name in names:
    settings = SETTINGS.get(name, {"num_steps": 200})
    call = jax.jit(lambda problem, key, name=name, settings=settings: SAMPLERS[name].function(
        denoiser, problem, key, num, **settings).x)
    x = SCALE * np.asarray(call(problem, jax.random.key(seed)))[:, 0]
    found[name] = sliced_wasserstein(x, reference)
  return {**found, "floor": sliced_wasserstein(exact.sample(2, num), reference)}


if __name__ == "__main__":
  seeds, dims, rows = (int(each) for each in [*sys.argv[1:], "20", "8", "1"][:3])
  names = [name for name in SAMPLERS if name not in NOISELESS]
  start, table = time.perf_counter(), []
  for seed in range(seeds):
    table.append(distances(seed, dims, rows, names))
    print(seed, {name: round(value, 2) for name, value in table[-1].items()}, flush=True)
  print(f"{dims} dims, {rows} measured, {seeds} seeds, {NUM} draws, {time.perf_counter() - start:.0f} s")
  for name in [*names, "floor"]:
    values = np.array([row[name] for row in table])
    print(f"{name:12} mean {values.mean():.2f} +- {1.96 * values.std(ddof=1) / np.sqrt(seeds):.2f}, median "
          f"{np.median(values):.2f}")
