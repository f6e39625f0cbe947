"""Autoregressive models of sequences of tokens, and of any discrete event in raster order."""

import abc
import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num, PyTree

from gdm.autoregressive.token_model import TokenModel, token_log_prob
from gdm.errors import SpecError
from gdm.inference.generation import TokenChoice
from gdm.model import Params, Samples
from gdm.networks.from_data import from_data


class SequenceNetwork(nn.Module, abc.ABC):
  """Each position's previous token to logits of its token, which depend on no later one.

  The token before the first is `levels`, which a network embeds like any other: its embedding has levels + 1 rows. So a
  window of T tokens scores T tokens.

  Attributes:
    levels: size of the vocabulary.
    num_steps: tokens of an example.
  """

  levels: int = from_data(0)
  num_steps: int = from_data(0)

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


@dataclasses.dataclass(frozen=True)
class SequenceModel(TokenModel):
  """A model of sequences of tokens.

  Data: "x" [batch, *event] of integers in [0, levels), flattened to [batch, num_dims]; with "length" [batch], only the
  first `length` tokens are real (along the event's first axis), the likelihood is theirs, and padding changes nothing.

  Attributes:
    spec: the data; levels is the size of the vocabulary.
    network: maps previous tokens to logits.

  Raises:
    ConfigError: a field of the network is out of range for such sequences.
    SpecError: the data is not integers.

  Example:
    model = SequenceModel(DataSpec((64,), 65), Transformer(width=128))
    params, carry = model.init(jax.random.key(0), {"x": x})
    text = model.generate(params, jax.random.key(1), prompt=prompt).tokens
  """

  network: SequenceNetwork

  def __post_init__(self) -> None:
    levels = self.spec.require_discrete(type(self.network).__name__)
    object.__setattr__(self, "network", self.network.clone(levels=levels, num_steps=self.spec.num_dims))

  @property
  def context(self) -> int | None:
    return self.num_steps if self.network.has_limit else None

  @property
  def given(self) -> tuple[str, ...]:
    return ()

  @property
  def start(self) -> int:
    """The token that networks take for the one before the first."""
    return self.levels

  def previous(self, x: Num[Array, "batch steps"]) -> Int[Array, "batch steps"]:
    """Return each position's previous token: `x` moved one to the right, `start` in front."""
    return jnp.pad(x.astype(jnp.int32), ((0, 0), (1, 0)), constant_values=self.start)[:, :-1]

  def init(self, key, batch):
    del batch  # initialization needs no data
    variables = self.network.init(key, jnp.full((1, self.num_steps), self.start, jnp.int32), None)
    return {"model": variables["params"]}, {}

  def logits(self, params, x, key=None, y=None):
    logits: Any = self.network.apply({"params": params["model"]}, self.previous(x), key)
    return logits

  def log_probs(self, params, batch, key=None):
    real, x = self.real_tokens(batch)
    return jnp.where(real, token_log_prob(self.logits(params, x, key), x), 0.0)

  def init_cache(self, params, num):
    dtype = jax.tree.leaves(params["model"])[0].dtype
    return self.network.apply({"params": params["model"]}, num, dtype, method="init_cache")

  def conditional_step(self, params, cache, x_previous, index):
    previous = jnp.where(index == 0, self.start, x_previous.astype(jnp.int32))
    logits, cache = self.network.apply({"params": params["model"]}, cache, previous, index, method="step")
    return cache, logits

  def prefill(self, params: Params, cache: PyTree, x: Int[Array, "batch prompt"], num: Int[Array, ""]) -> PyTree:
    """Return the cache that `conditional_step` at indices 0 to num - 1 leaves, of prompts x; see `HasPrefill`."""
    return self.network.prefill({"params": params["model"]}, cache, self.previous(x), num)

  def sample(self, params: Params, carry: Any, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> Samples:
    """Draw x [num, *event], all of full length; options as in `gdm.inference.generation.TokenChoice`.

    Raises:
      ConfigError: an option outside its range.
      SpecError: a condition is given; these models have none.
    """
    if condition is not None:
      raise SpecError(f"{type(self.network).__name__} is not conditional; condition must be None (`generate` takes "
                      "prompts).")
    forced, known = jnp.zeros((self.num_steps, num), jnp.int32), np.zeros(self.num_steps, bool)
    return self.draw(params, self.init_cache(params, num), key, forced, known, TokenChoice(temperature, top_k, top_p))
