"""Diffusion models: noise paths, predictions, weightings, times, samplers and likelihoods.

`diffusion` puts a model together of its parts; `ddpm`, `edm` and the others are such compositions. `sample_by` draws by
any sampler with a denoiser of one's own.
"""

from gdm.exports import on_demand

__getattr__, __dir__ = on_demand(__name__, {
    "Cosine": "paths.variance_preserving", "Diffusion": "diffusion", "EDMPath": "paths.variance_exploding",
    "LogSNRLinear": "paths.variance_preserving", "NoisePath": "paths.path", "RectifiedFlow": "paths.rectified_flow",
    "SAMPLERS": "samplers.named", "SubVP": "paths.variance_preserving", "VE": "paths.variance_exploding",
    "VPLinear": "paths.variance_preserving", "ddpm": "ddpm", "denoiser": "predictions", "diffusion": "recipes",
    "edm": "edm", "flow_matching": "flow_matching", "improved_ddpm": "improved_ddpm", "ncsn": "ncsn",
    "sample_by": "samplers.named", "score_sde": "score_sde", "vdm": "vdm",
})
