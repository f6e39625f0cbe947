"""Diffusion models whose noise comes in a number of steps."""

import abc
import dataclasses
from typing import ClassVar

from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.between import Between
from gdm.diffusion.paths.discrete import require_steps
from gdm.diffusion.paths.path import Path
from gdm.diffusion.times import DiscreteUniform, Times
from gdm.errors import ConfigError
from gdm.model import Params


@dataclasses.dataclass(frozen=True)
class DiscreteTime(Diffusion):
  """T steps of noise, trained at their ends i / T; the bound's first step is the reconstruction.

  Attributes:
    num_noise_steps: T.
  """

  num_noise_steps: int = 1000

  default_sampler: ClassVar[str] = "ancestral"

  def __post_init__(self) -> None:
    require_steps(self.num_noise_steps)
    if self.num_noise_steps < 2:
      raise ConfigError(f"num_noise_steps is {self.num_noise_steps}; it must be at least 2.")
    _ = self.whole_path  # it checks its fields
    super().__post_init__()

  @property
  @abc.abstractmethod
  def whole_path(self) -> Path:
    """The path, all of whose times i / T are the steps'."""

  @property
  def default_steps(self) -> int:
    return self.num_noise_steps

  def path(self, params: Params) -> Path:
    return self.whole_path

  def sampling_path(self, params: Params) -> Path:
    return Between(self.whole_path, 1.0 / self.num_noise_steps, 1.0)

  @property
  def times(self) -> Times:
    return DiscreteUniform(self.num_noise_steps)

  @property
  def bound_steps(self) -> int:
    return self.num_noise_steps - 1
