"""A uniform mixture of the chains of one network in a few fixed orders: exact, and what coding runs on."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from gdm.batches import checked, given, given_context, num_real, real_dims
from gdm.dataspec import DataSpec
from gdm.discrete_diffusion.orders import mean_of_exp, order_log_prob, require_order
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Params


@dataclasses.dataclass(frozen=True)
class DimensionHead:
  """Each dimension is a variable of its own, a categorical of logits [batch, levels].

  Attributes:
    spec: the data.
  """

  spec: DataSpec

  @property
  def dims(self) -> Int[np.ndarray, "variables span"]:
    return np.arange(self.spec.num_dims)[:, None]

  def score(self, logits: Float[Array, "batch levels"], value: Int[Array, "batch span"],
            variable: Int[Array | np.ndarray, "..."]) -> Float[Array, " batch"]:
    """Return the log-probability in nats of one dimension's value."""
    del variable  # all are alike
    return jnp.take_along_axis(jax.nn.log_softmax(logits), value, axis=-1)[:, 0]


class Chains(NamedTuple):
  """Orders [components, variables] of a mixture's chains."""

  orders: np.ndarray


class Revealed(NamedTuple):
  """The state of a chain: what is known so far, masks elsewhere, and the order."""

  x: Int[Array, "batch dims"]
  order: Int[Array, " dims"]


@dataclasses.dataclass(frozen=True)
class FixedOrders:
  """p(x) = 1 / K sum_k p(x | order k): as exact as an autoregressive model, and coded as one (`HasComponents`).

  Each step of a chain is a pass of the whole network: nothing can be cached, since every dimension attends to all.

  Example:
    model = FixedOrders(ardm(DataSpec((4,), 5), network=Perceptron(hidden=(32,))), ((0, 1, 2, 3), (3, 2, 1, 0)))
    batch = {"x": jnp.zeros((16, 4), jnp.int32)}
    params, carry = model.init(key, batch)
    nats = model.log_likelihood(params, carry, batch, key).nats

  Attributes:
    model: a model with `log_probs(params, x, key, context)`, its network's log-probabilities of partly masked x.
    orders: permutations of the dimensions, the first dimension first. Raise ConfigError where one is none.
  """

  model: Any
  orders: tuple[tuple[int, ...], ...]

  def __post_init__(self) -> None:
    for order in self.orders:
      require_order(np.asarray(order), self.spec.num_dims)

  @property
  def spec(self) -> DataSpec:
    return self.model.spec

  @property
  def objectives(self) -> tuple:
    """None: the parameters are those of `model`, which is trained."""
    return ()

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return fresh parameters of `model`."""
    return self.model.init(key, batch)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return the exact log-likelihood of the mixture, in nats; D passes of the network for each order."""
    x, context = masked_padding(self.spec, batch), given_context(self.model, batch)

    def one(order):
      rows = jnp.broadcast_to(order, x.shape)
      return order_log_prob(lambda each: self.model.log_probs(params, each, None, context), x, rows, self.model.levels)

    nats = jax.lax.map(one, jnp.asarray(self.orders, jnp.int32))
    return checked(self.spec, batch, LogLikelihood(
        mean_of_exp(nats), num_real(self.spec, batch), Kind.EXACT, given=given(self.model)))

  # HasComponents.

  @property
  def head(self) -> DimensionHead:
    return DimensionHead(self.spec)

  @property
  def components(self) -> Chains:
    return Chains(np.asarray(self.orders, np.int32))

  @property
  def num_components(self) -> int:
    return len(self.orders)

  def init_cache(self, params: Params, num: int, component: int | Int[Array, ""] = 0) -> Revealed:
    """Return the state before the first step of a component's chain: all masks."""
    masks = jnp.full((num, self.spec.num_dims), self.model.levels, jnp.int32)
    return Revealed(masks, jnp.asarray(self.components.orders)[component])

  def conditional_step(self, params: Params, cache: Revealed, x_previous: Int[Array, "batch span"],
                       index: Int[Array, ""]) -> tuple[Revealed, Float[Array, "batch levels"]]:
    """Return the log-probabilities of the dimension that comes at `index`, given the ones before."""
    last = cache.order[jnp.maximum(index - 1, 0)]
    x = cache.x.at[:, last].set(jnp.where(index > 0, x_previous[:, 0], cache.x[:, last]))
    return cache._replace(x=x), self.model.log_probs(params, x)[:, cache.order[index]]


def masked_padding(spec: DataSpec, batch: Batch) -> Int[Array, "batch dims"]:
  """Return batch["x"] as integers [batch, dims], padding as masks, whatever it was."""
  x = jnp.asarray(batch["x"])
  return jnp.where(real_dims(spec, batch), x.reshape(x.shape[0], -1).astype(jnp.int32),
                   spec.require_discrete("discrete diffusion"))
