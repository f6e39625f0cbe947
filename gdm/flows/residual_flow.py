"""Residual flow: blocks x + g(x) with unbiased log-determinants (Chen et al., arXiv:1906.02735)."""

import dataclasses

from gdm import checks
from gdm.flows.bijections.bijection import Bijection, Chain
from gdm.flows.bijections.normalization import ActNorm
from gdm.flows.bijections.reshaping import Reshape
from gdm.flows.bijections.residual import Contraction, InvertibleResidual
from gdm.flows.flow_model import FlowModel


@dataclasses.dataclass(frozen=True)
class ResidualFlow(FlowModel):
  """Residual blocks whose branches are perceptrons of bounded slope, with activation normalization between them.

  Events are flattened. Training takes a random number of terms of each determinant's series; scoring the determinant
  itself, or with `exact` off the series too, and then it gives an estimate.

  Attributes:
    num_blocks: residual blocks.
    hidden: sizes of the hidden layers of each.
    coefficient: bound of each branch's Lipschitz constant, below 1.
    train_terms: of the series that are always taken in training; 0 for the determinant itself.
    exact: whether scoring takes the determinant itself, by as many derivatives as dimensions.
    terms: of the series that are always taken in scoring, where it is not exact.

  Example:
    model = ResidualFlow(DataSpec((2,), None), num_blocks=8)
  """

  num_blocks: int = 8
  hidden: tuple[int, ...] = (64, 64)
  coefficient: float = 0.95
  train_terms: int = 2
  exact: bool = True
  terms: int = 20

  @property
  def bijection(self) -> Bijection:
    checks.at_least("num_blocks", self.num_blocks, 1)
    checks.at_least("terms", self.terms, 1)
    blocks = [step for _ in range(self.num_blocks) for step in (
        InvertibleResidual(Contraction(self.hidden, self.coefficient, self.context_width), self.train_terms,
                           0 if self.exact else self.terms), ActNorm())]
    return Chain([Reshape(tuple(self.spec.event)), ActNorm(), *blocks])
