"""Draws from any denoiser, a guided one as well."""

import jax
from jaxtyping import Array, Key

from gdm.inverse.editing.sdedit import from_part
from gdm.inverse.samplers.steps import Draws, part, start
from gdm.model import Denoiser


def generated(denoiser: Denoiser, key: Key[Array, ""], num: int, event: tuple[int, ...], *, num_steps: int = 50,
              eta: float = 1.0) -> Draws:
  """Draw examples from noise by DDIM steps.

  Args:
    denoiser: the denoiser, as of gdm/inverse/guidance.py.
    key: of the draws.
    num: how many.
    event: shape of an example.
    num_steps: steps.
    eta: share of fresh noise: 0 is the ODE, 1 ancestral sampling.

  Example:
    x = generated(denoiser, key, num=16, event=(4,), num_steps=5).x
  """
  first, key = jax.random.split(key)
  x = start(denoiser, first, (num, *event))
  x = from_part(denoiser, part(denoiser, 1.0), key, x, num_steps, eta)
  return Draws(x[:, None], {"nfe": (num_steps + 1) * denoiser.cost})
