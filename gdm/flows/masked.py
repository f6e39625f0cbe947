"""The base of masked autoregressive flows: layers in turning orders, normalized between."""

import abc
import dataclasses
import math

from gdm import checks
from gdm.flows.bijections.autoregressive import MaskedAutoregressive
from gdm.flows.bijections.bijection import Bijection, Chain
from gdm.flows.bijections.linear import LULinear
from gdm.flows.bijections.reshaping import Reshape
from gdm.flows.bijections.transforms import ElementwiseTransform
from gdm.flows.flow_model import FlowModel
from gdm.flows.layers import normalization


@dataclasses.dataclass(frozen=True)
class MaskedFlow(FlowModel, abc.ABC):
  """Autoregressive layers over the flattened event, the order reversed from one to the next.

  Attributes:
    num_layers: autoregressive layers.
    hidden: sizes of their networks' hidden layers.
    residual: whether each hidden layer but the first adds to the one below.
    mixing: whether an invertible linear map comes before each layer, as in neural spline flows, and not a reversal.
    normalization: after each layer: batch (as in MAF), act, or none.
    activation: of hidden units.
    dropout: rate on hidden units.
  """

  num_layers: int = 5
  hidden: tuple[int, ...] = (64, 64)
  residual: bool = False
  mixing: bool = False
  normalization: str = "act"
  activation: str = "relu"
  dropout: float = 0.0

  @property
  @abc.abstractmethod
  def transform(self) -> ElementwiseTransform:
    """Return the transform of each number, given those before it."""

  def layer(self, ordering: str) -> Bijection:
    """One layer, in an ordering."""
    return MaskedAutoregressive(self.transform, self.hidden, ordering, self.context_width, self.residual,
                                self.activation, self.dropout)

  @property
  def bijection(self) -> Bijection:
    checks.at_least("num_layers", self.num_layers, 1)
    steps = []
    for i in range(self.num_layers):
      mixing = [LULinear(i)] if self.mixing and math.prod(self.spec.event) > 1 else []
      ordering = "reversed" if i % 2 and not self.mixing else "natural"
      steps += [*mixing, self.layer(ordering), *normalization(self.normalization)]
    return Chain([Reshape(tuple(self.spec.event)), *normalization("act" if self.normalization != "none" else "none"),
                  *steps])
