"""Autoregressive models of sequences of tokens, and of any discrete event in raster order."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num, PyTree

from gdm import checks
from gdm.autoregressive.token_model import TokenModel, token_log_prob
from gdm.batches import by_name, condition_labels, condition_prefix, prefix_of
from gdm.errors import ConfigError, SpecError
from gdm.model import Batch, Condition, Params
from gdm.networks.from_data import from_data


class SequenceNetwork(nn.Module, abc.ABC):
  """Each position's previous token to logits of its token, which depend on no later one.

  The token before the first is `levels`, which a network embeds like any other: its embedding has levels + 1 rows. So a
  window of T tokens scores T tokens.

  Attributes:
    levels: size of the vocabulary.
    num_steps: tokens of an example.
    num_classes: labels that tokens carry, see `Embedding`; 0 for none.
  """

  levels: int = from_data(0)
  num_steps: int = from_data(0)
  num_classes: int = from_data(0)

  has_limit: ClassVar[bool] = False  # whether sequences may be no longer than num_steps

  @abc.abstractmethod
  def __call__(self, previous: Int[Array, "batch steps"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch steps levels"]:
    """Return logits of each position's token; steps may be fewer than num_steps, and a key means training."""

  @abc.abstractmethod
  def init_cache(self, num: int, dtype: jnp.dtype) -> PyTree:
    """Return the state of `step` before the first token of `num` sequences."""

  @abc.abstractmethod
  def step(self, cache: PyTree, previous: Int[Array, " batch"],
           index: Int[Array, ""]) -> tuple[Float[Array, "batch levels"], PyTree]:
    """Return logits of the token at position `index`, and the next cache."""

  @abc.abstractmethod
  def prefill(self, variables: Any, cache: PyTree, previous: Int[Array, "batch prompt"],
              num: Int[Array, ""]) -> PyTree:
    """Return the cache that steps at positions 0 to num - 1 leave; a pure function, to be marked `nn.nowrap`."""


class ConditionCache(NamedTuple):
  """The state of `SequenceModel.conditional_step` of a model given a prefix or labels.

  Attributes:
    network: of the network, for the tokens before the present one, those of the prefix among them.
    prefix: tokens of the prefix, as numbers in the vocabulary of the network; of no steps without one.
    y: labels; None without.
  """

  network: PyTree
  prefix: Int[Array, "batch steps"]
  y: Int[Array, " batch"] | None


@dataclasses.dataclass(frozen=True)
class SequenceModel(TokenModel):
  """A model of sequences of tokens.

  Data: "x" [batch, *event] of integers in [0, levels), flattened to [batch, num_dims]; with "length" [batch], only the
  first `length` tokens are real (along the event's first axis), the likelihood is theirs, and padding changes nothing.

  Where the data have a prefix, "prefix" [batch, prefix_steps], the model is one of x given it: a caption, or a sentence
  to translate. The network reads its tokens, which follow those of x in the vocabulary, before the first of x. A prefix
  of zeros is none. With `class_conditional` it is a model of x given labels, "y" [batch].

  Attributes:
    spec: the data; levels is the size of the vocabulary.
    network: maps previous tokens to logits.
    prefix_dropout: share of training examples whose prefix is withheld, so that the model is one of x without it too.
    class_conditional: whether the model is conditional on the labels "y".
    prefix_token_dropout: share of the tokens of a prefix that training withholds one by one, so that no single one
      tells which example is meant.

  Raises:
    ConfigError: a field of the network is out of range for such sequences.
    SpecError: the data is not integers.

  Example:
    model = SequenceModel(DataSpec((64,), 65), Transformer(width=128))
    params, carry = model.init(jax.random.key(0), {"x": x})
    text = model.generate(params, jax.random.key(1), prompt=prompt).tokens
  """

  network: SequenceNetwork
  prefix_dropout: float = 0.0
  class_conditional: bool = False
  prefix_token_dropout: float = 0.0

  def __post_init__(self) -> None:
    levels = self.spec.require_discrete(type(self.network).__name__)
    for name in ("prefix_dropout", "prefix_token_dropout"):
      checks.rate(name, getattr(self, name))
      if getattr(self, name) and not self.prefix_conditional:
        raise ConfigError(f"{name} is {getattr(self, name)}, but the data have no prefix; set it to 0, or name one in "
                          "data.name (#prefix=caption).")
    checks.classes(self.spec, self.class_conditional)
    object.__setattr__(self, "network", self.network.clone(
        levels=levels + self.spec.prefix_levels, num_steps=self.spec.num_dims + self.spec.prefix_steps,
        num_classes=(self.spec.num_classes or 0) if self.class_conditional else 0))

  @property
  def context(self) -> int | None:
    return self.num_steps if self.network.has_limit else None

  @property
  def prefix_conditional(self) -> bool:
    """Whether the likelihood is conditional on a prefix, as it is where the data have one."""
    return self.spec.prefix_steps > 0

  @property
  def prefix_optional(self) -> bool:
    return self.prefix_dropout > 0.0

  @property
  def given(self) -> tuple[str, ...]:
    return ("prefix",) * self.prefix_conditional + ("y",) * self.class_conditional

  @property
  def start(self) -> int:
    """The token that networks take for the one before the first."""
    return self.levels + self.spec.prefix_levels

  def previous(self, x: Num[Array, "batch steps"], y: Int[Array, " batch"] | None = None) -> Int[Array, "batch steps"]:
    """Return each position's previous token: `x` moved one to the right, `start` in front; they carry the labels y."""
    tokens = jnp.pad(x.astype(jnp.int32), ((0, 0), (1, 0)), constant_values=self.start)[:, :-1]
    return tokens if y is None else self._labelled(tokens, y[:, None])

  def _labelled(self, tokens: Int[Array, "*shape"], y: Int[Array, "..."] | None) -> Int[Array, "*shape"]:
    return tokens if y is None else tokens + (self.start + 1) * y

  def init(self, key, batch):
    del batch  # initialization needs no data
    variables = self.network.init(key, jnp.full((1, self.network.num_steps), self.start, jnp.int32), None)
    return {"model": variables["params"]}, {}

  def logits(self, params, x, key=None, y=None, prefix=None):
    """As in the base; a model of x given a prefix needs it, [batch, prefix_steps]."""
    if self.prefix_conditional and prefix is None:
      raise SpecError(f"{type(self.network).__name__} is conditional on a prefix; give it, [batch, prefix_steps].")
    if self.class_conditional and y is None:
      raise SpecError(f"{type(self.network).__name__} is class-conditional; give labels y, [batch].")
    first = self.spec.prefix_steps
    tokens = x if prefix is None else self._with_prefix(prefix, x)
    logits: Any = self.network.apply({"params": params["model"]}, self.previous(tokens, y), key)
    return logits[:, first:, :self.levels] if first else logits

  def log_probs(self, params, batch, key=None):
    real, x = self.real_tokens(batch)
    prefix = prefix_of(batch, self) if self.prefix_conditional else None
    if prefix is not None and key is not None and (self.prefix_dropout or self.prefix_token_dropout):
      key, whole_key, token_key = jax.random.split(key, 3)
      prefix = prefix * jax.random.bernoulli(whole_key, 1.0 - self.prefix_dropout, (len(prefix), 1))
      prefix = prefix * jax.random.bernoulli(token_key, 1.0 - self.prefix_token_dropout, prefix.shape)
    return jnp.where(real, token_log_prob(self.logits(params, x, key, self._labels(batch), prefix), x), 0.0)

  def init_cache(self, params, num, prefix=None, y=None):
    """Return the state before the first token; a model of x given a prefix needs it, [num, prefix_steps], and one given
    labels y [num]."""
    cache = self._empty_cache(params, num)
    if not self.given:
      return cache
    if self.class_conditional and y is None:
      raise SpecError(f"{type(self.network).__name__} is class-conditional: steps need labels, which only `sample` "
                      "takes. Set class_conditional to False to complete, generate or code.")
    if not self.prefix_conditional:
      return ConditionCache(cache, jnp.zeros((num, 0), jnp.int32), y)
    if prefix is None:
      raise SpecError(f"{type(self.network).__name__} is conditional on a prefix: steps need it, which only `sample` "
                      "takes. Leave #prefix out of data.name to complete, generate or code.")
    tokens = self._with_prefix(prefix, jnp.zeros((num, 0), jnp.int32))
    return ConditionCache(self.network.prefill({"params": params["model"]}, cache, self.previous(tokens, y),
                                               jnp.asarray(self.spec.prefix_steps)), tokens, y)

  def conditional_step(self, params, cache, x_previous, index):
    first, is_given = self.spec.prefix_steps, bool(self.given)
    state, y = (cache.network, cache.y) if is_given else (cache, None)
    previous = jnp.where(index == 0, cache.prefix[:, -1] if first else self.start, x_previous.astype(jnp.int32))
    logits, state = self.network.apply({"params": params["model"]}, state, self._labelled(previous, y),
                                       index + first, method="step")
    return (ConditionCache(state, cache.prefix, y), logits[:, :self.levels]) if is_given else (state, logits)

  def prefill(self, params: Params, cache: PyTree, x: Int[Array, "batch prompt"], num: Int[Array, ""]) -> PyTree:
    """Return the cache that `conditional_step` at indices 0 to num - 1 leaves, of prompts x; see `HasPrefill`."""
    variables, first = {"params": params["model"]}, self.spec.prefix_steps
    if not self.given:
      return self.network.prefill(variables, cache, self.previous(x), num)
    # From the start again: a recurrent state knows the prefix already.
    tokens = jnp.concatenate([cache.prefix, x.astype(jnp.int32)], axis=1)
    state = self.network.prefill(variables, self._empty_cache(params, len(x)), self.previous(tokens, cache.y),
                                 num + first)
    return ConditionCache(state, cache.prefix, cache.y)

  def conditional_cache(self, params, num, condition):
    labels = condition_labels(self, condition, num) if self.class_conditional else None
    return self.init_cache(params, num, self._condition(condition, num), labels)

  def _empty_cache(self, params: Params, num: int) -> PyTree:
    dtype = jax.tree.leaves(params["model"])[0].dtype
    return self.network.apply({"params": params["model"]}, num, dtype, method="init_cache")

  def _condition(self, condition: Condition | None, num: int) -> Int[Array, "num steps"] | None:
    name = type(self.network).__name__
    if not self.prefix_conditional:
      if condition is not None and not self.class_conditional:
        raise SpecError(f"{name} is not conditional; condition must be None (`generate` takes prompts).")
      return None
    tokens = by_name(self, condition).get("prefix")
    if tokens is None and not self.prefix_dropout:
      raise SpecError(f"{name} is conditional on a prefix; condition must be prefixes "
                      f"[{num}, {self.spec.prefix_steps}].")
    return condition_prefix(self.spec, np.zeros(self.spec.prefix_steps, np.int32) if tokens is None else tokens, num)

  def _labels(self, batch: Batch) -> Int[Array, " batch"] | None:
    if not self.class_conditional:
      return None
    checks.has_labels(batch, self)
    return jnp.asarray(batch["y"]).astype(jnp.int32)

  def _with_prefix(self, prefix: Int[Array, "batch prefix"], x: Num[Array, "batch steps"]) -> Int[Array, "batch _"]:
    """Return the tokens of the prefix, which follow those of x in the vocabulary, and then x."""
    return jnp.concatenate([prefix + self.levels, x.astype(jnp.int32)], axis=1)
