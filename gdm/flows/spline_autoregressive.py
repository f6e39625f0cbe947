"""Neural spline flow, autoregressive: RQ-NSF (AR) of Durkan et al., arXiv:1906.04032."""

import dataclasses

from gdm.flows.bijections.transforms import RationalQuadratic
from gdm.flows.masked import MaskedFlow


@dataclasses.dataclass(frozen=True)
class SplineAutoregressive(MaskedFlow):
  """Autoregressive layers of monotonic rational-quadratic splines, which are the identity beyond a bound.

  Attributes:
    num_bins: of each spline.
    bound: half the width of the interval that splines cover.

  Example:
    model = SplineAutoregressive(DataSpec((2,), None), num_bins=8)
  """

  num_bins: int = 8
  bound: float = 3.0

  @property
  def transform(self):
    return RationalQuadratic(self.num_bins, self.bound)
