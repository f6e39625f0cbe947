"""Linear-Gaussian models of latents: x = mean + W z + noise, whose densities and conditionals are all Gaussian.

With z from N(0, I) and independent noise of variances psi, x has the covariance W W^T + diag(psi). Its inverse is never
formed: with A = diag(psi)^-1/2 W and u = diag(psi)^-1/2 (x - mean), u^T (A A^T + I)^-1 u is the least value of
|u - A z|^2 + |z|^2 over z, which is found at the posterior mean m = (I + A^T A)^-1 A^T u. This sum of squares loses no
digits where noise is small.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from gdm import checks
from gdm.batches import check_rows, checked, require_no_lengths
from gdm.dataspec import DataSpec
from gdm.docstrings import DocumentsFields
from gdm.errors import ConfigError, DataError, SpecError
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Objective, Params, PyTree, Samples

Report = Callable[[int, Mapping[str, float]], None]


class DataMoments(NamedTuple):
  """Moments of a data set, in float64.

  Attributes:
    mean: [dims].
    covariance: [dims, dims], divided by the number of examples.
    num_examples: how many.
  """

  mean: np.ndarray
  covariance: np.ndarray
  num_examples: int


class Conditional(NamedTuple):
  """The Gaussian of whole examples given some of their dimensions.

  Attributes:
    mean: equal to the example in its known dimensions.
    covariance: of every example alike; 0 where a dimension is known.
  """

  mean: Float[Array, "batch dims"]
  covariance: Float[Array, "dims dims"]


@dataclasses.dataclass(frozen=True)
class LinearGaussian(DocumentsFields, abc.ABC):
  """p(z) = N(0, I), p(x | z) = N(mean + W z, diag(psi)).

  Parameters: "mean" [dims], "loadings" W [dims, latent_dims], "variance" psi [dims].

  Attributes:
    spec: continuous data.
    latent_dims: dimensions of z, fewer than those of x.
    variance_floor: least variance of the noise, as a fraction of the data's; the likelihood is maximized under this
      bound, without which it has no maximum where dimensions determine each other.
  """

  spec: DataSpec
  latent_dims: int = 2
  variance_floor: float = 1e-6

  def __post_init__(self) -> None:
    name = type(self).__name__
    self.spec.require_whole(name)
    self.spec.require_continuous(name)
    checks.at_least("latent_dims", self.latent_dims, 1)
    if self.spec.num_dims < 2:
      raise SpecError(f"{name} explains dimensions by fewer latents, but the data has one dimension; choose "
                      "independent or gaussian_mixture.")
    if self.latent_dims >= self.spec.num_dims:
      raise ConfigError(f"latent_dims is {self.latent_dims}, but the data has {self.spec.num_dims} dimensions; it must "
                        f"be at most {self.spec.num_dims - 1}, which is a Gaussian of any covariance.")
    if not 0.0 < self.variance_floor < 1.0:
      raise ConfigError(f"variance_floor is {self.variance_floor}; it must be in (0, 1).")

  @abc.abstractmethod
  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report: Report | None = None) -> tuple[Params, Carry]:
    """Return the parameters of the largest likelihood."""

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return ()

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return a standard normal."""
    dims = self.spec.num_dims
    return as_parameters(np.zeros(dims), np.zeros((dims, self.latent_dims)), np.ones(dims)), {}

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return the exact log p(x), a log-density in nats."""
    own = params["model"]
    u, loadings = self._whitened(own, batch["x"]), own["loadings"] / jnp.sqrt(own["variance"])[:, None]
    z, factor = _posterior(loadings, u)
    squares = jnp.sum(jnp.square(u - z @ loadings.T), axis=1) + jnp.sum(jnp.square(z), axis=1)
    log_det = jnp.sum(jnp.log(own["variance"])) + 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    nats = -0.5 * (squares + log_det + self.spec.num_dims * math.log(2.0 * math.pi))
    return checked(self.spec, batch, LogLikelihood.of(nats, self.spec.num_dims))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw x [num, *event]; `temperature` divides the log-density, and so multiplies the covariance."""
    checks.unconditional(self, condition)
    checks.temperature(temperature, zero=True)
    latent_key, noise_key = jax.random.split(key)
    z = jax.random.normal(latent_key, (num, self.latent_dims))
    return self._as_samples(self._decoded(params, z, noise_key, math.sqrt(temperature)))

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch dims"]:
    """Return the posterior mean of each example's latents, (I + A^T A)^-1 A^T u."""
    own = params["model"]
    return _posterior(own["loadings"] / jnp.sqrt(own["variance"])[:, None], self._whitened(own, batch["x"]))[0]

  def decode(self, params: Params, carry: Carry, latent: PyTree, key: Key[Array, ""],
             condition: Array | None = None) -> Float[Array, "batch *event"]:
    """Return the mean of x given each latent [batch, latent_dims]."""
    checks.unconditional(self, condition)
    if latent.ndim != 2 or latent.shape[1] != self.latent_dims:
      raise SpecError(f"latent has shape {latent.shape}; it must be (batch, {self.latent_dims}).")
    own = params["model"]
    return (own["mean"] + latent @ own["loadings"].T).reshape(-1, *self.spec.event)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
               known: Bool[Array | np.ndarray, "*event"]) -> Samples:
    """Draw the unknown dimensions from their exact conditional, for any region: latents given the known ones, then x
    given the latents."""
    own, flat, known = params["model"], self._flat(x), jnp.ravel(jnp.asarray(known))
    latent_key, noise_key = jax.random.split(key)
    mean, factor = _posterior(*self._known(own, flat, known))
    # The posterior's covariance is (L L^T)^-1: L^-T e has it.
    noise = jax.random.normal(latent_key, mean.shape)
    z = mean + jax.scipy.linalg.solve_triangular(factor.T, noise.T, lower=False).T
    drawn = self._decoded(params, z, noise_key)
    return self._as_samples(jnp.where(known, flat, drawn))

  def conditional(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
                  known: Bool[Array | np.ndarray, "*event"]) -> Conditional:
    """Return the Gaussian of x given its dimensions where `known`; what x holds elsewhere is of no account."""
    own, flat, known = params["model"], self._flat(x), jnp.ravel(jnp.asarray(known))
    z, factor = _posterior(*self._known(own, flat, known))
    mean = jnp.where(known, flat, own["mean"] + z @ own["loadings"].T)
    half = jax.scipy.linalg.solve_triangular(factor, own["loadings"].T, lower=True)
    covariance = half.T @ half + jnp.diag(own["variance"])
    return Conditional(mean, jnp.where(known[:, None] | known, 0.0, covariance))

  def _known(self, own: PyTree, x: Float[Array, "batch dims"], known: Bool[Array, " dims"]
             ) -> tuple[Float[Array, "dims latents"], Float[Array, "batch dims"]]:
    """Return A and u with zeros in unknown dimensions, which then tell nothing of z."""
    loadings = own["loadings"] / jnp.sqrt(own["variance"])[:, None]
    return jnp.where(known[:, None], loadings, 0.0), jnp.where(known, self._whitened(own, x), 0.0)

  def _whitened(self, own: PyTree, x: Num[Array | np.ndarray, "batch *event"]) -> Float[Array, "batch dims"]:
    return (self._flat(x) - own["mean"]) / jnp.sqrt(own["variance"])

  def _decoded(self, params: Params, z: Float[Array, "num latents"], key: Key[Array, ""],
               scale: int | float = 1.0) -> Float[Array, "num dims"]:
    """Draw x given z; `scale` multiplies all that differs from the mean."""
    own = params["model"]
    noise = jnp.sqrt(own["variance"]) * jax.random.normal(key, (z.shape[0], self.spec.num_dims))
    return own["mean"] + scale * (z @ own["loadings"].T + noise)

  def _flat(self, x: Num[Array | np.ndarray, "batch *more"]) -> Float[Array, "batch dims"]:
    return jnp.asarray(x, jnp.float32).reshape(x.shape[0], self.spec.num_dims)

  def _as_samples(self, x: Float[Array, "num dims"]) -> Samples:
    return Samples(x.reshape(-1, *self.spec.event), {})


def covariance_of(spec: DataSpec, batches: Iterable[Batch]) -> DataMoments:
  """Return mean and covariance of all examples, in two passes: a mean far from zero costs no digits.

  Raises:
    DataError: there is no batch, or one holds values that the spec does not allow.
  """
  total, count = np.zeros(spec.num_dims), 0
  for batch in batches:
    x = _rows(spec, batch, count)
    total, count = total + x.sum(axis=0), count + len(x)
  if not count:
    raise DataError("there is no batch to fit to; `batches` must serve all training examples on every pass.")
  mean, squares = total / count, np.zeros((spec.num_dims, spec.num_dims))
  for batch in batches:
    centred = _rows(spec, batch) - mean
    squares += centred.T @ centred
  return DataMoments(mean, squares / count, count)


def as_parameters(mean: np.ndarray, loadings: np.ndarray, variance: np.ndarray) -> dict[str, PyTree]:
  """Return the parameters of a model, in float32."""
  return {"model": {"mean": jnp.asarray(mean, jnp.float32), "loadings": jnp.asarray(loadings, jnp.float32),
                    "variance": jnp.asarray(variance, jnp.float32)}}


def descending(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Return eigenvalues, largest first and none negative, and eigenvectors [dims, dims] as columns.

  The sign of each vector is such that its entry of the largest magnitude is positive.
  """
  values, vectors = np.linalg.eigh(covariance)
  values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
  largest = vectors[np.argmax(np.abs(vectors), axis=0), np.arange(len(values))]
  return values, vectors * np.where(largest < 0, -1.0, 1.0)


def _posterior(loadings: Float[Array, "dims latents"], u: Float[Array, "batch dims"]
               ) -> tuple[Float[Array, "batch latents"], Float[Array, "latents latents"]]:
  """Return the posterior mean of z, and the Cholesky factor of its precision I + A^T A."""
  factor = jnp.linalg.cholesky(jnp.eye(loadings.shape[1]) + loadings.T @ loadings)
  return jax.scipy.linalg.cho_solve((factor, True), (u @ loadings).T).T, factor


def _rows(spec: DataSpec, batch: Batch, first: int = 0) -> np.ndarray:
  """Return the real examples of a batch, flat, in float64; a DataError names the first bad value."""
  require_no_lengths(spec, batch)
  rows = {name: np.asarray(value) for name, value in batch.items()}
  check_rows(spec, rows, "the data to fit to", first + np.arange(len(rows["x"])))
  x = rows["x"].reshape(len(rows["x"]), -1).astype(np.float64)
  return x[rows["mask"] > 0] if "mask" in rows else x
