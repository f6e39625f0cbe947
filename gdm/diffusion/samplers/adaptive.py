"""The probability-flow ODE with steps chosen by a tolerance."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.diffusion import probability_flow
from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.sampler import cost, require_times
from gdm.inference.ode import Tolerance, solve
from gdm.model import Samples


@dataclasses.dataclass(frozen=True)
class Adaptive:
  """Go from the first to the last time, but not past the path's ends; it chooses the times between itself.

  Info has "solved" too: where it is False, the samples are NaN (gdm/inference/ode.py).
  """

  chooses_times: ClassVar[bool] = True
  tolerance: Tolerance = dataclasses.field(default_factory=Tolerance)

  def run(self, denoise: Denoise, path: NoisePath, times: Float[Array, " times"], key: Key[Array, ""],
          x: Float[Array, "batch *event"], num_frames: int = 0) -> Samples:
    """Sample at the last time; frames are evenly spaced in t, the last one included."""
    del key  # nothing is random
    require_times(times)
    start, end = (jnp.clip(jnp.asarray(t, x.dtype), *path.ends) for t in (times[0], times[-1]))
    velocity = probability_flow.velocity(denoise, path)
    save = start + (end - start) * jnp.arange(1, num_frames + 1) / num_frames if num_frames else None
    out = solve(lambda t, x: velocity(x, jnp.full(x.shape[0], t)), x, start, end, self.tolerance, save)
    info = {"nfe": out.nfe * cost(denoise), "solved": out.solved}
    return Samples(out.y[-1], {**info, "trajectory": out.y}) if num_frames else Samples(out.y, info)
