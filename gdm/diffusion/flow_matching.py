"""Flow matching on straight lines between noise and data, also called rectified flow.

Lipman et al., arXiv:2210.02747; Liu et al., arXiv:2209.03003; with minibatch optimal transport Tong et al.,
arXiv:2302.00482.
"""

from typing import Unpack

from gdm.dataspec import DataSpec
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import PREDICTIONS, Prediction
from gdm.diffusion.recipes import PATHS, DiffusionFields, find, find_weighting
from gdm.diffusion.samplers.grids import UniformGrid
from gdm.diffusion.samplers.heun import Heun
from gdm.diffusion.samplers.named import TimedSampler
from gdm.diffusion.weightings import Weighting


def flow_matching(spec: DataSpec, *, coupling: str = "independent", path: str | NoisePath = "rectified_flow",
                  prediction: str | Prediction = "velocity", weighting: str | Weighting = "flow_matching",
                  **common: Unpack[DiffusionFields]) -> Diffusion:
  """Return a model whose network gives the velocity from noise to data (arXiv:2210.02747, equation 9).

  Example:
    model = flow_matching(DataSpec((2,), None), coupling="optimal")

  Args:
    spec: the data.
    coupling: which noise goes with which data: independent, or optimal within each batch, whose lines cross less.
    path: name or object; the paper's is rectified_flow.
    prediction, weighting: names or objects; the paper's are velocity and flow_matching, its squared error.
    common: fields of `Diffusion` that every recipe takes, see `DiffusionFields`.
  """
  path = find("path", path, PATHS)
  return Diffusion(spec, path, find("prediction", prediction, PREDICTIONS), find_weighting(weighting, path),
                   sampler="heun", steps=20, coupling=coupling,
                   samplers_by_name=(("heun", TimedSampler(Heun("time"), UniformGrid())),), **common)
