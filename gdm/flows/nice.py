"""NICE: additive couplings and one scaling (Dinh et al., arXiv:1410.8516)."""

import dataclasses
import math

from gdm.errors import ConfigError
from gdm.flows.bijections.bijection import Chain
from gdm.flows.bijections.coupling import Alternate
from gdm.flows.bijections.elementwise import ScaleShift
from gdm.flows.bijections.reshaping import Reshape
from gdm.flows.bijections.transforms import Additive
from gdm.flows.flow_model import FlowModel
from gdm.flows.layers import vector_coupling


@dataclasses.dataclass(frozen=True)
class NICE(FlowModel):
  """Couplings of even and odd entries that keep volume, then a scale for each entry (section 4.1).

  Attributes:
    base: logistic in the paper; see `FlowModel` for it and the other shared fields.
    num_layers: couplings; three at least, so that each entry can depend on every other.
    hidden: sizes of their networks' hidden layers.
    activation: of their hidden units.
    dropout: rate on hidden units.

  Example:
    model = NICE(DataSpec((8, 8, 1), 17), hidden=(256,))
  """

  base: str = "logistic"
  num_layers: int = 4
  hidden: tuple[int, ...] = (256, 256)
  activation: str = "relu"
  dropout: float = 0.0

  @property
  def bijection(self):
    if self.num_layers < 3:
      raise ConfigError(f"num_layers is {self.num_layers}; couplings of two parts must be at least 3.")
    dims = math.prod(self.spec.event)
    couplings = [vector_coupling(Alternate(flip=i % 2 == 1), Additive(), dims, self.hidden, self.context_width,
                                 False, self.activation, self.dropout) for i in range(self.num_layers)]
    return Chain([Reshape(tuple(self.spec.event)), *couplings, ScaleShift()])
