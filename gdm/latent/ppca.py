"""Probabilistic principal component analysis (Tipping and Bishop, 1999), in closed form."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Array, Key

from gdm.distributions.moments import variance_of_fit
from gdm.latent import linear_gaussian
from gdm.latent.linear_gaussian import LinearGaussian, Report
from gdm.model import Batch, Carry, Params


@dataclasses.dataclass(frozen=True)
class PPCA(LinearGaussian):
  """A linear-Gaussian model whose noise has one variance; with dims - 1 latents, a Gaussian of any covariance.

  `variance_floor` is a fraction of the mean variance of the data's dimensions.

  Example:
    model = PPCA(DataSpec((11,), None), latent_dims=4)
    params, carry = model.solve(key, batches)
  """

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report: Report | None = None) -> tuple[Params, Carry]:
    """Return W = U (Lambda - sigma^2 I)^1/2 of the leading eigenpairs of the data's covariance, and sigma^2, the mean
    of the other eigenvalues: equations (7) and (8), with R = I. Two passes."""
    data = linear_gaussian.covariance_of(self.spec, batches)
    values, vectors = linear_gaussian.descending(data.covariance)
    variances = np.diagonal(data.covariance)
    fitted = variance_of_fit(data.mean, variances)
    floor = self.variance_floor * float(np.mean(variances if np.any(variances == fitted) else fitted))
    noise = max(float(np.mean(values[self.latent_dims:])), floor)
    leading = np.maximum(values[:self.latent_dims] - noise, 0.0)
    loadings = vectors[:, :self.latent_dims] * np.sqrt(leading)
    return linear_gaussian.as_parameters(data.mean, loadings, np.full(self.spec.num_dims, noise)), {}
