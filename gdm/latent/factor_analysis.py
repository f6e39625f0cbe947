"""Factor analysis, fitted by EM with an exact step of its loadings."""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Array, Key

from gdm import checks
from gdm.distributions.moments import variance_of_fit
from gdm.errors import NotFiniteError
from gdm.latent import linear_gaussian
from gdm.latent.linear_gaussian import LinearGaussian, Report
from gdm.model import Batch, Carry, Params


@dataclasses.dataclass(frozen=True)
class FactorAnalysis(LinearGaussian):
  """A linear-Gaussian model with a variance of noise, a uniqueness, for each dimension.

  `variance_floor` is a fraction of each dimension's own variance: without it a dimension that the latents explain
  wholly (a Heywood case) has a likelihood without bound in the limit.

  Attributes:
    num_iterations: of EM, at most.
    tolerance: it stops once an iteration gains less than this many nats per example.

  Example:
    model = FactorAnalysis(DataSpec((11,), None), latent_dims=4)
    params, carry = model.solve(key, batches)
  """

  num_iterations: int = 1000
  tolerance: float = 1e-6

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.at_least("num_iterations", self.num_iterations, 1)
    checks.at_least("tolerance", self.tolerance, 0)

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report: Report | None = None) -> tuple[Params, Carry]:
    """Return the parameters that EM finds from uniquenesses of half the variances; two passes in all.

    Every iteration sets the loadings to the best ones for the uniquenesses, in closed form, and then these by EM
    (Rubin and Thayer, 1982): ECME, which never lowers the likelihood and needs fewer iterations than EM. All is
    computed of the covariance alone. `report(iteration, {"nll"})` gives nats per example.
    """
    data = linear_gaussian.covariance_of(self.spec, batches)
    variances = variance_of_fit(data.mean, np.diagonal(data.covariance))
    unique, previous = 0.5 * variances, math.inf
    loadings = np.zeros((self.spec.num_dims, self.latent_dims))
    for iteration in range(self.num_iterations + 1):
      loadings, nll = self._loadings(data.covariance, unique)
      if not math.isfinite(nll):
        raise NotFiniteError(f"the log-likelihood is {-nll} nats per example at EM iteration {iteration}.")
      if report is not None:
        report(iteration, {"nll": nll})
      if iteration == self.num_iterations or previous - nll < self.tolerance:
        break
      # At loadings that are best for the uniquenesses EM leaves the loadings, and its step of the uniquenesses is
      # this. Each dimension's term has one maximum, so that clipping maximizes under the floor.
      explained = np.sum(np.square(loadings), axis=1)
      unique, previous = np.maximum(np.diagonal(data.covariance) - explained, self.variance_floor * variances), nll
    return linear_gaussian.as_parameters(data.mean, loadings, unique), {}

  def _loadings(self, covariance: np.ndarray, unique: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the loadings of the largest likelihood at given uniquenesses, and its negative in nats per example.

    They are the leading eigenvectors of the covariance in units of the noise, as in probabilistic PCA of noise 1.
    """
    scale = np.sqrt(unique)
    values, vectors = linear_gaussian.descending(covariance / np.outer(scale, scale))
    leading = np.maximum(values[:self.latent_dims], 1.0)
    loadings = scale[:, None] * vectors[:, :self.latent_dims] * np.sqrt(leading - 1.0)
    # A direction of variance v, modelled as m, costs (log m + v / m) / 2; the others are modelled as 1.
    costs = np.sum(np.log(leading) + values[:self.latent_dims] / leading) + np.sum(values[self.latent_dims:])
    constant = self.spec.num_dims * math.log(2.0 * math.pi)
    return loadings, 0.5 * float(costs + 2.0 * np.sum(np.log(scale)) + constant)
