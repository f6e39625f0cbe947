"""The restricted Boltzmann machine given a context, which shifts the biases of both its layers.

log f(v | s) = (b + s A).v + sum_j softplus(c_j + (s B)_j + (v - mu) W_j) up to centring: the frame model of the RNN-RBM
(Boulanger-Lewandowski et al., arXiv:1206.6392, section 3.3) with the state of a recurrent network as the context, and
the conditional RBM of Taylor, Hinton and Roweis (NIPS 2006) with the frames before. log Z is another for each context.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import batches, checks
from gdm.batches import checked, condition_context, given_context
from gdm.dataspec import DataSpec
from gdm.docstrings import DocumentsFields
from gdm.energy.discrete.rbm import HIDDEN_OFFSET, RBM, check_hidden
from gdm.errors import SpecError
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Condition, LossOutput, Objective, Params, Samples

NORMALIZERS = ("auto", "exact", "ais")


@dataclasses.dataclass(frozen=True)
class ConditionalRBM(DocumentsFields):
  """An RBM on binary data given a context, trained by contrastive divergence.

  Parameters: the group "model" with "weights" [dims, hidden], "visible_bias", "hidden_bias", and "context_visible"
  [width, dims] and "context_hidden" [width, hidden], at first zero; and "base", which nothing moves: the marginals of
  the first batch, at which visible units are centred.

  Attributes:
    spec: the data, with a context.
    num_hidden: hidden units.
    init_scale: standard deviation of the first weights.
    num_steps: Gibbs steps from the data per training step, the k of CD-k.
    normalizer: "exact" sums over the states of the smaller layer for every example; "ais" bounds log p by annealing
      (see gdm/energy/normalizers.py) from independent units that stand near the model given the context; "auto" is
      exact where that layer has at most 8 units.
    num_temperatures: steps between the base and the model, in annealing.

  Example:
    model = ConditionalRBM(DataSpec((88,), 2, context_dims=100), num_hidden=150)
  """

  spec: DataSpec
  num_hidden: int = 100
  init_scale: float = 0.01
  num_steps: int = 10
  normalizer: str = "auto"
  num_temperatures: int = 200

  def __post_init__(self) -> None:
    if not self.spec.context_dims:
      raise SpecError("ConditionalRBM needs data with a context (spec.context_dims); rbm is the model without one.")
    check_hidden(self.num_hidden, self.init_scale)
    checks.one_of("model.normalizer", self.normalizer, NORMALIZERS)
    _ = self.rbm  # checks the rest

  @property
  def context_conditional(self) -> bool:
    return True

  @property
  def rbm(self) -> RBM:
    """The machine given one context."""
    normalizer = self.normalizer
    if normalizer == "auto":
      normalizer = "exact" if min(self.spec.num_dims, self.num_hidden) <= 8 else "ais"
    return RBM(dataclasses.replace(self.spec, context_dims=0), "cd", self.num_steps, normalizer=normalizer,
               num_temperatures=self.num_temperatures, num_hidden=self.num_hidden, init_scale=self.init_scale)

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(groups=("model",), loss=self.loss, unit="nats"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    params, carry = self.rbm.init(key, {"x": batch["x"]})
    width = self.spec.context_dims
    model = {**params["model"], "context_visible": jnp.zeros((width, self.spec.num_dims)),
             "context_hidden": jnp.zeros((width, self.num_hidden))}
    return {**params, "model": model}, carry

  def given(self, params: Params, context: Float[Array, "*batch width"]) -> Params:
    """Return parameters of `rbm` given a context, or with biases of each example given theirs; annealing starts from
    "start", which mean-field theory places."""
    model = params["model"]
    visible = model["visible_bias"] + context @ model["context_visible"]
    hidden = model["hidden_bias"] + context @ model["context_hidden"]
    near = visible + (jax.nn.sigmoid(hidden) - HIDDEN_OFFSET) @ model["weights"].T
    return {"model": {"weights": model["weights"], "visible_bias": visible, "hidden_bias": hidden},
            "base": params["base"], "start": {"logits": jax.lax.stop_gradient(near)}}

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the energy gap between the data and the chains that start there, in nats; see `GibbsEnergy.loss`."""
    context: Any = given_context(self, batch)
    return self.rbm.loss(self.given(params, context), carry, {"x": batch["x"]}, key, step)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x | context): exact, or a lower bound of the annealed sampler's, as for `GibbsEnergy`."""
    def one(x: Array, context: Array, key: Key[Array, ""]) -> Array:
      return self.rbm.log_likelihood(self.given(params, context), {}, {"x": x[None]}, key, num_samples).nats[0]

    nats = self._each(one, batch["x"], given_context(self, batch), key)
    kind = Kind.EXACT if self.rbm.normalizer == "exact" else Kind.SAMPLER_BOUND
    found = LogLikelihood.of(nats, self.spec.num_dims, kind, batches.given(self), unbiased=True)
    return checked(self.spec, batch, found)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             num_steps: int = 0) -> Samples:
    """Draw x [num, *event], each by annealing from the base and `num_steps` further Gibbs steps at the model.

    Raise SpecError for a condition that is missing or of another width.
    """
    def one(context: Array, key: Key[Array, ""]) -> Array:
      return self.rbm.sample(self.given(params, context), {}, key, 1, num_steps=num_steps).x[0]

    context: Any = condition_context(self, condition, num)
    x = jax.vmap(one)(context, jax.random.split(key, num))
    return Samples(x, {"nfe": self.num_temperatures + num_steps})

  def _each(self, function: Any, x: Any, context: Any, key: Key[Array, ""]) -> Any:
    """Return a function's results for each example alone."""
    x = jnp.asarray(x)
    return jax.vmap(function)(x, context, jax.random.split(key, len(x)))
