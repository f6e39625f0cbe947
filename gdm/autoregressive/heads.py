"""Output heads: what one variable of an autoregressive model is, and its distribution by logits.

The chain rule runs over *variables*: a dimension, or a block of mutually exclusive binary dimensions. A head lays the
data out as float columns, as many as there are logits, so that inputs and logits of a variable have the same indices:

| head | variable | its columns | its logits |
|---|---|---|---|
| Bernoulli | a binary dimension | x | log-odds |
| categorical | a dimension of L levels | thermometer or one-hot code of x | L |
| block | mutually exclusive binary dimensions | those dimensions | log-odds of each member against none |

A block's states are its members and "none"; "none" has logit 0, so a block of one is a Bernoulli. Other patterns have
probability too; see gdm/distributions/blocks.py.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.dataspec import DataSpec
from gdm.distributions import bernoulli, blocks, categorical
from gdm.errors import ConfigError, SpecError, nearest

HEADS = ("auto", "binary", "categorical", "blocks")


@dataclasses.dataclass(frozen=True)
class Head(abc.ABC):
  """The variables of a spec. One variable's value is integers [*batch, span]: its raw dimensions, padded with 0.

  Attributes:
    spec: the data.
    fallback: weight of the patterns that are no state of a block.
    ordered: whether levels are a scale (grey values), coded as thermometers, or mere names, coded one-hot.
  """

  spec: DataSpec
  fallback: float = 1e-5
  ordered: bool = True

  @property
  @abc.abstractmethod
  def columns(self) -> np.ndarray:
    """Columns [variables, width] of each variable, padded with num_columns."""

  @property
  @abc.abstractmethod
  def dims(self) -> np.ndarray:
    """Flat dimensions [variables, span] of each variable, padded with spec.num_dims."""

  @property
  def num_columns(self) -> int:
    return self.columns.size

  @property
  def variables(self) -> np.ndarray:
    """[columns] the variable that each column belongs to."""
    variables = np.empty(self.num_columns + 1, int)
    variables[self.columns] = np.arange(self.num_variables)[:, None]
    return variables[:-1]

  @property
  def num_variables(self) -> int:
    return self.columns.shape[0]

  @property
  def width(self) -> int:
    """The most columns a variable has."""
    return self.columns.shape[1]

  @abc.abstractmethod
  def encode_value(self, value: Int[Array, "*batch span"]) -> Float[Array, "*batch width"]:
    """The columns of one variable's value."""

  @abc.abstractmethod
  def score(self, logits: Float[Array, "*batch width"], value: Int[Array, "*batch span"],
            variable: Int[Array | np.ndarray, "..."]) -> Float[Array, "*batch"]:
    """Log-probability in nats of one variable's value."""

  @abc.abstractmethod
  def draw(self, key: Key[Array, ""], logits: Float[Array, "batch width"], variable: Int[Array, ""],
           temperature: float = 1.0) -> Int[Array, "batch span"]:
    """Draws one variable's value; `temperature` divides the logits."""

  @abc.abstractmethod
  def marginal_logits(self, x: Num[Array, "batch dims"]) -> Float[Array, " columns"]:
    """Logits of the variables' marginals in x, smoothed by one count per state: where output biases start."""

  def encode(self, x: Num[Array, "batch dims"]) -> Float[Array, "batch columns"]:
    """All columns of x."""
    return self.encode_value(x[..., None]).reshape(x.shape[0], -1)

  def log_prob(self, logits: Float[Array, "batch columns"], x: Num[Array, "batch dims"]
               ) -> Float[Array, "batch variables"]:
    """Log-probability in nats of every variable of x."""
    logits = logits.reshape(-1, *self.columns.shape)
    return self.score(logits, x[..., None], jnp.arange(self.num_variables))

  def split(self, x: Num[Array, "batch dims"]) -> Int[Array, "variables batch span"]:
    """The value of every variable."""
    padded = jnp.pad(x.astype(jnp.int32), ((0, 0), (0, 1)))
    return jnp.moveaxis(padded[:, self.dims], 1, 0)

  def join(self, values: Int[Array, "steps batch span"], variables: Int[Array, " steps"]) -> Int[Array, "batch dims"]:
    """The examples whose variables, in the order of `variables`, are `values`."""
    x = jnp.zeros((values.shape[1], self.spec.num_dims), values.dtype)
    return x.at[:, jnp.asarray(self.dims)[variables]].set(jnp.moveaxis(values, 0, 1), mode="drop")

  def known_variables(self, known: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, " variables"]:
    """Which variables a mask over the event knows; a SpecError where it knows one in part."""
    if known.shape != self.spec.event:
      raise SpecError(f"known has shape {known.shape}; it needs one entry per dimension of the event "
                      f"{self.spec.event}.")
    whole = np.all(np.append(known, True)[self.dims], axis=1)
    some = np.any(np.append(known, False)[self.dims], axis=1)
    for dims in self.dims[some & ~whole][:1]:
      block = [int(i) for i in dims if i < self.spec.num_dims]
      raise SpecError(f"known holds a part of the block of dimensions {block}; a block is drawn jointly, so know all "
                      "of it or nothing.")
    return np.asarray(whole)


@dataclasses.dataclass(frozen=True)
class BernoulliHead(Head):
  """Binary dimensions by their log-odds."""

  @property
  def columns(self) -> np.ndarray:
    return np.arange(self.spec.num_dims)[:, None]

  @property
  def dims(self) -> np.ndarray:
    return self.columns

  def encode_value(self, value):
    return value.astype(jnp.float32)

  def score(self, logits, value, variable):
    return bernoulli.log_prob(logits, value)[..., 0]

  def draw(self, key, logits, variable, temperature=1.0):
    return bernoulli.sample(key, logits, temperature)

  def marginal_logits(self, x):
    ones = jnp.sum(x, axis=0, dtype=jnp.float32)
    return jnp.log(ones + 1.0) - jnp.log(x.shape[0] - ones + 1.0)


@dataclasses.dataclass(frozen=True)
class CategoricalHead(Head):
  """Dimensions of L levels by L logits."""

  @property
  def columns(self) -> np.ndarray:
    levels = self.spec.require_discrete("a categorical head")
    return np.arange(self.spec.num_dims * levels).reshape(-1, levels)

  @property
  def dims(self) -> np.ndarray:
    return np.arange(self.spec.num_dims)[:, None]

  def encode_value(self, value):
    levels = jnp.arange(self.width)
    # A thermometer, x >= 0, x >= 1, ...: neighbouring values have like codes, which small data sets need.
    return (value >= levels if self.ordered else value == levels).astype(jnp.float32)

  def score(self, logits, value, variable):
    return categorical.log_prob(logits, value[..., 0])

  def draw(self, key, logits, variable, temperature=1.0):
    return categorical.sample(key, logits, temperature)[..., None]

  def marginal_logits(self, x):
    counts = jnp.sum(jax.nn.one_hot(x, self.width), axis=0)
    return jnp.log((counts + 1.0) / (x.shape[0] + self.width)).ravel()


@dataclasses.dataclass(frozen=True)
class BlockHead(Head):
  """Blocks of mutually exclusive binary dimensions, each by one categorical over its members and "none"."""

  def __post_init__(self) -> None:
    if not self.spec.blocks:
      raise SpecError("heads is 'blocks', but the data has none (spec.blocks is empty); add the `blocks` transform, or "
                      "set heads to 'auto'.")
    blocks.require_fallback(self.fallback)

  @property
  def columns(self) -> np.ndarray:
    return self.dims

  @property
  def dims(self) -> np.ndarray:
    return blocks.blocks_of(self.spec).dims

  @property
  def num_columns(self) -> int:
    return self.spec.num_dims

  def encode_value(self, value):
    return value.astype(jnp.float32)

  def encode(self, x):
    return self.encode_value(x)

  def score(self, logits, value, variable):
    tables = blocks.blocks_of(self.spec)
    size = jnp.asarray(tables.sizes)[variable]
    member = jnp.where(jnp.arange(value.shape[-1]) < size[..., None], logits, -jnp.inf)
    chosen = jnp.sum(jnp.where(value > 0, logits, 0.0), axis=-1)
    state = chosen - jnp.logaddexp(jax.nn.logsumexp(member, axis=-1), 0.0)
    return blocks.log_prob(tables, state, size, jnp.sum(value, axis=-1), self.fallback)

  def log_prob(self, logits, x):
    # One group per block size: padding all blocks to the largest would cost singletons that much more.
    scores, order = [], []
    for variables, dims in blocks.blocks_of(self.spec).groups:
      scores.append(self.score(logits[:, dims], x[:, dims].astype(jnp.int32), variables))
      order.append(variables)
    return jnp.concatenate(scores, axis=1)[:, np.argsort(np.concatenate(order))]

  def draw(self, key, logits, variable, temperature=1.0):
    size = jnp.asarray(blocks.blocks_of(self.spec).sizes)[variable]
    members = jnp.where(jnp.arange(self.width) < size, logits, -jnp.inf)
    states = jnp.concatenate([jnp.zeros_like(logits[..., :1]), members], axis=-1)
    return blocks.draw(key, states, size, self.fallback, temperature)

  def marginal_logits(self, x):
    tables = blocks.blocks_of(self.spec)
    ones = jnp.sum(x, axis=0, dtype=jnp.float32)
    none = jnp.sum(blocks.count_ones(tables, x) == 0, axis=0, dtype=jnp.float32)
    return jnp.log(ones + 1.0) - jnp.log(none[tables.owner] + 1.0)


def make_head(spec: DataSpec, heads: str, fallback: float, ordered: bool) -> Head:
  """The head called `heads`; "auto" takes blocks where the spec has them, else Bernoulli or categorical by its levels.

  Raises:
    ConfigError: `heads` is unknown, or `fallback` out of range.
    SpecError: the data is continuous, or not what that head needs.
  """
  levels = spec.require_discrete("an autoregressive model of this kind")
  builders = {"binary": BernoulliHead, "categorical": CategoricalHead, "blocks": BlockHead}
  automatic = "blocks" if spec.blocks else "binary" if levels == 2 else "categorical"
  name = automatic if heads == "auto" else heads
  if name not in builders:
    raise ConfigError(f"heads is {heads!r}; {nearest(heads, HEADS)}")
  if name != "categorical":
    spec.require_binary(f"heads {name!r}")
  return builders[name](spec, fallback, ordered)
