"""Inverse problems: measurement operators, and draws of what was measured by any model with a denoiser,
an energy, a flow, a GAN, or a model that completes examples.

`restore` draws examples given measurements; `operators` measures; `samplers` are functions of a denoiser and a problem.
"""

from gdm.inverse import operators
from gdm.inverse.problem import Problem, measure, posed
from gdm.inverse.restoration import Restored, restore
from gdm.inverse.samplers.named import MODEL_SAMPLERS, SAMPLERS, fitting

__all__ = ["MODEL_SAMPLERS", "SAMPLERS", "Problem", "Restored", "fitting", "measure", "operators", "posed", "restore"]
