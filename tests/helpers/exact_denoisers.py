"""Priors whose denoiser and posteriors given linear measurements are known: mixtures of normals of one covariance."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gdm.diffusion.paths.variance_exploding import EDMPath
from gdm.model import Denoiser


@dataclasses.dataclass(frozen=True)
class NormalMixture:
  """Components of weights [k], means [k, dims] and one covariance [dims, dims]."""

  weights: np.ndarray
  means: np.ndarray
  covariance: np.ndarray

  def denoiser(self, path=None, scale=1.0):
    """Return the exact denoiser of values x / scale."""
    path = EDMPath() if path is None else path
    eigenvalues, basis = np.linalg.eigh(self.covariance / scale**2)
    log_weights, means = jnp.log(jnp.asarray(self.weights)), jnp.asarray(self.means @ basis / scale, jnp.float32)
    basis, variances = jnp.asarray(basis, jnp.float32), jnp.asarray(eigenvalues, jnp.float32)

    def mean(x, t):
      alpha, sigma = path.alpha(t)[:, None], path.sigma(t)[:, None]
      total = alpha**2 * variances + sigma**2
      error = (x @ basis)[:, None] - alpha[..., None] * means
      log_parts = log_weights - 0.5 * jnp.sum(error**2 / total[:, None], axis=-1)
      each = means + (alpha * variances / total)[:, None] * error
      return jnp.sum(jax.nn.softmax(log_parts, axis=-1)[..., None] * each, axis=1) @ basis.T

    return Denoiser(mean, path.alpha, path.sigma, path.log_snr, path.time, path.ends, 0.0, scale)

  def posterior(self, matrix, y, noise):
    """Return the mixture of x given y [rows] = matrix x + noise."""
    gram = matrix @ self.covariance @ matrix.T + noise**2 * np.eye(len(matrix))
    gain = np.linalg.solve(gram, matrix @ self.covariance).T
    errors = y - self.means @ matrix.T
    log_weights = np.log(self.weights) - 0.5 * np.sum(errors * np.linalg.solve(gram, errors.T).T, axis=1)
    weights = np.exp(log_weights - log_weights.max())
    covariance = self.covariance - gain @ matrix @ self.covariance
    return NormalMixture(weights / weights.sum(), self.means + errors @ gain.T, 0.5 * (covariance + covariance.T))

  def moments(self):
    """Return mean [dims] and covariance [dims, dims]."""
    mean = self.weights @ self.means
    error = self.means - mean
    return mean, error.T @ (self.weights[:, None] * error) + self.covariance

  def sample(self, seed, num):
    rng = np.random.default_rng(seed)
    which = rng.choice(len(self.weights), size=num, p=self.weights)
    values, basis = np.linalg.eigh(self.covariance)
    noise = rng.normal(size=(num, len(values))) * np.sqrt(np.maximum(values, 0.0))
    return self.means[which] + noise @ basis.T


def normal(dims, seed=0, eigenvalues=None):
  """Return one normal of a random mean and basis."""
  rng = np.random.default_rng(seed)
  basis, _ = np.linalg.qr(rng.normal(size=(dims, dims)))
  eigenvalues = np.geomspace(1.5, 0.2, dims) if eigenvalues is None else np.asarray(eigenvalues)
  return NormalMixture(np.ones(1), rng.normal(size=(1, dims)) * 0.5, basis @ np.diag(eigenvalues) @ basis.T)


def grid_of_25(dims, seed=0):
  """Return the mixture of Cardoso et al. (arXiv:2308.07983, section 5): 25 unit normals whose means repeat (8i, 8j)."""
  rng = np.random.default_rng(seed)
  means = np.array([[8.0 * i, 8.0 * j] * (dims // 2) for i in range(-2, 3) for j in range(-2, 3)])
  weights = rng.chisquare(1, size=25)
  return NormalMixture(weights / weights.sum(), means, np.eye(dims))
