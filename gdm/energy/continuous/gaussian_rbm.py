"""The restricted Boltzmann machine on real data, with Gaussian visible units (Welling et al., 2004; Cho et al., 2011).

E(v, h) = |(v - b) / sigma|^2 / 2 - c.(h - 1/2) - ((v - mu) / sigma^2) W (h - 1/2), so that v given h is a Gaussian with
mean b + W (h - 1/2) and deviations sigma: a mixture of 2^hidden Gaussians of one shape. Energies are in the data's own
units, and so is the density.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.distributions.moments import moments
from gdm.energy.discrete.enumeration import log_sum_over_states
from gdm.energy.discrete.rbm import HIDDEN_OFFSET, check_hidden
from gdm.energy.gibbs_energy import GibbsEnergy
from gdm.inference import gibbs
from gdm.model import Params

FAR = 3.0  # deviations of the base, as far as modes that it may miss are looked for


@dataclasses.dataclass(frozen=True)
class GaussianRBM(GibbsEnergy):
  """Real visible and binary hidden units.

  Parameters: "weights" [dims, hidden], "visible_bias" and "log_scale" [dims], "hidden_bias" [hidden].

  Attributes:
    num_hidden: hidden units.
    init_scale: standard deviation of the first weights, in deviations of the data.
  """

  num_hidden: int = 50
  init_scale: float = 0.01

  def __post_init__(self) -> None:
    self.spec.require_continuous("GaussianRBM")
    check_hidden(self.num_hidden, self.init_scale)
    super().__post_init__()

  @property
  def num_enumerable(self) -> int:
    return self.num_hidden

  def init_params(self, key, x):
    mean, scale, _ = moments(x)
    base = {"mean": mean, "log_scale": jnp.log(scale)}
    weights = self.init_scale * scale[:, None] * jax.random.normal(key, (self.num_dims, self.num_hidden))
    return {"weights": weights, "visible_bias": base["mean"], "log_scale": base["log_scale"],
            "hidden_bias": jnp.zeros(self.num_hidden)}, base

  def log_density(self, params, x, beta):
    """Return log f_beta(v): the geometric path between two Gaussians, hidden units summed out."""
    model, base = params["model"], self.start_of(params)
    fields = beta * self._fields(params, x)
    return ((1.0 - beta) * _log_bell(x, base["mean"], base["log_scale"])
            + beta * _log_bell(x, model["visible_bias"], model["log_scale"])
            + jnp.sum(jax.nn.softplus(fields) - HIDDEN_OFFSET * fields, axis=-1))

  def transition(self, params, key, x, beta, known=None):
    """Block Gibbs: hidden units given the visible ones, and back."""
    model, base = params["model"], self.start_of(params)

    def draw_hidden(key, x):
      return jax.random.bernoulli(key, jax.nn.sigmoid(beta * self._fields(params, x))).astype(x.dtype)

    def draw_visible(key, hidden):
      mean = model["visible_bias"] + (hidden - HIDDEN_OFFSET) @ model["weights"].T
      of_base, of_model = (1.0 - beta) * jnp.exp(-2.0 * base["log_scale"]), beta * jnp.exp(-2.0 * model["log_scale"])
      precision = of_base + of_model
      centre = (of_base * base["mean"] + of_model * mean) / precision
      return centre + jax.random.normal(key, centre.shape, centre.dtype) / jnp.sqrt(precision)

    return gibbs.block_sweep(key, x, draw_hidden, draw_visible, known)

  def base_log_normalizer(self, params):
    return _log_bell_integral(self.start_of(params)["log_scale"]) + self.num_hidden * jnp.log(2.0)

  def sample_base(self, params, key, num):
    base = self.start_of(params)
    return base["mean"] + jnp.exp(base["log_scale"]) * jax.random.normal(key, (num, self.num_dims))

  def sample_elsewhere(self, params, key, num):
    """Return the base's draws mirrored about the model's own bias, and spread out three times as wide."""
    mirror_key, wide_key = jax.random.split(key)
    centre = params["base"]["mean"]
    mirrored = 2.0 * params["model"]["visible_bias"] - self.sample_base(params, mirror_key, num)
    return [mirrored, centre + FAR * (self.sample_base(params, wide_key, num) - centre)]

  def spread(self, params):
    return jnp.exp(params["base"]["log_scale"])

  def fit_base(self, params, x, weights):
    """Fit by moments, with the base's own variance counted as one state's, so that few states have a spread."""
    total = jnp.sum(weights)
    mean = weights @ x / jnp.maximum(total, 1.0)
    squares = weights @ jnp.square(x - mean) + jnp.exp(2.0 * params["base"]["log_scale"])
    return {"mean": mean, "log_scale": 0.5 * jnp.log(squares / (total + 1.0))}

  def enumerated_log_normalizer(self, params):
    """Sum over the states of the hidden units; the Gaussians' integrals are known."""
    model, mean = params["model"], params["base"]["mean"]
    precision = jnp.exp(-2.0 * model["log_scale"])

    def log_weight(hidden):
      centred = hidden - HIDDEN_OFFSET
      shift = centred @ model["weights"].T
      pull = shift * (0.5 * shift + model["visible_bias"] - mean)
      return centred @ model["hidden_bias"] + pull @ precision

    return log_sum_over_states(log_weight, self.num_hidden) + _log_bell_integral(model["log_scale"])

  def _fields(self, params: Params, x: Float[Array, "*lead dims"]) -> Float[Array, "*lead hidden"]:
    """Return the log-odds of each hidden unit, ((v - mu) / sigma^2) W + c."""
    model = params["model"]
    return ((x - params["base"]["mean"]) * jnp.exp(-2.0 * model["log_scale"])) @ model["weights"] + model["hidden_bias"]


def _log_bell(x: Float[Array, "*lead dims"], mean: Float[Array, " dims"],
              log_scale: Float[Array, " dims"]) -> Float[Array, "*lead"]:
  """Return a Gaussian's log-density without its constant."""
  return -0.5 * jnp.sum(jnp.square((x - mean) * jnp.exp(-log_scale)), axis=-1)


def _log_bell_integral(log_scale: Float[Array, " dims"]) -> Float[Array, ""]:
  return jnp.sum(log_scale + 0.5 * math.log(2.0 * math.pi))
