"""Order-agnostic autoregression: one network for the chain rule in every order."""

from typing import Unpack

from gdm.dataspec import DataSpec
from gdm.discrete_diffusion.masked import MaskedFields
from gdm.discrete_diffusion.masked_model import MaskedModel
from gdm.discrete_diffusion.maskings import Orders


def ardm(spec: DataSpec, *, sampler: str = "one_by_one", **common: Unpack[MaskedFields]) -> MaskedModel:
  """Return an autoregressive diffusion model (ARDM, Hoogeboom et al., arXiv:2110.02037).

  Its bound is the mean over orders and steps (equation 3): in expectation the same number as that of masked diffusion
  in continuous time with the same network, at less spread.

  Example:
    model = ardm(DataSpec((8, 8, 1), 17), network=Residual(width=64))

  Args:
    spec: the data.
    sampler: where none is given.
    common: the other fields of `MaskedModel`.
  """
  return MaskedModel(spec, Orders(), sampler=sampler, **common)
