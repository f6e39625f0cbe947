"""IAF: inverse autoregressive flow (Kingma et al., arXiv:1606.04934), as a density of its own."""

import dataclasses

from gdm.flows.bijections.bijection import Bijection, Inverse
from gdm.flows.bijections.transforms import Affine
from gdm.flows.masked import MaskedFlow


@dataclasses.dataclass(frozen=True)
class IAF(MaskedFlow):
  """MAF's layers backwards: samples in one pass of each network, a density in a step for each dimension.

  Attributes:
    bound: of the log-scale of one layer; 0 for none.

  Example:
    model = IAF(DataSpec((2,), None), num_layers=5)
  """

  bound: float = 3.0

  @property
  def transform(self):
    return Affine(self.bound or None)

  def layer(self, ordering) -> Bijection:
    return Inverse(super().layer(ordering))
