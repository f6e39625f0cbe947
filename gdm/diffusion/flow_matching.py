"""Flow matching on straight lines between noise and data, also called rectified flow.

Lipman et al., arXiv:2210.02747; Liu et al., arXiv:2209.03003; with minibatch optimal transport Tong et al.,
arXiv:2302.00482.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.others import RectifiedFlow
from gdm.diffusion.paths.path import Path
from gdm.diffusion.predictions import PREDICTIONS, Prediction
from gdm.diffusion.samplers.grids import Uniform
from gdm.diffusion.samplers.heun import Heun
from gdm.diffusion.samplers.named import SAMPLERS, Choice
from gdm.diffusion.weightings import FlowMatching as VelocityWeighting
from gdm.diffusion.weightings import Weighting
from gdm.errors import ConfigError, nearest
from gdm.model import Objective, Params


def independent(data: Float[Array, "batch *event"],
                noise: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
  """The noise as it was drawn."""
  return noise


def optimal(data: Float[Array, "batch *event"], noise: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
  """The noise in the order that makes the squared distances to the data least, by the Hungarian algorithm."""
  a, b = data.reshape(len(data), -1), noise.reshape(len(noise), -1)
  costs = jnp.sum(a**2, axis=1)[:, None] - 2.0 * a @ b.T + jnp.sum(b**2, axis=1)
  rows, columns = optax.assignment.hungarian_algorithm(costs)
  return noise[jnp.zeros_like(columns).at[rows].set(columns)]


COUPLINGS: dict[str, Callable[[Array, Array], Array]] = {"independent": independent, "optimal": optimal}


@dataclasses.dataclass(frozen=True)
class FlowMatching(Diffusion):
  """The network gives the velocity from noise to data.

  Attributes:
    coupling: which noise goes with which data: independent, or optimal within each batch, whose lines cross less.
  """

  coupling: str = "independent"

  default_sampler: ClassVar[str] = "heun"

  def __post_init__(self) -> None:
    if self.coupling not in COUPLINGS:
      raise ConfigError(f"coupling is {self.coupling!r}; {nearest(self.coupling, COUPLINGS)}")
    if self.coupling == "optimal" and self.class_conditional:
      raise ConfigError("coupling is 'optimal' and class_conditional is True: noise would tell of the label; set the "
                        "coupling to 'independent'.")
    super().__post_init__()

  @property
  def default_steps(self) -> int:
    return 20

  @property
  def objectives(self) -> tuple[Objective, ...]:
    reason = "coupling is 'optimal', which pairs noise with data within the whole minibatch"
    return (Objective(("model",), self.loss, whole_batch=reason if self.coupling == "optimal" else "",
                      unit="squared error of the velocity"),)

  def path(self, params: Params) -> Path:
    return RectifiedFlow()

  @property
  def prediction(self) -> Prediction:
    return PREDICTIONS["velocity"]

  @property
  def weighting(self) -> Weighting:
    return VelocityWeighting()

  @property
  def samplers(self) -> Mapping[str, Choice]:
    return {**SAMPLERS, "heun": Choice(Heun("time"), Uniform())}

  def training_noise(self, data: Float[Array, "batch *event"], key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    return COUPLINGS[self.coupling](data, super().training_noise(data, key))
