"""The restricted Boltzmann machine on binary data (Smolensky, 1986; Hinton, 2002).

E(v, h) = -b.v - c.(h - 1/2) - (v - mu) W (h - 1/2), centred (Montavon and Müller, 2012; Melchior et al.,
arXiv:1311.1354) with mu the data's marginals: the same family of distributions as without, and gradients that do not
mix weights with biases. Hidden units are summed out analytically.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.energy.discrete import bernoulli_base
from gdm.energy.discrete.bernoulli_base import BinaryEnergy
from gdm.energy.discrete.enumeration import log_sum_over_states
from gdm.inference import gibbs
from gdm.model import Params

HIDDEN_OFFSET = 0.5


@dataclasses.dataclass(frozen=True)
class RBM(BinaryEnergy):
  """Binary visible and binary hidden units, a complete bipartite graph.

  Parameters: "weights" [dims, hidden], "visible_bias" [dims], "hidden_bias" [hidden].

  Attributes:
    num_hidden: hidden units.
    init_scale: standard deviation of the first weights.
  """

  num_hidden: int = 100
  init_scale: float = 0.01

  def __post_init__(self) -> None:
    self.spec.require_binary("RBM")
    check_hidden(self.num_hidden, self.init_scale)
    super().__post_init__()

  @property
  def num_enumerable(self) -> int:
    return min(self.num_dims, self.num_hidden)

  def init_params(self, key, x):
    base = bernoulli_base.fit(x)
    weights = self.init_scale * jax.random.normal(key, (self.num_dims, self.num_hidden))
    return {"weights": weights, "visible_bias": base["logits"], "hidden_bias": jnp.zeros(self.num_hidden)}, base

  def log_density(self, params, x, beta):
    """Return log f_beta(v): the base's logits turn into the model's, and hidden units are summed out (equation 17 of
    Salakhutdinov and Murray, 2008, whose base has hidden units without weights)."""
    fields = beta * self._fields(params, x)
    bias = self.bias_at(params, params["model"]["visible_bias"], beta)
    # As a sum, so that biases may be of each example: ConditionalRBM's are.
    return jnp.sum(x * bias, axis=-1) + jnp.sum(jax.nn.softplus(fields) - HIDDEN_OFFSET * fields, axis=-1)

  def transition(self, params, key, x, beta, known=None):
    """Block Gibbs: hidden units given the visible ones, and back."""
    bias = self.bias_at(params, params["model"]["visible_bias"], beta)

    def draw_hidden(key, x):
      return jax.random.bernoulli(key, jax.nn.sigmoid(beta * self._fields(params, x))).astype(x.dtype)

    def draw_visible(key, hidden):
      logits = bias + beta * ((hidden - HIDDEN_OFFSET) @ params["model"]["weights"].T)
      return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(x.dtype)

    return gibbs.block_sweep(key, x, draw_hidden, draw_visible, known)

  def base_log_normalizer(self, params):
    # Hidden units at beta 0 are fair coins: each contributes log 2.
    return bernoulli_base.log_normalizer(self.start_of(params)) + self.num_hidden * jnp.log(2.0)

  def enumerated_log_normalizer(self, params):
    """Sum over the states of the smaller side; the other is summed out."""
    if self.num_dims < self.num_hidden:
      return log_sum_over_states(lambda x: self.log_density(params, x, 1.0), self.num_dims)
    model, mean = params["model"], bernoulli_base.mean(params["base"])

    def log_weight(hidden):
      centred = hidden - HIDDEN_OFFSET
      pull = centred @ model["weights"].T
      return (centred @ model["hidden_bias"] - pull @ mean
              + jnp.sum(jax.nn.softplus(model["visible_bias"] + pull), axis=-1))

    return log_sum_over_states(log_weight, self.num_hidden)

  def _fields(self, params: Params, x: Float[Array, "*lead dims"]) -> Float[Array, "*lead hidden"]:
    """Return the log-odds of each hidden unit, (v - mu) W + c."""
    model = params["model"]
    return (x - bernoulli_base.mean(params["base"])) @ model["weights"] + model["hidden_bias"]


def check_hidden(num_hidden: int, init_scale: float) -> None:
  """Raise ConfigError for a layer without units, or a negative scale."""
  checks.at_least("model.num_hidden", num_hidden, 1)
  checks.at_least("model.init_scale", init_scale, 0)
