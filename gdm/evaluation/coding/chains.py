"""Models as chains of symbols: an example is values, one per step, each with a distribution given those before it.

A model is asked by protocol. One over tokens or dimensions in raster order is a chain as it stands (`HasConditionals`);
one over a head's variables in an order of its own needs its head (`HasVariables`); a mixture of such chains is the
chains and the component that an example takes (`HasComponents`).
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.model import HasComponents, HasConditionals, HasVariables, Model, Params, PyTree


@dataclasses.dataclass(frozen=True)
class SymbolChain(abc.ABC):
  """A chain of symbols. Values are integers [batch, span]; a symbol is the number of a value in the alphabet.

  Values that are not in the alphabet share one more symbol, the *escape*, and are then spelled out.

  Attributes:
    model: the model.
  """

  model: Any

  @property
  def spec(self) -> DataSpec:
    return self.model.spec

  @property
  def levels(self) -> int:
    return self.spec.require_discrete("lossless coding")

  @property
  @abc.abstractmethod
  def num_steps(self) -> int: ...

  @property
  def num_components(self) -> int:
    """Chains that are mixed uniformly."""
    return 1

  @property
  def in_raster_order(self) -> bool:
    """Whether step i is about dimension i, so that the steps of a sequence beyond its length can be left out."""
    return False

  @functools.cached_property
  @abc.abstractmethod
  def alphabet(self) -> Integer[np.ndarray, "values span"]:
    """The values that have a symbol of their own."""

  @property
  def has_escape(self) -> bool:
    """Whether there are values beyond the alphabet."""
    values, span = self.alphabet.shape
    return self.levels**span > values

  @abc.abstractmethod
  def split(self, x: Integer[np.ndarray, "batch *event"], component: int) -> Integer[np.ndarray, "steps batch span"]:
    """Return the values of examples, in the order of the component's steps."""

  @abc.abstractmethod
  def join(self, values: Integer[np.ndarray, "steps batch span"],
           component: int) -> Integer[np.ndarray, "batch *event"]:
    """Return the inverse of `split`."""

  @abc.abstractmethod
  def init_cache(self, params: Params, num: int, component: Int[Array, ""]) -> PyTree: ...

  @abc.abstractmethod
  def step(self, params: Params, cache: PyTree, previous: Int[Array, "batch span"], index: Int[Array, ""],
           component: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch values"]]:
    """Log-probabilities of the alphabet at position `index`, given the values before it."""

  def symbols(self, values: Integer[np.ndarray, "batch span"]) -> Integer[np.ndarray, " batch"]:
    """Return the number of each value in the alphabet, len(alphabet) for the escape."""
    if self.alphabet.shape[1] == 1:
      return values[:, 0]
    same = (values[:, None] == self.alphabet).all(axis=-1)
    return np.where(same.any(axis=1), same.argmax(axis=1), len(self.alphabet))


@dataclasses.dataclass(frozen=True)
class TokenChain(SymbolChain):
  """The chain of a model that has conditionals."""

  @property
  def num_steps(self) -> int:
    return self.model.num_steps

  @property
  def in_raster_order(self) -> bool:
    return True

  @functools.cached_property
  def alphabet(self) -> Integer[np.ndarray, "values span"]:
    return np.arange(self.levels)[:, None]

  def split(self, x, component):
    return x.reshape(len(x), -1).T[..., None]

  def join(self, values, component):
    return values[..., 0].T.reshape(-1, *self.spec.event)

  def init_cache(self, params, num, component):
    return self.model.init_cache(params, num)

  def step(self, params, cache, previous, index, component):
    cache, logits = self.model.conditional_step(params, cache, previous[:, 0], index)
    return cache, jax.nn.log_softmax(logits)


@dataclasses.dataclass(frozen=True)
class HeadChain(SymbolChain):
  """A chain over the variables of a head, in orders of its own."""

  @functools.cached_property
  def _head(self) -> Any:
    return self.model.head

  @property
  @abc.abstractmethod
  def _orders(self) -> Integer[np.ndarray, "components steps"]: ...

  @property
  def num_steps(self) -> int:
    return self._orders.shape[1]

  @functools.cached_property
  def alphabet(self) -> Integer[np.ndarray, "values span"]:
    """All values of a dimension; of a block, which is of binary dimensions, none and each of its members."""
    span = self._head.dims.shape[1]
    if span == 1:
      return np.arange(self.levels)[:, None]
    return np.concatenate([np.zeros((1, span), int), np.eye(span, dtype=int)])

  def split(self, x, component):
    padded = np.pad(x.reshape(len(x), -1), ((0, 0), (0, 1)))  # where a variable's span is less than the widest
    return np.moveaxis(padded[:, self._head.dims[self._orders[component]]], 1, 0)

  def join(self, values, component):
    padded = np.zeros((values.shape[1], self.spec.num_dims + 1), values.dtype)
    padded[:, self._head.dims[self._orders[component]]] = np.moveaxis(values, 0, 1)
    return padded[:, :-1].reshape(-1, *self.spec.event)

  def step(self, params, cache, previous, index, component):
    cache, logits = self.model.conditional_step(params, cache, previous, index)
    variable = jnp.asarray(self._orders)[component, index]

    def score(value):
      return self._head.score(logits, jnp.broadcast_to(value, (len(logits), len(value))), variable)

    scores = jax.vmap(score, out_axes=1)(jnp.asarray(self.alphabet, jnp.int32))
    # A smaller block than the widest has fewer members.
    void = jnp.asarray(self._head.dims)[variable] >= self.spec.num_dims
    return cache, jnp.where(jnp.any((jnp.asarray(self.alphabet) > 0) & void, axis=1), -jnp.inf, scores)


@dataclasses.dataclass(frozen=True)
class VariableChain(HeadChain):
  """The chain of a model that has variables."""

  @property
  def _orders(self) -> Integer[np.ndarray, "components steps"]:
    return np.asarray(self.model.layout.order)[None]

  def init_cache(self, params, num, component):
    return self.model.init_cache(params, num)


@dataclasses.dataclass(frozen=True)
class ComponentChain(HeadChain):
  """The chains of a mixture."""

  @property
  def num_components(self) -> int:
    return self.model.num_components

  @property
  def _orders(self) -> Integer[np.ndarray, "components steps"]:
    return np.asarray(self.model.components.orders)

  def init_cache(self, params, num, component):
    return self.model.init_cache(params, num, component)


# The first protocol that a model has decides; a mixture's chain without its components would be another model's.
_WAYS: tuple[tuple[type, Callable[[Any], SymbolChain]], ...] = (
    (HasComponents, ComponentChain),
    (HasVariables, VariableChain),
    (HasConditionals, TokenChain),
)


def chain_of(model: Model) -> SymbolChain:
  """Return the model as a chain of symbols.

  Raises:
    ConfigError: the model offers no conditionals.
    SpecError: its data is not discrete.
  """
  model.spec.require_discrete("lossless coding")
  for protocol, chain in _WAYS:
    if isinstance(model, protocol):
      return chain(model)
  raise ConfigError(f"{type(model).__name__} has no conditionals to code by: it offers no conditional_step; choose an "
                    "autoregressive model, or one with latents that bits back can code, such as vae.")
