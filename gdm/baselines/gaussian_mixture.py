"""Mixtures of Gaussians with diagonal or full covariances, fitted by EM."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from gdm.baselines import em, examples, seeding
from gdm.baselines.solved import Solved
from gdm.dataspec import DataSpec
from gdm.distributions import categorical
from gdm.distributions.moments import variance_of_fit
from gdm.errors import SpecError, nearest
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Params, PyTree, Samples

# Examples among which k-means++ looks for starting points.
SEEDING_EXAMPLES = 4000


@dataclasses.dataclass(frozen=True)
class GaussianMixture(Solved):
  """p(x) = sum_k w_k N(x; mean_k, factor_k factor_k^T).

  Parameters: "log_weights" [components]; "mean" [components, dims]; "factor": standard deviations [components, dims]
  of diagonal covariances, or lower Cholesky factors [components, dims, dims] of full ones.

  Attributes:
    spec: continuous data.
    num_components: how many Gaussians.
    covariance: "diag" or "full".
    variance_floor: smallest variance of a component in any direction, as a fraction of the data's, dimension by
      dimension. The M-step maximizes under this bound, so the likelihood still never falls.
    alpha: Dirichlet pseudo-count of each component's weight.
    num_restarts, restart_iterations, num_iterations, tolerance: see `gdm.baselines.em.EMSchedule`.
  """

  spec: DataSpec
  num_components: int = 20
  covariance: str = "full"
  variance_floor: float = 1e-3
  alpha: float = 1.0
  num_restarts: int = 4
  restart_iterations: int = 10
  num_iterations: int = 200
  tolerance: float = 1e-5

  def __post_init__(self) -> None:
    self.spec.require_whole("GaussianMixture")
    self.spec.require_continuous("GaussianMixture")
    if self.num_components < 1:
      raise SpecError(f"model.num_components is {self.num_components}; a mixture needs at least 1.")
    if self.covariance not in COVARIANCES:
      raise SpecError(f"model.covariance is {self.covariance!r}; {nearest(self.covariance, COVARIANCES)}")
    if not 0.0 < self.variance_floor < 1.0:
      raise SpecError(f"model.variance_floor is {self.variance_floor}; it must be in (0, 1).")
    if self.alpha < 0.0:
      raise SpecError(f"model.alpha is {self.alpha}; it must not be negative.")
    self._schedule.check()

  @property
  def _schedule(self) -> em.EMSchedule:
    return em.EMSchedule(self.num_restarts, self.restart_iterations, self.num_iterations, self.tolerance)

  @property
  def _covariance(self) -> "Covariance":
    return COVARIANCES[self.covariance]

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Equal weights, standard normals."""
    num, dims = self.num_components, self.spec.num_dims
    factor = self._covariance.factor(np.ones((num, dims)))
    return {"model": _parameters(np.full(num, 1.0 / num), np.zeros((num, dims)), factor)}, {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch],
            report: em.Report | None = None) -> tuple[Params, Carry]:
    """EM from several starts; three passes to prepare, then one per iteration."""
    centre, variance, _ = examples.moments(self.spec, batches)
    scale = np.sqrt(variance_of_fit(centre, variance))
    sample_key, fit_key = jax.random.split(key)
    points = (seeding.subsample(sample_key, self.spec, batches, SEEDING_EXAMPLES) - centre) / scale
    num = self.num_components

    def start(key):
      mean = seeding.spread_out(key, points, num, seeding.euclidean) * scale + centre
      # Each component begins with its share of the data's volume.
      spread = np.tile(scale, (num, 1)) * num ** (-1.0 / self.spec.num_dims)
      return _parameters(np.full(num, 1.0 / num), mean, self._covariance.factor(spread))

    def maximize(statistics, params):
      each = statistics["each"]
      # A component that no example wants keeps its place.
      share = np.divide(1.0, each, out=np.zeros_like(each), where=each > 1e-6)
      shift = statistics["first"] * share[:, None]
      old_mean = np.asarray(params["mean"], np.float64)
      factor = self._covariance.maximize(statistics["second"], shift, share, scale, self.variance_floor)
      return _parameters((each + self.alpha) / (each + self.alpha).sum(), old_mean + shift, factor)

    def log_prior(params):
      return float(self.alpha * np.asarray(params["log_weights"], np.float64).sum()) if self.alpha else 0.0

    steps = em.EMSteps(start, self._expect, maximize, log_prior)
    return {"model": em.fit(fit_key, steps, self._schedule, self.spec, batches, report)}, {}

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact log p(x), a log-density in nats."""
    joint = self._joint(params["model"], examples.flat(self.spec, batch))
    return examples.exact(self.spec, batch, jax.nn.logsumexp(joint, axis=-1))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw [num, *event]; `temperature` divides the log-probability of the component and of its Gaussian."""
    examples.check_options(condition, temperature, "GaussianMixture")
    component_key, noise_key = jax.random.split(key)
    log_weights = categorical.tempered(params["model"]["log_weights"], temperature)
    component = jax.random.categorical(component_key, log_weights, shape=(num,))
    noise = jnp.sqrt(temperature) * jax.random.normal(noise_key, (num, self.spec.num_dims))
    drawn = params["model"]["mean"][component] + self._covariance.apply(params["model"]["factor"][component], noise)
    return examples.as_samples(self.spec, drawn)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Draw the unknown dimensions from their exact conditional; any region: the component is drawn given the known."""
    flat, known = examples.flat(self.spec, {"x": x}), jnp.ravel(known)
    component_key, noise_key = jax.random.split(key)
    marginal = self._covariance.marginal(params["model"]["factor"], known)
    centred = jnp.where(known, flat[:, None, :] - params["model"]["mean"], 0.0)
    log_density = _log_normal(*self._covariance.whiten(marginal, centred))
    component = jax.random.categorical(component_key, params["model"]["log_weights"] + log_density)
    noise = jax.random.normal(noise_key, flat.shape)
    drawn = self._covariance.conditional(params["model"]["factor"][component], marginal[component], known,
                                         jnp.take_along_axis(centred, component[:, None, None], axis=1)[:, 0], noise)
    return examples.as_samples(self.spec, jnp.where(known, flat, params["model"]["mean"][component] + drawn))

  def _joint(self, params: PyTree, x: Float[Array, "batch dims"]) -> Float[Array, "batch components"]:
    """Return log w_k + log N(x; mean_k, ...)."""
    centred = x[:, None, :] - params["mean"]
    return params["log_weights"] + _log_normal(*self._covariance.whiten(params["factor"], centred))

  def _expect(self, x: Float[Array, "batch dims"], weight: Float[Array, " batch"], params: PyTree) -> PyTree:
    joint = self._joint(params, x)
    nats = jax.nn.logsumexp(joint, axis=-1)
    responsibility = weight[:, None] * jnp.exp(joint - nats[:, None])
    # Moments about the old means, which lose no digits to a large mean.
    centred = x[:, None, :] - params["mean"]
    return {"nats": weight @ nats, "count": jnp.sum(weight), "each": jnp.sum(responsibility, axis=0),
            "first": jnp.einsum("bk,bkd->kd", responsibility, centred),
            "second": self._covariance.second_moment(responsibility, centred)}


class Covariance(Protocol):
  """A representation of the factor F of a covariance F F^T; leading axes are components or examples."""

  def factor(self, scale: Float[np.ndarray, "components dims"]) -> np.ndarray:
    """Return the factor of independent dimensions with these standard deviations."""
    ...

  def whiten(self, factor: Float[Array, "components ..."], centred: Float[Array, "batch components dims"]
             ) -> tuple[Float[Array, "batch components dims"], Float[Array, " components"]]:
    """F^-1 x, and log |det F|."""
    ...

  def apply(self, factor: Float[Array, "batch ..."], noise: Float[Array, "batch dims"]) -> Float[Array, "batch dims"]:
    """F z."""
    ...

  def second_moment(self, responsibility: Float[Array, "batch components"],
                    centred: Float[Array, "batch components dims"]) -> Float[Array, "components ..."]:
    """sum_b r_bk x x^T, or its diagonal."""
    ...

  def maximize(self, second: np.ndarray, shift: np.ndarray, share: np.ndarray, scale: np.ndarray,
               floor: float) -> np.ndarray:
    """Return the likeliest factor whose covariance is at least `floor` times diag(scale^2) in every direction."""
    ...

  def marginal(self, factor: Float[Array, "components ..."], known: Bool[Array, " dims"]
               ) -> Float[Array, "components ..."]:
    """Return the factor of the known dimensions' covariance, with unit scale and no correlation in place of the
    others."""
    ...

  def conditional(self, factor: Float[Array, "batch ..."], marginal: Float[Array, "batch ..."],
                  known: Bool[Array, " dims"], centred: Float[Array, "batch dims"],
                  noise: Float[Array, "batch dims"]) -> Float[Array, "batch dims"]:
    """Return a draw of x - mean given its known dimensions, `centred`, which is 0 elsewhere."""
    ...


class DiagonalCovariance:
  """Factor: standard deviations [..., dims]."""

  def factor(self, scale):
    return scale

  def whiten(self, factor, centred):
    return centred / factor, jnp.sum(jnp.log(factor), axis=-1)

  def apply(self, factor, noise):
    return factor * noise

  def second_moment(self, responsibility, centred):
    return jnp.einsum("bk,bkd->kd", responsibility, jnp.square(centred))

  def maximize(self, second, shift, share, scale, floor):
    variance = second * share[:, None] - np.square(shift)
    return np.sqrt(np.maximum(variance, floor * np.square(scale)))

  def marginal(self, factor, known):
    return jnp.where(known, factor, 1.0)

  def conditional(self, factor, marginal, known, centred, noise):
    return factor * noise


class FullCovariance:
  """Factor: lower Cholesky factors [..., dims, dims]."""

  def factor(self, scale):
    return scale[:, :, None] * np.eye(scale.shape[1])

  def whiten(self, factor, centred):
    whitened = jax.scipy.linalg.solve_triangular(factor, jnp.moveaxis(centred, 0, -1), lower=True)
    return jnp.moveaxis(whitened, -1, 0), jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)

  def apply(self, factor, noise):
    return jnp.einsum("bij,bj->bi", factor, noise)

  def second_moment(self, responsibility, centred):
    return jnp.einsum("bk,bki,bkj->kij", responsibility, centred, centred)

  def maximize(self, second, shift, share, scale, floor):
    covariance = second * share[:, None, None] - shift[:, :, None] * shift[:, None, :]
    # -log|S| - tr(S^-1 C) subject to S >= floor, in units of the data's scale, is maximized by raising C's eigenvalues.
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    raised = np.einsum("kij,kj,klj->kil", vectors, np.maximum(values, floor), vectors)
    return np.linalg.cholesky(raised * np.outer(scale, scale))

  def marginal(self, factor, known):
    both = known[:, None] & known
    covariance = factor @ jnp.swapaxes(factor, -1, -2)
    return jnp.linalg.cholesky(jnp.where(both, covariance, jnp.eye(len(known))))

  def conditional(self, factor, marginal, known, centred, noise):
    # A joint draw z, moved by the regression on what it missed: z + C_uk C_kk^-1 (x_k - z_k), Matheron's rule.
    joint = self.apply(factor, noise)
    missed = jnp.where(known, centred - joint, 0.0)
    solved = jax.scipy.linalg.cho_solve((marginal, True), missed[..., None])
    return joint + (factor @ (jnp.swapaxes(factor, -1, -2) @ solved))[..., 0]


COVARIANCES: Mapping[str, Covariance] = {"diag": DiagonalCovariance(), "full": FullCovariance()}


def _log_normal(whitened: Float[Array, "batch components dims"],
                log_det: Float[Array, " components"]) -> Float[Array, "batch components"]:
  return jnp.sum(jax.scipy.stats.norm.logpdf(whitened), axis=-1) - log_det


def _parameters(weights: np.ndarray, mean: np.ndarray, factor: np.ndarray) -> PyTree:
  with np.errstate(divide="ignore"):  # without pseudo-counts a component may die: log 0
    log_weights = np.log(weights)
  return {"log_weights": jnp.asarray(log_weights, jnp.float32), "mean": jnp.asarray(mean, jnp.float32),
          "factor": jnp.asarray(factor, jnp.float32)}
