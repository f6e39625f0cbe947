"""Integer discrete flow: a bijection between data and integers, whose mass is exact (Hoogeboom et al.,
arXiv:1905.07376).

Nothing is dequantized: the probability of an example is that of the integers it is taken to.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from gdm import checks
from gdm.batches import checked, condition_context, context_width, given, given_context
from gdm.dataspec import DataSpec
from gdm.distributions import discretized_logistic, logistic_mixture
from gdm.errors import SpecError
from gdm.flows.bijections.reshaping import squeeze, squeezed
from gdm.flows.layers import NETWORK_FIELDS
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Condition, IntegerStep, LossOutput, Mean, Objective, Params, Samples
from gdm.networks.mlp import MLP
from gdm.networks.residual_convolution import ResidualConvolution

QUICKLY = 10.0


@dataclasses.dataclass(frozen=True)
class IntegerMoves:
  """One step: the integers `moved` change, or leave, given those `seen`; both as places of the flattened data.

  Attributes:
    moved: with the places and channels that a network makes outputs for.
    seen: with the same places; None where nothing is.
    leaves: whether they leave.
  """

  moved: Int[np.ndarray, "*places moved"]
  seen: Int[np.ndarray, "*places seen"] | None
  leaves: bool


@dataclasses.dataclass(frozen=True)
class IntegerFlow:
  """Integers are shifted by what a network makes of the others, rounded: a bijection of the integers (equation 5).
  Gradients pass through the rounding (section 4.1).

  Images are squeezed at each scale, and half of the channels leave after its shifts, with a distribution given those
  that stay (figure 2); events of other shapes are one scale, in which half of the entries leave first. All
  distributions are mixtures of discretized logistics over all integers. So the masses of all integers sum to one, and
  those of the data's levels to what is left of that: a shift may take what is no level to a place that has mass.

  Attributes:
    spec: the data, which is discrete.
    num_scales: of images.
    num_steps: shifts of each scale.
    num_components: of each mixture.
    width: channels inside of an image's networks.
    num_blocks: residual blocks of those.
    hidden: sizes of the hidden layers of networks of other data.
    class_conditional: whether networks are given the labels "y".
    activation: of hidden units.
    dropout: rate on hidden units.

  Example:
    model = IntegerFlow(DataSpec((28, 28, 1), 256), num_scales=2)
  """

  spec: DataSpec
  num_scales: int = 2
  num_steps: int = 6
  num_components: int = 5
  width: int = 64
  num_blocks: int = 1
  hidden: tuple[int, ...] = (128, 128)
  class_conditional: bool = False
  activation: str = "relu"
  dropout: float = 0.0

  def __post_init__(self) -> None:
    self.spec.require_whole("an integer flow")
    self.spec.require_discrete("an integer flow")
    checks.classes(self.spec, self.class_conditional)
    for name in ("num_scales", "num_steps", "num_components"):
      checks.at_least(name, getattr(self, name), 1)
    checks.layers(self, NETWORK_FIELDS)
    if self.spec.num_dims < 2:
      raise SpecError(f"the event is {self.spec.event}, one number; an integer flow needs at least 2, one to see and "
                      "one to move.")
    self.networks  # noqa: B018 - checks the fields

  @property
  def context_conditional(self) -> bool:
    """Whether the mass is conditional on a real-valued context, as it is where the data have one."""
    return self.spec.context_dims > 0

  @property
  def context_width(self) -> int:
    return context_width(self)

  @property
  def is_bijection(self) -> bool:
    """Whether decoding undoes encoding: always."""
    return True

  @property
  def levels(self) -> int:
    return self.spec.require_discrete("an integer flow")

  # The steps, from the data on.

  @functools.cached_property
  def moves(self) -> tuple[IntegerMoves, ...]:
    """All steps. Which half of the channels moves changes from shift to shift, at random but always alike."""
    event = tuple(self.spec.event)
    active, found = np.arange(math.prod(event)).reshape(event), []
    for scale in range(self.num_scales if self.spec.is_image else 1):
      if self.spec.is_image:
        squeezed(active.shape)  # raises
        active = np.asarray(squeeze(active[None])[0])
      else:
        active = active.ravel()
      half = active.shape[-1] // 2
      for i in range(self.num_steps):
        order = np.random.default_rng((scale, i // 2)).permutation(active.shape[-1])  # two shifts move all
        first, second = active[..., order[:half]], active[..., order[half:]]
        found.append(IntegerMoves(first, second, False) if i % 2 == 0 else IntegerMoves(second, first, False))
      leaves, stays = np.split(active, [half], axis=-1)
      found.append(IntegerMoves(leaves, stays, True))
      active = stays
    return (*found, IntegerMoves(active, None, True))

  @functools.cached_property
  def networks(self) -> tuple[nn.Module, ...]:
    """The network of each step."""
    return tuple(self._network(step) for step in self.moves)

  def _network(self, step: IntegerMoves) -> nn.Module:
    outputs = step.moved.shape[-1] * (3 * self.num_components if step.leaves else 1)
    if step.seen is None:
      return Free((*step.moved.shape[:-1], outputs), self.context_width)
    if self.spec.is_image:
      return ResidualConvolution(outputs, self.width, self.num_blocks, self.context_width, self.activation,
                                 self.dropout)
    return MLP(outputs, self.hidden, outputs // step.moved.shape[-1], self.context_width, False, self.activation,
               self.dropout)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameters with which no integer is shifted; nothing is carried."""
    z, context = self._flat(jnp.asarray(batch["x"])[:1]), given_context(self, batch)
    context, params = None if context is None else context[:1], {}
    for i, (step, network) in enumerate(zip(self.moves, self.networks, strict=True)):
      made: Any = network.init(jax.random.fold_in(key, i), self._seen(step, z), context)
      params[f"step_{i}"] = made["params"]
    return {"model": params}, {}

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(("model",), self.loss, unit="nats per dim"),)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the mean negative log-likelihood in nats per dimension."""
    nats = self._log_mass(params, self._flat(jnp.asarray(batch["x"])), given_context(self, batch), key)
    metrics = {"nll": Mean.of(-nats), "bits_per_dim": Mean.of(-nats / (self.spec.num_dims * math.log(2.0)))}
    return LossOutput(-jnp.mean(nats) / self.spec.num_dims, metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return the mass of x among all integers, in nats; of a conditional model given "y", "context" or both.

    Nothing of it is drawn or estimated. As a number of data of `levels` levels it is a lower bound: given that all
    integers are levels, as they are, p(x) is higher by the mass that lies on others.
    """
    nats = self._log_mass(params, self._flat(jnp.asarray(batch["x"])), given_context(self, batch), None)
    found = LogLikelihood.of(nats, self.spec.num_dims, Kind.LOWER_BOUND, given(self), unbiased=True)
    return checked(self.spec, batch, found)

  def _log_mass(self, params: Params, z: Float[Array, "batch dims"], context: Array | None,
                key: Key[Array, ""] | None) -> Float[Array, " batch"]:
    nats = jnp.zeros(len(z))
    for i, step in enumerate(self.moves):
      outputs = self._outputs(params, i, z, context, None if key is None else jax.random.fold_in(key, i))
      if step.leaves:
        values = z[:, step.moved.ravel()].reshape(-1, *step.moved.shape)
        each = self._log_mixture(self._mixture(step, outputs), values[..., None])[..., 0]
        nats = nats + jnp.sum(each.reshape(len(z), -1), axis=1)
      else:
        z = self._moved(step, z, self._shift(outputs))
    return nats

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw x [num, *event]; integers that are no levels become the nearest one. `temperature` divides the mixtures'
    logits and multiplies their scales.

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: labels, contexts or both of a conditional model; see `gdm.batches.condition_context`.
      temperature: at least 0.

    Raises:
      ConfigError: the temperature is negative.
      SpecError: the condition is missing, must not be, or is out of range.
    """
    checks.at_least("temperature", temperature, 0)
    context = condition_context(self, condition, num)
    z, temperature = jnp.zeros((num, self.spec.num_dims)), max(temperature, 1e-6)

    def leave(i, step, z, outputs):
      logits, means, log_scales = self._mixture(step, outputs)
      made = logistic_mixture.sample(jax.random.fold_in(key, i), logits, means, log_scales, temperature)
      levels = jnp.round((made + 1.0) * 0.5 * (self.levels - 1))
      return z.at[:, step.moved.ravel()].set(levels.reshape(num, -1))

    return Samples(jnp.clip(self._back(params, z, context, leave), 0, self.levels - 1), {"nfe": 1})

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Int[Array, "batch *event"]:
    """Return the integers that examples are taken to, at the places of the data."""
    del key  # nothing is random
    z, context = self._flat(jnp.asarray(batch["x"])), given_context(self, batch)
    for i, step in enumerate(self.moves):
      if not step.leaves:
        z = self._moved(step, z, self._shift(self._outputs(params, i, z, context)))
    return self._served(z)

  def decode(self, params: Params, carry: Carry, latent: Int[Array, "batch *event"], key: Key[Array, ""],
             condition: Condition | None = None) -> Int[Array, "batch *event"]:
    """Return the examples that are taken to these integers."""
    del key
    context = condition_context(self, condition, len(latent))
    return self._back(params, self._flat(jnp.asarray(latent)), context, lambda i, step, z, outputs: z)

  def _back(self, params: Params, z: Float[Array, "batch dims"], context: Array | None,
            leave: Callable[[int, IntegerMoves, Array, Array], Array]) -> Int[Array, "batch *event"]:
    """Undo all steps, the last first; `leave` gives what left its values."""
    for i, step in reversed(list(enumerate(self.moves))):
      outputs = self._outputs(params, i, z, context)
      z = leave(i, step, z, outputs) if step.leaves else self._moved(step, z, -self._shift(outputs))
    return self._served(z)

  # Lossless coding: `gdm.model.HasIntegerSteps`.

  @property
  def integer_steps(self) -> tuple[IntegerStep, ...]:
    """The steps as coding takes them. Raise SpecError where the model is conditional."""
    if self.context_width:
      raise SpecError("the model is conditional, and conditions are not coded; train one without.")
    return tuple(IntegerStep(step.moved.ravel(), np.zeros(0, int) if step.seen is None else step.seen.ravel(),
                             step.leaves) for step in self.moves)

  def step_shift(self, params: Params, carry: Carry, index: int, z: Int[Array, "batch dims"]) -> Int[Array, "batch _"]:
    """Return what the step adds to the integers that it moves."""
    shift = self._shift(self._outputs(params, index, z.astype(jnp.float32), None))
    return shift.reshape(len(z), -1).astype(jnp.int32)

  def step_log_probs(self, params: Params, carry: Carry, index: int, z: Int[Array, "batch dims"],
                     values: Int[Array, " values"]) -> Float[Array, "batch _ values"]:
    """Return log p, in nats, of these values of each integer that leaves."""
    mixture = self._mixture(self.moves[index], self._outputs(params, index, z.astype(jnp.float32), None))
    return self._log_mixture(mixture, values).reshape(len(z), -1, len(values))

  # What steps are made of.

  def _flat(self, x: Num[Array, "batch *event"]) -> Float[Array, "batch dims"]:
    """Return integers as floats, which gradients pass through."""
    return x.reshape(len(x), -1).astype(jnp.float32)

  def _served(self, z: Float[Array, "batch dims"]) -> Int[Array, "batch *event"]:
    return z.astype(jnp.int32).reshape(-1, *self.spec.event)

  def _seen(self, step: IntegerMoves, z: Float[Array, "batch dims"]) -> Float[Array, "batch *seen"]:
    """Return what a step's network is given, in [-1, 1]."""
    if step.seen is None:
      return jnp.zeros((len(z), 0))
    return (2.0 * z[:, step.seen.ravel()] / (self.levels - 1) - 1.0).reshape(-1, *step.seen.shape)

  def _outputs(self, params: Params, i: int, z: Float[Array, "batch dims"], context: Array | None,
               key: Key[Array, ""] | None = None) -> Float[Array, "batch *outputs"]:
    rngs = {} if key is None else {"dropout": key}
    out: Any = self.networks[i].apply({"params": params["model"][f"step_{i}"]}, self._seen(self.moves[i], z), context,
                                      rngs=rngs)
    return out

  def _shift(self, outputs: Float[Array, "batch *moved"]) -> Float[Array, "batch *moved"]:
    """Return rounded shifts; an output of one is half of the levels."""
    return _rounded(outputs * 0.5 * (self.levels - 1))

  def _moved(self, step: IntegerMoves, z: Float[Array, "batch dims"],
             shift: Float[Array, "batch *moved"]) -> Float[Array, "batch dims"]:
    places = step.moved.ravel()
    return z.at[:, places].add(shift.reshape(len(z), -1))

  def _mixture(self, step: IntegerMoves, outputs: Float[Array, "batch *outputs"]) -> tuple[Array, Array, Array]:
    """Return logits, means and log-scales of the mixture of each integer that leaves, at first spread over the levels,
    which lie in [-1, 1]."""
    parts = outputs.reshape(len(outputs), *step.moved.shape, 3, self.num_components)
    logits, means, log_scales = (parts[..., i, :] for i in range(3))
    means = means + jnp.asarray(np.linspace(-1.0, 1.0, self.num_components + 2)[1:-1], means.dtype)
    return logits, means, log_scales - math.log(self.num_components)

  def _log_mixture(self, mixture: tuple[Array, Array, Array],
                   values: Num[Array, "*some values"]) -> Float[Array, "*shape values"]:
    """Return log p of values of each integer, in nats."""
    logits, means, log_scales = (part[..., None, :] for part in mixture)
    each = discretized_logistic.log_bin_of_integers(means, log_scales, values[..., None], self.levels)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits, axis=-1) + each, axis=-1)


class Free(nn.Module):
  """Outputs of their own for each place, given nothing but the context, through a matrix; at first zero. A step of a
  parameter is `QUICKLY` of an output, since no layer of many units moves it.

  Attributes:
    outputs: their shape.
    context: width of the context; 0 for none.
  """

  outputs: tuple[int, ...]
  context: int = 0

  @nn.compact
  def __call__(self, x: Float[Array, "batch 0"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch *outputs"]:
    free = self.param("free", jax.nn.initializers.zeros, self.outputs)
    y = QUICKLY * jnp.broadcast_to(free, (len(x), *self.outputs))
    if context is None:
      return y
    matrix = self.param("context", jax.nn.initializers.zeros, (self.context, math.prod(self.outputs)))
    return y + (context @ matrix).reshape(y.shape)


@jax.custom_jvp
def _rounded(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Round; the derivative is that of x itself, the straight-through estimate."""
  return jnp.round(x)


@_rounded.defjvp
def _through(primals, tangents):
  return jnp.round(primals[0]), tangents[0]
