"""MAF: masked autoregressive flow (Papamakarios et al., arXiv:1705.07057)."""

import dataclasses

from gdm.flows.bijections.transforms import Affine
from gdm.flows.masked import MaskedFlow


@dataclasses.dataclass(frozen=True)
class MAF(MaskedFlow):
  """Affine autoregressive layers: density in one pass of each network, samples in a step for each dimension.

  Attributes:
    bound: of the log-scale of one layer; 0 for none, as in the paper.

  Example:
    model = MAF(DataSpec((2,), None), num_layers=5, hidden=(64, 64))
  """

  bound: float = 3.0

  @property
  def transform(self):
    return Affine(self.bound or None)
