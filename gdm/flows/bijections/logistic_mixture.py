"""The elementwise transform of Flow++: the distribution function of a mixture of logistics, and a scale and shift."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm import checks
from gdm.distributions import logistic_mixture
from gdm.flows.bijections.transforms import Affine, Elementwise

# |log scale| of a component stays below this: wide enough for a level of 256 in the whole range of a logit.
MAX_LOG_SCALE = 7.0
# Components start this far from the middle, so that they are not all alike and learn to differ.
SPREAD = 1.0
# Each bisection halves the bracket; so many leave nothing of it in either floating type.
BISECTIONS = {"float32": 40, "float64": 80}


@dataclasses.dataclass(frozen=True)
class LogisticMixtureCDF:
  """y = logit(F(x)) exp(s) + shift, F the distribution function of a mixture of logistics (Flow++, Ho et al.,
  arXiv:1902.00275, section 3.2).

  Parameters of each number: the mixture's logits, means and log-scales, then shift and log-scale s, bounded as those of
  `Affine`. Near the identity where all are zero: components start apart. Its inverse is found by bisection, between
  where the first and the last component alone would have it, and has gradients.

  Attributes:
    num_components: of the mixture.
    bound: the largest |s|.

  Example:
    transform = LogisticMixtureCDF(num_components=2)
    layer, x = vector_coupling(Halves(), transform, dims=4), jax.random.normal(key, (16, 4))
    y, log_det = layer.apply(layer.init(key, x), x)
  """

  num_components: int = 8
  bound: float = 3.0

  def __post_init__(self) -> None:
    checks.at_least("num_components", self.num_components, 1)
    self.affine  # noqa: B018 - checks the bound

  @property
  def affine(self) -> Affine:
    return Affine(self.bound)

  @property
  def num_parameters(self) -> int:
    return 3 * self.num_components + self.affine.num_parameters

  def forward(self, x: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    mixture, rest = self._parts(parameters)
    y, log_slope = _logit_of_cdf(mixture, x)
    moved, log_scale = self.affine.forward(y, rest)
    return Elementwise(moved, log_slope + log_scale)

  def inverse(self, y: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    mixture, rest = self._parts(parameters)
    u, log_scale = self.affine.inverse(y, rest)
    start = jax.lax.stop_gradient(_bisected(*jax.lax.stop_gradient((mixture, u))))
    reached, log_slope = _logit_of_cdf(mixture, start)
    # One step of Newton's method: its derivative is that of the inverse (implicit function theorem), its value finer.
    step = (u - reached) * jnp.exp(-jax.lax.stop_gradient(log_slope))
    x = start + step
    return Elementwise(x, log_scale - _logit_of_cdf(mixture, x)[1])

  def _parts(self, parameters: Float[Array, "*shape num"]) -> tuple[tuple[Array, Array, Array], Array]:
    """Return logits, means and log-scales of the mixture, and the parameters of the affine transform."""
    num = self.num_components
    logits, means, log_scales, rest = jnp.split(parameters, (num, 2 * num, 3 * num), axis=-1)
    offsets = jnp.asarray(np.linspace(-SPREAD, SPREAD, num) if num > 1 else np.zeros(1), means.dtype)
    return (logits, means + offsets, MAX_LOG_SCALE * jnp.tanh(log_scales / MAX_LOG_SCALE)), rest


def _logit_of_cdf(mixture: tuple[Array, Array, Array], x: Float[Array, "*shape"]) -> tuple[Array, Array]:
  """Return logit(F(x)) and the log of its slope; both keep their linear terms far out in either tail."""
  logits, means, log_scales = mixture
  z = (x[..., None] - means) * jnp.exp(-log_scales)
  weights = jax.nn.log_softmax(logits, axis=-1)
  below = jax.nn.logsumexp(weights + jax.nn.log_sigmoid(z), axis=-1)
  above = jax.nn.logsumexp(weights + jax.nn.log_sigmoid(-z), axis=-1)
  return below - above, logistic_mixture.log_prob(logits, means, log_scales, x) - below - above


def _bisected(mixture: tuple[Array, Array, Array], u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Return where logit(F(x)) is u.

  Of one logistic, logit(F(x)) is (x - mean) / scale; of a mixture it lies between the components' least and largest, so
  that their solutions bracket it.
  """
  _, means, log_scales = mixture
  alone = means + jnp.exp(log_scales) * u[..., None]

  def halve(_, bracket):
    low, high = bracket
    middle = 0.5 * (low + high)
    beyond = _logit_of_cdf(mixture, middle)[0] > u
    return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

  low, high = jax.lax.fori_loop(0, BISECTIONS[str(u.dtype)], halve, (jnp.min(alone, -1), jnp.max(alone, -1)))
  return 0.5 * (low + high)
