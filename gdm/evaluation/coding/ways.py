"""Which coder a model is coded by: a model is asked by protocol."""

import abc
import dataclasses
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Int, Integer, UInt32

from gdm.batches import given
from gdm.errors import ConfigError
from gdm.evaluation.coding.bits_back import BitsBackCoder, bits_back_batch_size
from gdm.evaluation.coding.chains import SymbolChain, chain_of
from gdm.evaluation.coding.coder import Coder, coding_batch_size
from gdm.evaluation.coding.codes import CodesCoder, chain_of_codes, codes_batch_size
from gdm.evaluation.coding.integers import IntegerCoder, integers_batch_size
from gdm.evaluation.coding.latent_coder import LatentCoder
from gdm.evaluation.coding.local_bits_back import LocalBitsBackCoder, local_bits_back_batch_size
from gdm.evaluation.coding.noise_steps import NoiseStepsCoder, noise_steps_batch_size
from gdm.evaluation.coding.parts import Parts
from gdm.model import (
  Carry,
  HasBitsBack,
  HasCodes,
  HasIntegerSteps,
  HasNoiseSteps,
  HasNormalBijection,
  HasOrders,
  Model,
  Params,
)


@runtime_checkable
class AnyCoder(Protocol):
  """A coder of examples: what it encodes it decodes."""

  def encode(self, x: Integer[np.ndarray, "examples *event"],
             length: Integer[np.ndarray, " examples"] | None = None) -> UInt32[np.ndarray, " words"]: ...

  def decode(self, words: UInt32[np.ndarray, " words"], num_examples: int, has_length: bool = False,
             pad: int = 0) -> tuple[Int[np.ndarray, "examples *event"], Int[np.ndarray, " examples"] | None]: ...


class Way(abc.ABC):
  """A way to code a model's examples."""

  @property
  @abc.abstractmethod
  def num_steps(self) -> int:
    """Return the symbols of an example."""

  @property
  def by_latents(self) -> bool:
    """Return whether the payload rests on initial bits, below which latents were popped."""
    return False

  @abc.abstractmethod
  def batch_size(self, num_examples: int, at_most: int) -> int:
    """Return the batch size for so many examples."""

  @abc.abstractmethod
  def coder(self, params: Params, carry: Carry, batch_size: int) -> AnyCoder:
    """Return a coder; it compiles."""

  def spent(self, coder: AnyCoder) -> tuple[int, Parts | None]:
    """Return the initial bits of what the coder encoded last, and its parts where it has any."""
    return 0, None


@dataclasses.dataclass(frozen=True)
class ByConditionals(Way):
  """Symbol after symbol, each given those before."""

  chain: SymbolChain

  @property
  def num_steps(self) -> int:
    return self.chain.num_steps

  def batch_size(self, num_examples: int, at_most: int) -> int:
    return coding_batch_size(self.chain, num_examples, at_most)

  def coder(self, params: Params, carry: Carry, batch_size: int) -> AnyCoder:
    return Coder(self.chain, params, batch_size)


class ByLatents(Way):
  """By latents that are popped from the bits below; `model` is the model."""

  model: Any

  @property
  def num_steps(self) -> int:
    return self.model.spec.num_dims

  @property
  def by_latents(self) -> bool:
    return True

  def spent(self, coder: AnyCoder) -> tuple[int, Parts | None]:
    made = cast(LatentCoder, coder)
    return made.num_initial_bits, made.parts


@dataclasses.dataclass(frozen=True)
class ByBitsBack(ByLatents):
  """By latents; `num_samples` draws of them for each example."""

  model: HasBitsBack
  num_samples: int

  def batch_size(self, num_examples: int, at_most: int) -> int:
    return bits_back_batch_size(self.model, num_examples, self.num_samples, at_most)

  def coder(self, params: Params, carry: Carry, batch_size: int) -> AnyCoder:
    return BitsBackCoder(self.model, params, carry, batch_size, self.num_samples)


@dataclasses.dataclass(frozen=True)
class ByCodes(Way):
  """By discrete codes, then by what is left given these."""

  model: HasCodes

  @property
  def num_steps(self) -> int:
    return chain_of_codes(self.model).num_steps + cast(Any, self.model).spec.num_dims

  def batch_size(self, num_examples: int, at_most: int) -> int:
    return codes_batch_size(self.model, num_examples, at_most)

  def coder(self, params: Params, carry: Carry, batch_size: int) -> AnyCoder:
    return CodesCoder(self.model, params, carry, batch_size)


@dataclasses.dataclass(frozen=True)
class ByIntegers(Way):
  """By integers that are shifted and leave."""

  model: HasIntegerSteps

  @property
  def num_steps(self) -> int:
    return cast(Any, self.model).spec.num_dims

  def batch_size(self, num_examples: int, at_most: int) -> int:
    return integers_batch_size(self.model, num_examples, at_most)

  def coder(self, params: Params, carry: Carry, batch_size: int) -> AnyCoder:
    return IntegerCoder(self.model, params, carry, batch_size)


@dataclasses.dataclass(frozen=True)
class ByLocalBitsBack(ByLatents):
  """By the normals that a flow makes of integers and noise."""

  model: HasNormalBijection

  def batch_size(self, num_examples: int, at_most: int) -> int:
    return local_bits_back_batch_size(self.model, num_examples, at_most)

  def coder(self, params: Params, carry: Carry, batch_size: int) -> AnyCoder:
    return LocalBitsBackCoder(self.model, params, carry, batch_size)


@dataclasses.dataclass(frozen=True)
class ByNoiseSteps(ByLatents):
  """By the states of a diffusion model."""

  model: HasNoiseSteps

  def batch_size(self, num_examples: int, at_most: int) -> int:
    return noise_steps_batch_size(self.model, num_examples, at_most)

  def coder(self, params: Params, carry: Carry, batch_size: int) -> AnyCoder:
    return NoiseStepsCoder(self.model, params, carry, batch_size)


def claimed_model(model: Model, num_samples: int = 1) -> Model:
  """Return the model whose likelihood the coded bits should come to: of one that is agnostic to the order of its
  dimensions the mixture of its chains in `num_samples` fixed orders, else the model itself."""
  return cast(Model, model.in_orders(num_samples)) if isinstance(model, HasOrders) else model


def way_of(model: Model, num_samples: int = 1) -> Way:
  """Return the way in which a model's examples are coded.

  Args:
    model: the model.
    num_samples: draws of the latents of each example; of a model that is agnostic to order, the orders that are mixed.

  Raises:
    ConfigError: the model offers neither conditionals nor latents to code by, is conditional, or has no use for so
      many samples.
    SpecError: its data is not discrete.
  """
  model.spec.require_discrete("lossless coding")
  if num_samples < 1:
    raise ConfigError(f"num_samples is {num_samples}; it must be at least 1.")
  if names := given(model):
    raise ConfigError(f"{type(model).__name__} is conditional on {' and '.join(names)}, which a payload does not hold; "
                      "train it without.")
  if isinstance(model, HasBitsBack):
    model.latent_layers()  # raises where the latents cannot be coded
    return ByBitsBack(model, num_samples)
  if isinstance(model, HasOrders):
    return ByConditionals(chain_of(claimed_model(model, num_samples)))
  if isinstance(model, HasNormalBijection):
    model.require_normal_bijection()
  if isinstance(model, HasNoiseSteps):
    model.require_noise_steps()
  way = (ByCodes(model) if isinstance(model, HasCodes) else
         ByIntegers(model) if isinstance(model, HasIntegerSteps) else
         ByLocalBitsBack(model) if isinstance(model, HasNormalBijection) else
         ByNoiseSteps(model) if isinstance(model, HasNoiseSteps) else ByConditionals(chain_of(model)))
  if num_samples > 1:
    raise ConfigError(f"num_samples is {num_samples}, but {type(model).__name__} is coded without any draw; leave it "
                      "at 1.")
  if isinstance(model, HasCodes):
    chain_of_codes(model)  # raises where the codes cannot be coded
  return way
