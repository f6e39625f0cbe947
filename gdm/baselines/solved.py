"""What models have in common that are solved in closed form or by EM."""

from gdm.dataspec import DataSpec
from gdm.model import Objective


class Solved:
  """A model whose `solve` finds its parameters, so that it has no loss to train."""

  spec: DataSpec

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return ()


class SolvedDiscrete(Solved):
  """The same of discrete data."""

  @property
  def levels(self) -> int:
    """Values of a dimension."""
    return self.spec.require_discrete(type(self).__name__)
