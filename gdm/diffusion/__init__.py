"""Diffusion models: noise paths, predictions, weightings, times, samplers and likelihoods.

`diffusion` puts a model together of its parts; `ddpm`, `edm` and the others are such compositions. `sample_by` draws by
any sampler with a denoiser of one's own.
"""

from gdm.diffusion.consistency import Consistency
from gdm.diffusion.ddpm import ddpm
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.edm import edm
from gdm.diffusion.flow_matching import flow_matching
from gdm.diffusion.improved_ddpm import improved_ddpm
from gdm.diffusion.ncsn import ncsn
from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.paths.rectified_flow import RectifiedFlow
from gdm.diffusion.paths.variance_exploding import VE, EDMPath
from gdm.diffusion.paths.variance_preserving import Cosine, LogSNRLinear, SubVP, VPLinear
from gdm.diffusion.predictions import denoiser
from gdm.diffusion.recipes import diffusion
from gdm.diffusion.samplers.named import SAMPLERS, sample_by
from gdm.diffusion.score_sde import score_sde
from gdm.diffusion.vdm import vdm

__all__ = [
    "SAMPLERS", "VE", "Consistency", "Cosine", "Diffusion", "EDMPath", "LogSNRLinear", "NoisePath", "RectifiedFlow",
    "SubVP", "VPLinear", "ddpm", "denoiser", "diffusion", "edm", "flow_matching", "improved_ddpm", "ncsn", "sample_by",
    "score_sde", "vdm",
]
