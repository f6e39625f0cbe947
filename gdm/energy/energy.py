"""The base of all energy models: how chains are kept, and how log Z is found.

p(x) = f(x) / Z. A path leads from a base, which is easy to normalize and to draw from and stands near the data, to f.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.docstrings import DocumentsFields
from gdm.energy.normalizers import NORMALIZERS, LogIntegral, Normalizer
from gdm.errors import ConfigError, nearest
from gdm.inference import annealed_importance as annealing
from gdm.model import Batch, Carry, Params

ANNEALING = ("num_temperatures", "num_chains")  # settings of a likelihood that is found by annealing


@dataclasses.dataclass(frozen=True)
class EnergyModel(DocumentsFields, abc.ABC):
  """A model known up to its normalizer Z.

  Values below are the examples as the model computes with them: flat floats of discrete data, standardized numbers of
  real data. Carry: "chains" [chain_shards, chains_per_shard, *event] where they persist.

  Attributes:
    spec: the data.
    objective: how it is trained; "pcd" keeps persistent chains (Tieleman, 2008), "cd" starts them at the data (Hinton,
      2002).
    num_steps: steps of the chains per training step, the k of CD-k.
    chain_shards: parts in which persistent chains are kept; a multiple of the devices that share them.
    chains_per_shard: chains of each part.
    normalizer: a name of gdm/energy/normalizers.py, or "auto".
    num_temperatures: steps between the base and the model, in annealing.
    num_chains: chains that estimate log Z, in annealing.
  """

  spec: DataSpec
  objective: str = "pcd"
  num_steps: int = 1
  chain_shards: int = 8
  chains_per_shard: int = 16
  normalizer: str = "auto"
  num_temperatures: int = 1000
  num_chains: int = 256

  known_objectives: ClassVar[Sequence[str]]  # ways in which it can be trained
  known_normalizers: ClassVar[Sequence[str]]  # ways in which it can be normalized
  rejects: ClassVar[bool]  # whether the chains' moves can be rejected, so that their acceptance matters

  def __post_init__(self) -> None:
    self.spec.require_whole(type(self).__name__)
    checks.one_of("model.objective", self.objective, self.known_objectives)
    checks.one_of("model.normalizer", self.normalizer, ("auto", *self.known_normalizers))
    for name, least in (("num_steps", 1), ("chain_shards", 1), ("chains_per_shard", 1), ("num_temperatures", 1),
                        ("num_chains", 2)):
      checks.at_least(f"model.{name}", getattr(self, name), least)

  # What a model supplies.

  @abc.abstractmethod
  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return fresh parameters and carry; see gdm/model.py."""

  @property
  @abc.abstractmethod
  def automatic_normalizer(self) -> str:
    """The one that "auto" stands for."""

  @abc.abstractmethod
  def log_f(self, params: Params, carry: Carry, x: Float[Array, "batch *shape"]) -> Float[Array, " batch"]:
    """Return log f of values in nats."""

  @abc.abstractmethod
  def log_integral(self, params: Params, carry: Carry,
                   examples: Float[Array, "examples *shape"] | None = None) -> LogIntegral:
    """Return log Z in nats by a sum or by quadrature; mass is looked for at examples too."""

  @abc.abstractmethod
  def path(self, params: Params, carry: Carry) -> annealing.Path:
    """Return the path from the model's own base to the model."""

  @abc.abstractmethod
  def path_about(self, params: Params, carry: Carry, x: Float[Array, "states *shape"],
                 weights: Float[Array, " states"]) -> annealing.Path:
    """Return the path from a base that is fitted to weighted values."""

  @abc.abstractmethod
  def starts(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
             examples: Float[Array, "examples *shape"] | None = None) -> list[Float[Array, "num *shape"]]:
    """Return values of several kinds, `num` of each, at which modes that annealing misses are looked for."""

  @abc.abstractmethod
  def settle(self, params: Params, carry: Carry, key: Key[Array, ""], x: Float[Array, "chains *shape"],
             num_steps: int) -> Float[Array, "chains *shape"]:
    """Return where chains come to from x in `num_steps` steps at the model itself."""

  @abc.abstractmethod
  def spread(self, params: Params) -> Float[Array, "*shape"]:
    """Return the unit of every dimension, in which values are near or far."""

  # What follows from it.

  @property
  def normalized(self) -> Normalizer:
    """The way in which log Z and log p(x) are found."""
    return NORMALIZERS[self.automatic_normalizer if self.normalizer == "auto" else self.normalizer]

  def scored_by(self, name: str, **settings: Any) -> "EnergyModel":
    """Return the model with another normalizer, and `num_temperatures` and `num_chains` where they are given.

    Raise ConfigError for an unknown name, other settings, or one that is no whole number.
    """
    for setting, value in settings.items():
      if setting not in ANNEALING:
        raise ConfigError(f"likelihood {name} has no setting {setting!r}; {nearest(setting, ANNEALING)}")
      if not isinstance(value, int):
        raise ConfigError(f"{setting} of likelihood {name} is {value!r}; it must be a whole number.")
    return dataclasses.replace(self, normalizer=name, **settings)

  def require_chains(self, carry: Carry) -> None:
    """Raise ConfigError where draws are to start at persistent chains and there are none."""
    if "chains" not in carry:
      raise ConfigError(f"start is 'chains', but objective {self.objective!r} of {type(self).__name__} keeps none; it "
                        "must be 'base'.")


def picked_chains(chains: Float[Array, "chains *shape"], key: Key[Array, ""],
                  num: int) -> Float[Array, "num *shape"]:
  """Return `num` chains in random order, each once before any twice."""
  return jax.random.permutation(key, chains)[jnp.arange(num) % len(chains)]
