"""A density of real numbers by bijections and a base distribution, put together by hand."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.batches import checked, condition_context, given, given_context
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.flows.base import Base, Normal
from gdm.flows.bijections.bijection import DETAILS, PENALTIES, Bijection, Chain, Transformed, is_estimated
from gdm.flows.bijections.normalization import has_batch_statistics
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Condition, LossOutput, Mean, Objective, Params, Samples
from gdm.precision import highest_precision


@dataclasses.dataclass(frozen=True)
class Flow:
  """A density p(x) = p_base(f(x)) |det df/dx| of real numbers, f the bijections one after the other.

  It is a model as any other: the train step, `evaluate` and the samplers take it. The parameters are one group "model"
  with the parts "bijection" and "base"; batch statistics are in the carry.

  Attributes:
    base: where f leads, see gdm/flows/base.py.
    bijections: f, the nearest to the data first; their networks' `context` is `context_dims` wide.
    event: shape of one example.
    context_dims: width of a real-valued context that the density is conditional on; 0 for none.

  Example:
    x = jax.random.normal(key, (100, 2))
    layers = [MaskedAutoregressive(Affine(), ordering=order) for order in ("natural", "reversed")]
    flow = Flow(Normal(), [ActNorm(), *layers], event=(2,))
    params, carry = flow.init(key, {"x": x})
    nats = flow.log_prob(params, carry, x)
    draws = flow.sample(params, carry, key, 100).x
  """

  base: Base = Normal()
  bijections: Sequence[Bijection] = ()
  event: tuple[int, ...] = (1,)
  context_dims: int = 0

  def __post_init__(self) -> None:
    object.__setattr__(self, "bijections", tuple(self.bijections))
    if not self.bijections:
      raise SpecError("bijections is empty; a flow needs one or more, as (ActNorm(),).")

  @property
  def spec(self) -> DataSpec:
    return DataSpec(tuple(self.event), None, context_dims=self.context_dims)

  @property
  def context_conditional(self) -> bool:
    return self.context_dims > 0

  @property
  def is_bijection(self) -> bool:
    """Whether decoding undoes encoding: always."""
    return True

  @property
  def bijection(self) -> Bijection:
    """All bijections as one."""
    return self.bijections[0] if len(self.bijections) == 1 else Chain(self.bijections)

  @property
  def objectives(self) -> tuple[Objective, ...]:
    reason = ("batch normalization takes its means and variances over the whole minibatch"
              if has_batch_statistics(self.bijection) else "")
    return (Objective(groups=("model",), loss=self.loss, whole_batch=reason, unit="nats per example"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Initialize parameters; normalization layers use the batch's activations at that layer."""
    bijection_key, base_key = jax.random.split(key)
    return self.init_from(bijection_key, base_key, jnp.asarray(batch["x"]), given_context(self, batch))

  def init_from(self, bijection_key: Key[Array, ""], base_key: Key[Array, ""], x: Float[Array, "batch *event"],
                context: Float[Array, "batch width"] | None = None) -> tuple[Params, Carry]:
    """Initialize parameters by examples and their contexts."""
    variables = self.bijection.init(bijection_key, x, context)
    # The base's event is the shape of the bijection's values.
    z, _ = self.bijection.apply(variables, x, context)
    params = {"bijection": variables.get("params", {}), "base": self.base.init(base_key, z.shape[1:])}
    carry = {"statistics": {"bijection": variables["statistics"]}} if "statistics" in variables else {}
    return {"model": params}, carry

  def forward(self, params: Params, carry: Carry, x: Float[Array, "batch *event"],
              context: Float[Array, "batch width"] | None = None) -> Transformed:
    """Map examples to the base; return the values and each example's log-determinant in nats."""
    out: Any = self.bijection.apply(self.variables(params, carry), x, context)
    return out

  @highest_precision()
  def inverse(self, params: Params, carry: Carry, z: Float[Array, "batch *latent"],
              context: Float[Array, "batch width"] | None = None) -> Transformed:
    """Map values of the base to examples; return them and the log-determinants of this map in nats."""
    out: Any = self.bijection.apply(self.variables(params, carry), z, context, method="inverse")
    return out

  def log_prob(self, params: Params, carry: Carry, x: Float[Array | np.ndarray, "batch *event"],
               context: Float[Array | np.ndarray, "batch width"] | None = None) -> Float[Array, " batch"]:
    """Return the log-density of examples in nats, given a context where the flow has one."""
    context = None if context is None else jnp.asarray(context)
    z, log_det = self.forward(params, carry, jnp.asarray(x), context)
    return self.base.log_prob(params["model"]["base"], z) + log_det

  def scored(self, params: Params, carry: Carry, x: Float[Array, "batch *event"],
             context: Float[Array, "batch width"] | None, key: Key[Array, ""]
             ) -> tuple[Float[Array, " batch"], dict[str, Array]]:
    """Return the log-density of examples in nats and counts about the call, "nfe" say; the key is that of probes."""
    (z, log_det), found = self.bijection.apply(self.variables(params, carry), x, context, rngs={"probe": key},
                                               mutable=[DETAILS])
    return self.base.log_prob(params["model"]["base"], z) + log_det, _counted(found)

  def train_log_prob(self, params: Params, carry: Carry, x: Float[Array, "batch *event"],
                     context: Float[Array, "batch width"] | None, key: Key[Array, ""]
                     ) -> tuple[Float[Array, " batch"], Float[Array, ""], Carry]:
    """Return the log-density in training, with dropout and batch statistics of this batch; what the bijections'
    penalties add to the loss; and the carry afterwards."""
    (z, log_det), changed = self.bijection.apply(
        self.variables(params, carry), x, context, rngs={"dropout": key, "probe": jax.random.fold_in(key, 1)},
        mutable=["statistics", PENALTIES])
    if "statistics" in changed:
      carry = {**carry, "statistics": {**carry["statistics"], "bijection": changed["statistics"]}}
    penalty = sum(jax.tree.leaves(changed.get(PENALTIES, {})), start=jnp.zeros(()))
    return self.base.log_prob(params["model"]["base"], z) + log_det, penalty, carry

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the mean negative log-likelihood of the batch's examples in nats."""
    nats, penalty, carry = self.train_log_prob(params, carry, jnp.asarray(batch["x"]), given_context(self, batch), key)
    return LossOutput(penalty - jnp.mean(nats), {"nll": Mean.of(-nats)}, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x), or log p(x | context), in nats: exact, or an estimate where a bijection's determinant is one.
    """
    nats, details = self.scored(params, carry, jnp.asarray(batch["x"]), given_context(self, batch), key)
    kind = Kind.ESTIMATE if is_estimated(self.bijection) else Kind.EXACT
    found = LogLikelihood.of(nats, self.spec.num_dims, kind, given(self), spread(details, nats))
    return checked(self.spec, batch, found)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw x [num, *event]; `temperature` multiplies the base's distance from its centre.

    Args:
      params, carry: the flow's.
      key: of the draws.
      num: how many.
      condition: contexts [num, context_dims], or one for all, of a conditional flow.
      temperature: at least 0.

    Raise SpecError for a condition that is missing, or that there must not be.
    """
    return self.draw(params, carry, key, num, condition_context(self, condition, num), temperature)

  @highest_precision()
  def draw(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
           context: Float[Array, "num width"] | None, temperature: float = 1.0) -> Samples:
    """Draw x [num, *event] given contexts. Info: "nfe", and "solved" where there is something to solve."""
    event = self.latent_event(params, carry, None if context is None else context.shape[1])
    z = self.base.sample(params["model"]["base"], key, num, event, temperature)
    out: Any = self.bijection.apply(self.variables(params, carry), z, context, method="inverse", mutable=[DETAILS])
    (x, _), counted = out[0], _counted(out[1])
    solved = {"solved": counted["unsolved"] == 0} if "unsolved" in counted else {}
    return Samples(x, {"nfe": counted.get("nfe", 1), **solved})

  @highest_precision()
  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch *latent"]:
    """Return the base's values for the examples."""
    del key  # nothing is random
    return self.forward(params, carry, jnp.asarray(batch["x"]), given_context(self, batch)).value

  def decode(self, params: Params, carry: Carry, latent: Float[Array, "batch *latent"], key: Key[Array, ""],
             condition: Condition | None = None) -> Float[Array, "batch *event"]:
    """Return the examples for these values of the base."""
    del key
    return self.inverse(params, carry, latent, condition_context(self, condition, latent.shape[0])).value

  def variables(self, params: Params, carry: Carry) -> dict[str, Any]:
    """Return parameters and statistics as Flax takes them."""
    statistics = carry.get("statistics", {}).get("bijection")
    return {"params": params["model"]["bijection"], **({} if statistics is None else {"statistics": statistics})}

  def latent_event(self, params: Params, carry: Carry, width: int | None) -> tuple[int, ...]:
    """Return the shape of an example's values in the base; `width` is that of the context, None for none."""
    x = jax.ShapeDtypeStruct((1, *self.event), jnp.float32)
    context = None if width is None else jax.ShapeDtypeStruct((1, width), jnp.float32)
    return jax.eval_shape(lambda x, c: self.forward(params, carry, x, c).value, x, context).shape[1:]


def spread(details: Mapping[str, Array], nats: Float[Array, " batch"]) -> dict[str, Float[Array, " batch"]]:
  """Return counts about a call as details of each of its examples."""
  return {name: value * jnp.ones_like(nats) for name, value in details.items()}


def _counted(found: Mapping[str, Any]) -> dict[str, Array]:
  """Return the sum of each count that bijections left among their details, by name."""
  counts: dict[str, Array] = {}
  for path, value in jax.tree_util.tree_leaves_with_path(found.get(DETAILS, {})):
    name = path[-2].key  # the last entry is the place in what `sow` keeps
    counts[name] = counts.get(name, jnp.zeros((), jnp.int32)) + value
  return counts
