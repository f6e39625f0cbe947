"""Samplers, and the one loop that runs those that go step by step.

A sampler turns noise into data by a denoising function `(x [batch, *event], t [batch]) -> the prediction of x_0`. It is
pure, compiles to one `jax.lax.scan`, and keeps no step but the last: memory does not grow with the number of steps.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from gdm.diffusion.paths.path import NoisePath, prior_scale
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.grids import TimeGrid
from gdm.errors import ConfigError
from gdm.model import Samples


@runtime_checkable
class Sampler(Protocol):
  """Takes noise at the first of some times to the last of them.

  One that chooses the times between itself says so by `chooses_times = True`: it takes no number of steps and no grid.
  """

  def run(self, denoise: Denoise, path: NoisePath, times: Float[Array, " times"], key: Key[Array, ""],
          x: Float[Array, "batch *event"], num_frames: int = 0) -> Samples:
    """Sample at the last time. Info: "nfe", and with frames "trajectory" [num_frames, batch, *event]."""
    ...


@dataclasses.dataclass(frozen=True)
class Stepwise(abc.ABC):
  """A sampler that goes from each time to the next."""

  @abc.abstractmethod
  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int | Array:
    """Return how often it calls the denoising function; an array if that depends on the times' values."""

  @abc.abstractmethod
  def step(self, denoise: Callable[..., Any], path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"],
           memory: Any, now: "SamplerStep") -> tuple[Float[Array, "batch *event"], Any]:
    """x at the time `now.t` to x at `now.s`, and what the next step is to remember."""

  @abc.abstractmethod
  def memory(self, x: Float[Array, "batch *event"]) -> Any:
    """Return what the first step remembers."""

  def run(self, denoise: Denoise, path: NoisePath, times: Float[Array, " times"], key: Key[Array, ""],
          x: Float[Array, "batch *event"], num_frames: int = 0) -> Samples:
    """Sample at the last of `times`.

    Args:
      denoise: the prediction of x_0; called with one time for all examples, repeated.
      path: what the noise is.
      times: falling.
      key: folded with the index at each step.
      x: at the first time.
      num_frames: how many of the steps' results to keep as info["trajectory"], evenly spaced, the last one included.

    Raises:
      ConfigError: fewer than two times, times that do not fall, or more frames than steps.
    """
    num = require_times(times)
    slots = frame_slots(num, num_frames)
    shape = x.shape

    def body(state, inputs):
      x, memory, frames = state
      index, t, s, slot = inputs
      now = SamplerStep(t, s, index, num)
      x, memory = self.step(denoise, path, jax.random.fold_in(key, index), x, memory, now)
      return (x, memory, frames.at[slot].set(x, mode="drop") if num_frames else frames), None

    frames = jnp.zeros((num_frames, *shape), x.dtype)
    times = jnp.asarray(times, x.dtype)
    steps = (jnp.arange(num), times[:-1], times[1:], jnp.asarray(slots))
    (x, _, frames), _ = jax.lax.scan(body, (x, self.memory(x), frames), steps)
    info = {"nfe": self.nfe(path, times) * cost(denoise)}
    return Samples(x, {**info, "trajectory": frames} if num_frames else info)


@dataclasses.dataclass(frozen=True)
class Memoryless(Stepwise):
  """A sampler whose steps remember nothing of those before."""

  def memory(self, x: Float[Array, "batch *event"]) -> tuple[()]:
    return ()


@dataclasses.dataclass(frozen=True)
class SamplerStep:
  """Go from time t to s < t, scalars; the `index`-th of `num`."""

  t: Float[Array, ""]
  s: Float[Array, ""]
  index: Array
  num: int | Array

  @property
  def is_last(self) -> Array:
    return self.index == self.num - 1


def sample(sampler: Sampler, denoise: Denoise, path: NoisePath, grid: TimeGrid, num_steps: int, key: Key[Array, ""],
           shape: tuple[int, ...], num_frames: int = 0, denoise_last: bool = False) -> Samples:
  """Draw samples of `shape` [num, *event], from normal noise.

  Args:
    sampler, denoise, path: which one, of what.
    grid: the times it visits.
    num_steps: any number from 1.
    key: of the draws.
    shape: of the samples.
    num_frames: see `Stepwise.run`.
    denoise_last: whether to take the denoised x at the last time, one evaluation more, where noise is left
      (Song et al., arXiv:2011.13456, appendix G).

  Raises:
    ConfigError: there is no step.
  """
  times = grid.times(path, num_steps)
  noise_key, key = jax.random.split(key)
  x = prior_scale(path) * jax.random.normal(noise_key, shape)
  out = sampler.run(denoise, path, times, key, x, num_frames)
  if not denoise_last:
    return out
  x = denoise(out.x, jnp.full(shape[0], times[-1], out.x.dtype))
  return Samples(x, {**out.info, "nfe": out.info["nfe"] + cost(denoise)})


def call(denoise: Denoise, x: Float[Array, "batch *event"], t: Float[Array, ""]) -> Float[Array, "batch *event"]:
  """Return the prediction of x_0 at one time for all examples."""
  return denoise(x, jnp.broadcast_to(t, x.shape[:1]).astype(x.dtype))


def cost(denoise: Denoise) -> int:
  """Return the network evaluations of a call: one, or the function's attribute `cost`."""
  return getattr(denoise, "cost", 1)


def require_times(times: Float[Array, " times"]) -> int:
  """Return the number of steps between times; a ConfigError if there is none or, where values are known, a time
  rises."""
  num = num_steps(times)
  if num < 1:
    raise ConfigError(f"times has {num + 1} entries; a sampler takes at least one step, so at least two times.")
  if not isinstance(times, Tracer):
    values = np.asarray(times)
    rises = np.flatnonzero(~(np.diff(values) <= 0.0))
    if rises.size:
      i = rises[0]
      raise ConfigError(f"times[{i}] is {values[i]} and times[{i + 1}] is {values[i + 1]}; a sampler's times fall from "
                        "noise to data.")
  return num


def num_steps(times: Float[Array, " times"]) -> int:
  """Return the number of steps between times."""
  return times.shape[0] - 1


def frame_slots(num_steps: int, num_frames: int) -> np.ndarray:
  """Return for each step the frame that keeps its result, or `num_frames` where none does."""
  if not 0 <= num_frames <= num_steps:
    raise ConfigError(f"num_frames is {num_frames}; it must be 0 to {num_steps}, the number of steps.")
  slots = np.full(num_steps, num_frames)
  slots[np.arange(1, num_frames + 1) * num_steps // max(num_frames, 1) - 1] = np.arange(num_frames)
  return slots
