"""A product of densities, by the sum of their energies: log f(x) = sum_i w_i log f_i(x) (Hinton, 2002; for energies of
pictures, Du et al., arXiv:2004.06030).

Where one part says "the first half is like this" and another "the second half is like that", the product says both.
Parts are trained one by one; nothing remains to be trained or solved here but the normalizer.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gdm import checks
from gdm.energy.continuous.chains import Energy, PathBase, gaussian_base
from gdm.energy.continuous.energy import ContinuousEnergy
from gdm.errors import ConfigError, SpecError
from gdm.inference.quadrature import Box
from gdm.model import Batch, Carry, Model, Objective, Params, PyTree
from gdm.submodels import carry_of, merged_carry, named_params, params_of

CHAINS = "chains"  # what a part's training keeps and a product has no use for


@dataclasses.dataclass(frozen=True)
class Product(ContinuousEnergy):
  """The parts' densities multiplied, each to the power of its weight; see `ContinuousEnergy` for the other attributes.

  All parts see the same real-valued x, after the same noise where the data are integers, each by its own
  standardization. Part k's parameter group "g" is the product's "k/g"; its part of a carry entry is the entry's "k".
  The product's own "base" is the Gaussian whose log-density is the weighted mean of those of the parts' moments.

  Attributes:
    components: energies of real numbers, of the same data spec.
    weights: a positive weight for each; () is one for all.
  """

  components: tuple[Model, ...] = dataclasses.field(kw_only=True)
  weights: tuple[float, ...] = ()

  known_objectives: ClassVar[Sequence[str]] = ("pcd",)  # it is not trained

  def __post_init__(self) -> None:
    super().__post_init__()
    if not self.components:
      raise SpecError("model.components is empty; a product needs at least one model.")
    for index, component in enumerate(self.components):
      if not isinstance(component, ContinuousEnergy):
        raise SpecError(f"model.components[{index}] is {type(component).__name__}, which has no energy of real numbers "
                        "to be added; choose ebm, jem or tilted.")
      if component.spec != self.spec:
        raise SpecError(f"model.components[{index}] models {component.spec}, the product {self.spec}; all must model "
                        "data of the same kind.")
    positive = all(0.0 < weight < math.inf for weight in self.weights)
    if not positive or len(self.weights) not in (0, len(self.components)):
      raise ConfigError(f"model.weights is {self.weights}; it must be () or {len(self.components)} positive numbers: "
                        "what is left of one energy without another may be no density.")

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return ()

  @property
  def parts(self) -> tuple[ContinuousEnergy, ...]:
    return tuple(part for part in self.components if isinstance(part, ContinuousEnergy))

  @property
  def powers(self) -> tuple[float, ...]:
    return self.weights or (1.0,) * len(self.components)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return each part's own, from a key of its own."""
    return self.join([part.init(jax.random.fold_in(key, index), batch) for index, part in enumerate(self.parts)])

  def join(self, parts: Sequence[tuple[Params, Carry]]) -> tuple[Params, Carry]:
    """Return the product's parameters and carry from those of its parts, in order."""
    params, carry = {"base": self._base([own["base"] for own, _ in parts])}, {}
    for index, (own_params, own_carry) in enumerate(parts):
      params |= named_params(own_params, f"{index}/")
      carry = merged_carry(carry, str(index), {name: own_carry[name] for name in own_carry if name != CHAINS})
    return params, carry

  def energy(self, params: Params, carry: Carry, condition: Array | None = None) -> Energy:
    own = [params_of(params, f"{index}/") for index in range(len(self.parts))]
    energies = [part.energy(own[index], carry_of(carry, str(index))) for index, part in enumerate(self.parts)]

    def energy(u):
      # By one scale and one shift, in which what is narrow and far from 0 keeps its digits; x would not.
      each = [weight * of(u * (params["base"]["scale"] / part["base"]["scale"])
                          + (params["base"]["centre"] - part["base"]["centre"]) / part["base"]["scale"])
              for weight, of, part in zip(self.powers, energies, own, strict=True)]
      return functools.reduce(jnp.add, each)

    return energy

  def base_of(self, params: Params, carry: Carry) -> PathBase:
    return gaussian_base(params["base"])

  def checked_condition(self, condition: Array | None, num: int, start: str) -> None:
    checks.unconditional(self, condition)

  def box(self, params: Params) -> Box:
    """About the product's own mean, as finely as its own deviation asks for, as far as the boxes of all parts."""
    base = params["base"]

    def farthest(index: int, part: ContinuousEnergy) -> Array:
      own = params_of(params, f"{index}/")
      box = part.box(own)
      shift = (own["base"]["centre"] - base["centre"]) / base["scale"]
      ratio = own["base"]["scale"] / base["scale"]
      return jnp.abs(shift + ratio * box.centre - base["mean"]) + ratio * box.half_width

    reaches = [farthest(index, part) for index, part in enumerate(self.parts)]
    return Box(base["mean"], base["deviation"], functools.reduce(jnp.maximum, reaches))

  def _base(self, bases: Sequence[Params]) -> PyTree:
    """Standardization by the mean precision of the parts' own, and the Gaussian of their moments."""
    shares = [power / sum(self.powers) for power in self.powers]

    def mean(values):
      return functools.reduce(jnp.add, [share * value for share, value in zip(shares, values, strict=True)])

    def product(centres, scales):
      """Mean and deviation of the Gaussian whose log-density is the mean of the Gaussians' of these.

      What is narrow decides: of scales 0.01 and 10 it is nearly 0.01, while their mean would be 5.
      """
      precisions = [1.0 / jnp.square(scale) for scale in scales]
      precision = mean(precisions)
      first = centres[0]  # differences, which are small where all are far from 0
      return (first + mean([p * (c - first) for p, c in zip(precisions, centres, strict=True)]) / precision,
              1.0 / jnp.sqrt(precision))

    centre, scale = product([base["centre"] for base in bases], [base["scale"] for base in bases])
    middle, deviation = product(
        [(base["centre"] - centre) / scale + base["scale"] / scale * base["mean"] for base in bases],
        [base["scale"] / scale * base["deviation"] for base in bases])
    return {"centre": centre, "scale": scale, "mean": middle, "deviation": deviation}
