"""The model by unmasking: a network that fills in masked dimensions, and all that follows from it.

A masking says how masks are drawn in training, with which weight (gdm/discrete_diffusion/maskings.py): that is all by
which masked diffusion and order-agnostic autoregression differ.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm import checks
from gdm.batches import checked, condition_context, context_width, given, given_context, num_real, real_dims
from gdm.dataspec import DataSpec
from gdm.discrete_diffusion.ensemble import FixedOrders, masked_padding
from gdm.discrete_diffusion.maskings import LearnedMasking, Masking, Orders
from gdm.discrete_diffusion.networks.choice import network_for
from gdm.discrete_diffusion.orders import (
  LogProbs,
  all_orders_log_prob,
  draw_orders,
  mean_of_exp,
  order_log_prob,
  random_orders,
)
from gdm.discrete_diffusion.samplers import SAMPLERS, unmask
from gdm.errors import ConfigError, nearest
from gdm.inference.generation import TokenChoice
from gdm.inference.stratified import low_discrepancy_ranks
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Condition, LossOutput, Mean, Objective, Params, Samples

LIKELIHOODS = ("bound", "orders", "ensemble", "exact")
MAX_DEFAULT_STEPS = 256  # passes of the network for a sample, where no number is given


@dataclasses.dataclass(frozen=True)
class MaskedModel:
  """A model of discrete data by unmasking.

  Ways to score:
    bound: the variational bound, one pass of the network for each sample; the exponential of a draw is not unbiased.
    orders: log of the mean over `num_samples` random orders of p(x | order), D passes each: importance weighting, so
      that it is a tighter bound with more samples, and may be mixed.
    ensemble: the uniform mixture of `num_orders` fixed orders, exactly; what `experiments.compress` codes.
    exact: the mixture of all orders, exactly; at most 12 dimensions.
  The last three are about unmasking one dimension at a time, whatever the number of steps of the masking. Padding of
  examples with lengths stays masked and is not scored.

  Example:
    model = MaskedModel(DataSpec((8, 8, 1), 17), Orders())
    params, carry = model.init(key, batch)
    images = model.complete(params, carry, key, x, known).x

  Attributes:
    spec: the data, which must be discrete.
    masking: distribution of masks in training, and the bound's.
    network: a `LogitsNetwork`; None is residual convolutions for images, else a perceptron.
    sampler: name of a rule, see gdm/discrete_diffusion/samplers.py.
    steps: passes of the network for a sample; 0 is the masking's number of steps, or one for each dimension, at most
      256.
    likelihood: way to score: bound, orders, ensemble or exact.
    num_orders: orders of the ensemble.
    order_seed: makes the orders of the ensemble.
    class_conditional: whether the network is given the labels "y".
  """

  spec: DataSpec
  masking: Masking | LearnedMasking = dataclasses.field(default_factory=Orders)
  network: nn.Module | None = None
  sampler: str = "one_by_one"
  steps: int = 0
  likelihood: str = "bound"
  num_orders: int = 1
  order_seed: int = 0
  class_conditional: bool = False

  def __post_init__(self) -> None:
    self.spec.require_discrete("discrete diffusion")
    checks.classes(self.spec, self.class_conditional)
    checks.one_of("likelihood", self.likelihood, LIKELIHOODS)
    checks.one_of("sampler", self.sampler, SAMPLERS)
    checks.at_least("steps", self.steps, 0, "(0: as many as the masking or the data has)")
    checks.at_least("num_orders", self.num_orders, 1)
    checks.at_least("order_seed", self.order_seed, 0)
    _ = self.module  # it checks its fields

  @property
  def levels(self) -> int:
    """Number of levels, which is also the number that stands for a mask."""
    return self.spec.require_discrete("discrete diffusion")

  @functools.cached_property
  def module(self) -> nn.Module:
    """The network, for this data."""
    return network_for(self.spec, self.network, timed=False, context=context_width(self))

  @property
  def context_conditional(self) -> bool:
    """Whether the mass is conditional on a real-valued context, as it is where the data have one."""
    return self.spec.context_dims > 0

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(("model",), self.loss, unit="nats per dim"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return fresh parameters, and a carry that is empty but for the statistics of a masking that is learned."""
    del batch  # initialization needs no data
    masks = jnp.full((1, *self.spec.event), self.levels, jnp.int32)
    width = context_width(self)
    variables: Any = self.module.init(key, masks, *self._beside(jnp.zeros((1, width)) if width else None))
    carry = {"statistics": {"masking": self.masking.init()}} if isinstance(self.masking, LearnedMasking) else {}
    return {"model": variables["params"]}, carry

  def masking_of(self, carry: Carry) -> Masking:
    """Return the masking; one that is learned as it stands now."""
    return self.masking.bind(carry["statistics"]["masking"]) if isinstance(
        self.masking, LearnedMasking) else self.masking

  def log_probs(self, params: Params, x: Int[Array, "batch dims"], key: Key[Array, ""] | None = None,
                context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch dims levels"]:
    """Return log-probabilities in nats of every dimension's levels, given x with masks, and labels or contexts where
    the model is conditional on them (`gdm.batches.given_context`); a key means training."""
    rngs = {} if key is None else {"dropout": key}
    logits: Any = self.module.apply({"params": params["model"]}, x.reshape(-1, *self.spec.event),
                                    *self._beside(context), rngs=rngs)
    return jax.nn.log_softmax(logits).reshape(*x.shape, self.levels)

  @staticmethod
  def _beside(context: Float[Array, "batch width"] | None) -> tuple:
    """Return the arguments of the network after x: no time, and the context where there is one, so that a network of
    one's own need not take any."""
    return () if context is None else (None, context)

  # Training and the bound.

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the bound in nats per dimension, a mean over the batch, at one draw of masks for each example.

    With lengths it is over the constant num_dims, so that each real dimension weighs the same in every batch. Metrics:
    "nll", the bound in nats per example, "nats_per_dim" and "bits_per_dim" per real dimension, and "masked_nll", nats
    per masked dimension, which is less noisy.
    """
    del step
    rank_key, mask_key, dropout_key = jax.random.split(key, 3)
    x, real = masked_padding(self.spec, batch), real_dims(self.spec, batch)
    ranks = low_discrepancy_ranks(rank_key, len(x))
    mask, weight = self.masking_of(carry).draw(mask_key, ranks, real)
    missing = self.missing_nats(params, x, mask, dropout_key, given_context(self, batch))
    nats = weight * missing
    if isinstance(self.masking, LearnedMasking):
      carry = {"statistics": {"masking": self.masking.learn(carry["statistics"]["masking"], ranks, nats)}}
    total, dims = jnp.sum(nats), jnp.sum(real, dtype=jnp.float32)
    metrics = {"nll": Mean.of(nats), "nats_per_dim": Mean(total, dims),
               "bits_per_dim": Mean(total / math.log(2.0), dims),
               "masked_nll": Mean(jnp.sum(missing), jnp.sum(mask, dtype=jnp.float32))}
    return LossOutput(jnp.mean(nats) / self.spec.num_dims, metrics, carry)

  def missing_nats(self, params: Params, x: Int[Array, "batch dims"], mask: Bool[Array, "batch dims"],
                   key: Key[Array, ""] | None = None,
                   context: Float[Array, "batch width"] | None = None) -> Float[Array, " batch"]:
    """Return the sum over masked dimensions of -log p(x_i | x with masks), in nats; a key means training."""
    log_probs = self.log_probs(params, jnp.where(mask, self.levels, x), key, context)
    # As a masked sum: the gradient of an indexed read is a scatter, which is slow on a CPU.
    chosen = (jnp.arange(self.levels) == x[..., None]) & mask[..., None]
    return -jnp.sum(jnp.where(chosen, log_probs, 0.0), axis=(1, 2))

  # Likelihoods.

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x) in nats in the way that `likelihood` names; see the class.

    Args:
      params, carry: the model's.
      batch: "x", integers in [0, levels), and what the model is conditional on.
      key: of masks or orders.
      num_samples: draws of masks whose mean is the bound, at times spread evenly; or orders, which tighten it. Exact
        ways ignore it.
    """
    way = {"bound": self._bound, "orders": self._by_orders, "ensemble": self._ensemble, "exact": self._exact}
    found = way[self.likelihood](params, carry, batch, key, num_samples)
    return checked(self.spec, batch, dataclasses.replace(found, given=given(self)))

  def _bound(self, params, carry, batch, key, num_samples):
    x, real = masked_padding(self.spec, batch), real_dims(self.spec, batch)
    rank_key, mask_key = jax.random.split(key)
    offset, context = low_discrepancy_ranks(rank_key, len(x)), given_context(self, batch)
    masking = self.masking_of(carry)

    def one(index):
      mask, weight = masking.draw(jax.random.fold_in(mask_key, index), (offset + index) / num_samples, real)
      return -weight * self.missing_nats(params, x, mask, None, context)

    nats = jnp.mean(jax.lax.map(one, jnp.arange(num_samples)), axis=0)
    return LogLikelihood(nats, num_real(self.spec, batch), Kind.LOWER_BOUND)

  def _by_orders(self, params, carry, batch, key, num_samples):
    x, network = masked_padding(self.spec, batch), self._network(params, batch)

    def one(index):
      order = draw_orders(jax.random.fold_in(key, index), len(x), self.spec.num_dims)
      return order_log_prob(network, x, order, self.levels)

    nats = mean_of_exp(jax.lax.map(one, jnp.arange(num_samples)))
    return LogLikelihood(nats, num_real(self.spec, batch), Kind.LOWER_BOUND, unbiased=True)

  def _ensemble(self, params, carry, batch, key, num_samples):
    return self.in_orders(self.num_orders).log_likelihood(params, carry, batch, key)

  def _exact(self, params, carry, batch, key, num_samples):
    x = masked_padding(self.spec, batch)
    nats = all_orders_log_prob(self._network(params, batch), x, self.levels)
    return LogLikelihood(nats, num_real(self.spec, batch), Kind.EXACT)

  def _network(self, params: Params, batch: Batch) -> LogProbs:
    """Return the network given what the batch says of its examples."""
    context = given_context(self, batch)
    return lambda x: self.log_probs(params, x, None, context)

  def scored_by(self, name: str, **settings: Any) -> "MaskedModel":
    """Return the model with another likelihood: bound, orders, exact, or ensemble with `num_orders` and
    `order_seed`."""
    known = ("num_orders", "order_seed")
    for setting in settings:
      if setting not in known:
        raise ConfigError(f"likelihood {name} has no setting {setting!r}; {nearest(setting, known)}")
    return dataclasses.replace(self, likelihood=name, **settings)

  def in_orders(self, num_orders: int) -> FixedOrders:
    """Return the uniform mixture of the chains in so many fixed random orders: exact, and what coding runs on."""
    orders = random_orders(self.order_seed, num_orders, self.spec.num_dims)
    return FixedOrders(self, tuple(map(tuple, orders.tolist())))

  # Samples.

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             sampler: str = "", num_steps: int = 0, temperature: float = 1.0, top_k: int | None = None,
             top_p: float = 1.0) -> Samples:
    """Draw x [num, *event]. Info: "nfe".

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: labels, contexts or both of a conditional model; see `gdm.batches.condition_context`.
      sampler: name of a rule; "" is the model's own.
      num_steps: passes of the network; 0 is the model's own number.
      temperature, top_k, top_p: how levels are drawn, see `gdm.inference.generation.TokenChoice`.

    Raises:
      ConfigError: an unknown sampler, or an option outside its range.
      SpecError: the condition is missing, must not be, or is out of range.
    """
    x = jnp.full((num, *self.spec.event), self.levels, jnp.int32)
    return self._unmasked(params, carry, key, x, condition, sampler, num_steps, TokenChoice(temperature, top_k, top_p))

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
               known: Bool[Array | np.ndarray, "*event"], sampler: str = "", num_steps: int = 0,
               temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0,
               condition: Condition | None = None) -> Samples:
    """Keep x where `known`, any region, and draw the rest; options and condition are those of `sample`.

    With a pass for each missing dimension it draws exactly from the mixture of all orders in which the known dimensions
    come first.
    """
    shown = jnp.where(jnp.asarray(known), jnp.asarray(x).astype(jnp.int32), self.levels)
    choice = TokenChoice(temperature, top_k, top_p)
    return self._unmasked(params, carry, key, shown, condition, sampler, num_steps, choice)

  def _unmasked(self, params: Params, carry: Carry, key: Key[Array, ""], x: Int[Array, "batch *event"],
                condition: Condition | None, sampler: str, num_steps: int, choice: TokenChoice) -> Samples:
    name = sampler or self.sampler
    checks.one_of("sampler", name, SAMPLERS)
    checks.at_least("num_steps", num_steps, 0, "(0: the model's own number)")
    steps = num_steps or self.steps or self.masking.num_steps or min(self.spec.num_dims, MAX_DEFAULT_STEPS)
    context = condition_context(self, condition, len(x))
    drawn = _draw(self, params, carry, key, x, context, name, steps, choice)
    return Samples(drawn, {"nfe": steps})


@functools.partial(jax.jit, static_argnames=("model", "sampler", "num_steps", "choice"))
def _draw(model: MaskedModel, params: Params, carry: Carry, key: Key[Array, ""], x: Int[Array, "batch *event"],
          context: Float[Array, "batch width"] | None, sampler: str, num_steps: int,
          choice: TokenChoice) -> Int[Array, "batch *event"]:
  """Fill in all masks; compiled once for each model and each way to sample."""
  flat, masking = x.reshape(len(x), -1), model.masking_of(carry)
  drawn = unmask(lambda each: model.log_probs(params, each, None, context), key, flat, model.levels, num_steps,
                 SAMPLERS[sampler], choice, masking.schedule, masking.shares)
  return drawn.reshape(x.shape)
