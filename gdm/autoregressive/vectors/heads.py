"""Output heads: what one variable of an autoregressive model is, and its distribution by logits.

The chain rule runs over *variables*: a dimension, or a block of mutually exclusive binary dimensions. A head lays the
data out as float columns. Discrete data has as many as there are logits, so that inputs and logits of a variable have
the same indices:

| head | variable | its inputs | its logits |
|---|---|---|---|
| Bernoulli | a binary dimension | x | log-odds |
| categorical | a dimension of L levels | thermometer or one-hot code of x | L |
| block | mutually exclusive binary dimensions | those dimensions | log-odds of each member against none |
| mixture | a real dimension | x, standardized | K log-weights, K means, K log-scales |

A block's states are its members and "none"; "none" has logit 0, so a block of one is a Bernoulli. Other patterns have
probability too; see gdm/distributions/blocks.py.
"""

import abc
import dataclasses
from types import ModuleType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num, PyTree

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.distributions import bernoulli, blocks, categorical, gaussian_mixture, logistic_mixture
from gdm.distributions.moments import moments
from gdm.distributions.recording import recording_step
from gdm.errors import SpecError

MIXTURES: dict[str, ModuleType] = {"gaussian": gaussian_mixture, "logistic": logistic_mixture}
HEADS = ("auto", "binary", "categorical", "blocks", *MIXTURES)
MIXTURE_WEIGHTS = ("free", "uniform")


@dataclasses.dataclass(frozen=True)
class Head(abc.ABC):
  """The variables of a spec. One variable's value is numbers [*batch, span]: its raw dimensions, padded with 0.

  Attributes:
    spec: the data.
    fallback: weight of the patterns that are no state of a block.
    ordered: whether levels are a scale (grey values), coded as thermometers, or mere names, coded one-hot.
  """

  spec: DataSpec
  fallback: float = 1e-5
  ordered: bool = True

  dtype: ClassVar[Any] = jnp.int32  # of values

  @property
  @abc.abstractmethod
  def columns(self) -> np.ndarray:
    """Columns of logits [variables, width] of each variable, padded with num_columns."""

  @property
  @abc.abstractmethod
  def num_columns(self) -> int:
    """Columns of logits of all variables."""

  @property
  @abc.abstractmethod
  def inputs(self) -> np.ndarray:
    """Columns of inputs [variables, input width] of each variable, padded with num_inputs."""

  @property
  @abc.abstractmethod
  def num_inputs(self) -> int:
    """Columns of inputs of all variables."""

  @property
  @abc.abstractmethod
  def dims(self) -> np.ndarray:
    """Flat dimensions [variables, span] of each variable, padded with spec.num_dims."""

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
  def encode_value(self, value: Num[Array, "*batch span"]) -> Float[Array, "*batch width"]:
    """Return the inputs of one variable's value, standardized."""

  @abc.abstractmethod
  def score(self, logits: Float[Array, "*batch width"], value: Num[Array, "*batch span"],
            variable: Int[Array | np.ndarray, "..."]) -> Float[Array, "*batch"]:
    """Return the log-probability (of real data: log-density) in nats of one variable's value."""

  @abc.abstractmethod
  def draw(self, key: Key[Array, ""], logits: Float[Array, "batch width"], variable: Int[Array, ""],
           temperature: float = 1.0) -> Num[Array, "batch span"]:
    """Draw one variable's value; `temperature` divides the logits."""

  @abc.abstractmethod
  def marginal_logits(self, x: Num[Array, "batch dims"]) -> Float[Array, " columns"]:
    """Return logits of the variables' marginals in x, smoothed by one count per state: where output biases start."""

  @abc.abstractmethod
  def log_prob(self, logits: Float[Array, "batch columns"], x: Num[Array, "batch dims"]
               ) -> Float[Array, "batch variables"]:
    """Return the log-probability in nats of every variable of x."""

  # Units of measurement, which only real data has.

  @abc.abstractmethod
  def measure(self, x: Num[Array, "batch dims"]) -> dict[str, Float[Array, " variables"]]:
    """Return the units of the data, estimated from x; {} where it has none."""

  @abc.abstractmethod
  def standardize(self, units: PyTree, value: Num[Array, "*batch span"],
                  variable: Int[Array | np.ndarray, "..."]) -> Num[Array, "*batch span"]:
    """Return values in the data's units as inputs of a network; `variable` broadcasts against them."""

  @abc.abstractmethod
  def in_units(self, units: PyTree, outputs: Float[Array, "*batch width"],
               variable: Int[Array | np.ndarray, "..."]) -> Float[Array, "*batch width"]:
    """Return a network's outputs as logits that score and draw values in the data's units."""

  # What follows from it.

  def encode(self, x: Num[Array, "batch dims"]) -> Float[Array, "batch columns"]:
    """Return all inputs of x, standardized."""
    return self.encode_value(x[..., None]).reshape(x.shape[0], -1)

  def score_dims(self, logits: Float[Array, "batch columns"], x: Num[Array, "batch dims"]
                 ) -> Float[Array, "batch variables"]:
    """Return `log_prob` where each dimension is a variable and all have as many columns."""
    logits = logits.reshape(-1, *self.columns.shape)
    return self.score(logits, x[..., None], jnp.arange(self.num_variables))

  def split(self, x: Num[Array, "batch dims"]) -> Num[Array, "variables batch span"]:
    """Return the value of every variable."""
    padded = jnp.pad(x.astype(self.dtype), ((0, 0), (0, 1)))
    return jnp.moveaxis(padded[:, self.dims], 1, 0)

  def join(self, values: Num[Array, "steps batch span"], variables: Int[Array, " steps"]) -> Num[Array, "batch dims"]:
    """Return the examples whose variables, in the order of `variables`, are `values`."""
    x = jnp.zeros((values.shape[1], self.spec.num_dims), values.dtype)
    return x.at[:, jnp.asarray(self.dims)[variables]].set(jnp.moveaxis(values, 0, 1), mode="drop")

  def known_variables(self, known: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, " variables"]:
    """Return which variables are known by a mask over the event; a SpecError where one is known in part."""
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
class DiscreteHead(Head):
  """Variables with as many inputs as logits, and without units."""

  @property
  def inputs(self) -> np.ndarray:
    return self.columns

  @property
  def num_inputs(self) -> int:
    return self.num_columns

  def measure(self, x):
    return {}

  def standardize(self, units, value, variable):
    return value

  def in_units(self, units, outputs, variable):
    return outputs


@dataclasses.dataclass(frozen=True)
class BernoulliHead(DiscreteHead):
  """Binary dimensions by their log-odds."""

  @property
  def columns(self) -> np.ndarray:
    return np.arange(self.spec.num_dims)[:, None]

  @property
  def num_columns(self) -> int:
    return self.spec.num_dims

  @property
  def dims(self) -> np.ndarray:
    return self.columns

  def encode_value(self, value):
    return value.astype(jnp.float32)

  def score(self, logits, value, variable):
    return bernoulli.log_prob(logits, value)[..., 0]

  def draw(self, key, logits, variable, temperature=1.0):
    return bernoulli.sample(key, logits, temperature)

  def log_prob(self, logits, x):
    return self.score_dims(logits, x)

  def marginal_logits(self, x):
    ones = jnp.sum(x, axis=0, dtype=jnp.float32)
    return jnp.log(ones + 1.0) - jnp.log(x.shape[0] - ones + 1.0)


@dataclasses.dataclass(frozen=True)
class CategoricalHead(DiscreteHead):
  """Dimensions of L levels by L logits."""

  @property
  def columns(self) -> np.ndarray:
    levels = self.spec.require_discrete("a categorical head")
    return np.arange(self.spec.num_dims * levels).reshape(-1, levels)

  @property
  def num_columns(self) -> int:
    return self.columns.size

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

  def log_prob(self, logits, x):
    return self.score_dims(logits, x)

  def marginal_logits(self, x):
    counts = jnp.sum(jax.nn.one_hot(x, self.width), axis=0)
    return jnp.log((counts + 1.0) / (x.shape[0] + self.width)).ravel()


@dataclasses.dataclass(frozen=True)
class BlockHead(DiscreteHead):
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


@dataclasses.dataclass(frozen=True)
class MixtureSettings:
  """The mixtures that are the outputs of a model of real data.

  Attributes:
    size: components K of each conditional.
    weights: "free", by the network, or "uniform", 1/K each.
    floor: smallest scale of a component in recording steps: the commonest gap between neighbouring values of a
      dimension. Real data is recorded in steps, and a component narrower than one makes a spike of any value that
      repeats, which scores without having learned anything.
  """

  size: int = 10
  weights: str = "free"
  floor: float = 1.0

  def __post_init__(self) -> None:
    checks.at_least("mixture.size", self.size, 1)
    checks.one_of("mixture.weights", self.weights, MIXTURE_WEIGHTS)
    checks.positive("mixture.floor", self.floor, "or densities are unbounded")


@dataclasses.dataclass(frozen=True)
class MixtureHead(Head):
  """Real dimensions by mixtures of Gaussians or of logistics.

  A network's outputs for one variable are log-weights (unless uniform), means and log-scales in units of the data's
  mean and standard deviation; `in_units` adds the floor to the scales and turns all into the data's units.
  """

  family: str = "gaussian"
  mixture: MixtureSettings = MixtureSettings()

  dtype: ClassVar[Any] = jnp.float32

  @property
  def columns(self) -> np.ndarray:
    per_component = 2 if self.mixture.weights == "uniform" else 3
    return np.arange(self.spec.num_dims * per_component * self.mixture.size).reshape(self.spec.num_dims, -1)

  @property
  def num_columns(self) -> int:
    return self.columns.size

  @property
  def inputs(self) -> np.ndarray:
    return np.arange(self.spec.num_dims)[:, None]

  @property
  def num_inputs(self) -> int:
    return self.spec.num_dims

  @property
  def dims(self) -> np.ndarray:
    return self.inputs

  def measure(self, x):
    x = x.astype(jnp.float32)
    mean, scale, _ = moments(x)
    return {"mean": mean, "std": scale, "step": recording_step(x)}

  def standardize(self, units, value, variable):
    return (value - units["mean"][variable]) / units["std"][variable]

  def in_units(self, units, outputs, variable):
    logits, means, log_scales = self._parts(outputs)
    mean, std, step = (units[name][variable][..., None] for name in ("mean", "std", "step"))
    # scale = floor + exp(output), in logarithms: smooth, and never below the floor.
    log_scales = jnp.logaddexp(jnp.log(self.mixture.floor * step), log_scales + jnp.log(std))
    means = mean + std * means
    return jnp.concatenate([*self._free(logits), means, log_scales], axis=-1)

  def encode_value(self, value):
    return value.astype(jnp.float32)

  def score(self, logits, value, variable):
    return MIXTURES[self.family].log_prob(*self._parts(logits), value[..., 0])

  def log_prob(self, logits, x):
    return self.score_dims(logits, x)

  def draw(self, key, logits, variable, temperature=1.0):
    return MIXTURES[self.family].sample(key, *self._parts(logits), temperature)[..., None]

  def marginal_logits(self, x):
    """Return equal weights, means at the quantiles of x, and the scales of a kernel estimate of as many points."""
    size = self.mixture.size
    means = jnp.quantile(x.astype(jnp.float32), (np.arange(size) + 0.5) / size, axis=0).T
    log_scales = jnp.full_like(means, np.log(size ** -0.2))  # Silverman 1986, eq. 3.28
    return jnp.concatenate([*self._free(jnp.zeros_like(means)), means, log_scales], axis=-1).ravel()

  def _parts(self, logits):
    """Return log-weights, means and log-scales, [..., size] each."""
    *free, means, log_scales = jnp.split(logits, logits.shape[-1] // self.mixture.size, axis=-1)
    return (*(free or [jnp.zeros_like(means)]), means, log_scales)

  def _free(self, logits) -> list[Array]:
    return [] if self.mixture.weights == "uniform" else [logits]


def make_head(spec: DataSpec, heads: str, fallback: float, ordered: bool,
              mixture: MixtureSettings | None = None) -> Head:
  """Return the head called `heads`.

  "auto" takes mixtures of Gaussians for continuous data, blocks where the spec has them, else Bernoulli or categorical
  by the number of levels.

  Raises:
    ConfigError: `heads` is unknown, or `fallback` out of range.
    SpecError: the data is not what that head needs, or continuous and the model has no mixtures.
  """
  checks.one_of("heads", heads, HEADS)
  if mixture is not None and (heads in MIXTURES or (heads == "auto" and not spec.is_discrete)):
    spec.require_continuous(f"heads {heads!r}")
    return MixtureHead(spec, fallback, ordered, "gaussian" if heads == "auto" else heads, mixture)
  if heads in MIXTURES:
    raise SpecError(f"heads is {heads!r}, but this model is of discrete data; use rnade or made for real data.")
  levels = spec.require_discrete("an autoregressive model of this kind" if heads == "auto" else f"heads {heads!r}")
  builders = {"binary": BernoulliHead, "categorical": CategoricalHead, "blocks": BlockHead}
  automatic = "blocks" if spec.blocks else "binary" if levels == 2 else "categorical"
  name = automatic if heads == "auto" else heads
  if name != "categorical":
    spec.require_binary(f"heads {name!r}")
  return builders[name](spec, fallback, ordered)
