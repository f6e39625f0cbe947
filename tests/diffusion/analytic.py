"""Data whose noised densities are known along every path: mixtures of isotropic Gaussians."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.paths.rectified_flow import RectifiedFlow
from gdm.diffusion.paths.variance_exploding import VE, EDMPath
from gdm.diffusion.paths.variance_preserving import Cosine, LogSNRLinear, PiecewiseBeta, SubVP, VPLinear

PATHS: dict[str, NoisePath] = {
    "vp_linear": VPLinear(), "cosine": Cosine(), "sub_vp": SubVP(), "log_snr_linear": LogSNRLinear(),
    "piecewise_beta": PiecewiseBeta((0.02, 0.1, 0.05, 0.3, 0.6, 0.7, 0.9, 0.95)), "ve": VE(), "edm": EDMPath(),
    "rectified_flow": RectifiedFlow(),
}


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Components of weights [k], means [k, dims] and one variance [k] each, as nested tuples."""

  weights: tuple[float, ...]
  means: tuple[tuple[float, ...], ...]
  variances: tuple[float, ...]

  def _parts(self, path, x, t):
    """log of weight and density of each component at x_t [batch, k], and E[x_0 | x_t, component] [batch, k, dims]."""
    alpha, sigma = (a[:, None] for a in path.level(t)[:2])
    variances, means = jnp.asarray(self.variances, x.dtype), jnp.asarray(self.means, x.dtype)
    total = alpha**2 * variances + sigma**2
    error = x[:, None] - alpha[..., None] * means
    log_density = -0.5 * (jnp.sum(error**2, -1) / total + x.shape[-1] * jnp.log(2.0 * jnp.pi * total))
    return jnp.log(jnp.asarray(self.weights)) + log_density, means + (alpha * variances / total)[..., None] * error

  def denoise(self, path):
    """E[x_0 | x_t], the best prediction of the data."""
    def function(x, t):
      log_parts, means = self._parts(path, x, t)
      return jnp.sum(jax.nn.softmax(log_parts, axis=-1)[..., None] * means, axis=1)

    return function

  def log_prob(self, path, x, t):
    """log p_t(x)."""
    return jax.nn.logsumexp(self._parts(path, x, t)[0], axis=-1)

  def log_density(self, x):
    """log p(x) of data."""
    variances, means = np.asarray(self.variances), np.asarray(self.means)
    error = np.sum((x[:, None] - means) ** 2, -1) / variances + x.shape[-1] * np.log(2.0 * np.pi * variances)
    return np.log(np.sum(np.asarray(self.weights) * np.exp(-0.5 * error), axis=-1))

  def sample(self, seed, num):
    rng = np.random.default_rng(seed)
    which = rng.choice(len(self.weights), size=num, p=self.weights)
    noise = rng.normal(size=(num, len(self.means[0])))
    return np.asarray(self.means)[which] + np.sqrt(np.asarray(self.variances))[which, None] * noise

  def moments(self):
    """Mean [dims] and covariance [dims, dims]."""
    weights, means = np.asarray(self.weights), np.asarray(self.means)
    mean = weights @ means
    scatter = (means - mean).T @ (weights[:, None] * (means - mean))
    return mean, scatter + weights @ np.asarray(self.variances) * np.eye(len(mean))


GAUSSIAN = Mixture((1.0,), ((0.4, -0.7),), (0.3,))
TWO = Mixture((0.3, 0.7), ((-0.9, 0.6), (0.8, 0.2)), (0.05, 0.2))


def moved(path, x, t, s):
  """Where the probability-flow ODE of `GAUSSIAN` takes x at time t to, at time s."""
  mean, variance = np.asarray(GAUSSIAN.means[0]), GAUSSIAN.variances[0]
  (alpha_t, sigma_t), (alpha_s, sigma_s) = path.level(t)[:2], path.level(s)[:2]
  ratio = jnp.sqrt((alpha_s**2 * variance + sigma_s**2) / (alpha_t**2 * variance + sigma_t**2))
  return alpha_s * mean + ratio * (x - alpha_t * mean)


class Counting:
  """A denoising function that counts the calls of the compiled program."""

  def __init__(self, function):
    self.function, self.calls = function, 0

  def __call__(self, x, t):
    jax.debug.callback(self._called)
    return self.function(x, t)

  def _called(self):
    self.calls += 1
