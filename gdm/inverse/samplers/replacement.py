"""Replacement: what is measured of the state is replaced by the noised measurement, before each step (Song et al.,
arXiv:2011.13456, appendix I.2). It needs measurements without noise."""

from jaxtyping import Array, Key

from gdm.inverse.problem import Problem
from gdm.inverse.samplers.projection import projection
from gdm.inverse.samplers.steps import Draws
from gdm.model import Denoiser


def replacement(denoiser: Denoiser, problem: Problem, key: Key[Array, ""], num: int, *, num_steps: int = 200) -> Draws:
  """Draw by ancestral steps, each from a state whose measured part is replaced.

  What is not measured is drawn given a noised measurement and not given y, so that draws are too diverse: not even of
  a Gaussian prior are they from the posterior.

  Args:
    denoiser: the prior.
    problem: the measurements.
    key: of the draws.
    num: draws of each measurement.
    num_steps: steps.
  """
  return projection(denoiser, problem, key, num, num_steps=num_steps, strength=1.0)
