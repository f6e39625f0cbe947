"""Loops against the same written out: weight gradients in `lax.scan`, accumulation, several steps per dispatch.

On the CPU backend the weight gradient of a convolution inside any loop is tens of times slower; see the `unroll`
option of `gdm.training.step`.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, ratios, summary
from experiments.speed.training import Trainee
from gdm.runs.registry import build_model

LOOPED, UNROLLED = "looped", "unrolled"


@dataclasses.dataclass(frozen=True)
class Size:
  """Micro-batches, their size, image side, channels, dense width; MADE's hidden units, batch and steps per call."""

  micro: int = 4
  batch: int = 32
  side: int = 14
  channels: int = 32
  width: int = 500
  hidden: int = 500
  steps: int = 10


SIZES = {FULL: Size(), QUICK: Size(micro=2), TINY: Size(2, 2, 4, 2, 3, 3, 2)}


def run(settings: Settings) -> list[Row]:
  size = SIZES[settings.size]
  image = (size.batch, size.side, size.side, size.channels)
  layers: tuple[tuple[str, Callable, tuple[int, ...], tuple[int, ...]], ...] = (
      (f"convolution 3x3, {size.channels} to {size.channels} channels at {size.side}x{size.side}", _convolve, image,
       (3, 3, size.channels, size.channels)),
      (f"dense {size.width} to {size.width}", jnp.matmul, (size.batch, size.width), (size.width, size.width)),
  )
  rows = []
  for name, layer, x_shape, w_shape in layers:
    calls = {way: _weight_gradient(layer, (size.micro, *x_shape), w_shape, way) for way in (LOOPED, UNROLLED)}
    rows += _compare(f"weight gradient, {name}", calls, settings.repeats, size.micro,
                     f"{size.micro} micro-batches of {size.batch}; ms per micro-batch")
  dataset = settings.dataset()
  trainee = Trainee(build_model({"name": "made", "network": {"hidden": (size.hidden,)}}, dataset.spec), dataset)
  for name, batch, steps, accumulate in (
      (f"accumulate {size.micro}", size.batch * size.micro, 1, size.micro),
      (f"{size.steps} steps per call", size.batch, size.steps, 1),
  ):
    calls, compiling = {}, {}
    for way in (LOOPED, UNROLLED):
      start = time.perf_counter()
      compiled = trainee.compile(batch, steps, way == UNROLLED, accumulate=accumulate)
      compiling[way] = time.perf_counter() - start
      calls[way] = trainee.repeat(compiled, batch)
    name = f"MADE-{size.hidden}, {name}"
    rows += _compare(name, calls, settings.repeats, steps, f"batch {batch}; ms per step")
    rows += [Row(f"{name}: compiling, {way}", value, "s", "traces and compiles, without the compilation cache")
             for way, value in compiling.items()]
  return rows


def _compare(name: str, calls: dict[str, Callable[[], Any]], repeats: int, parts: int, how: str) -> list[Row]:
  """Rows of both ways, and their ratio."""
  times = alternate(calls, repeats)
  rows = [summary(f"{name}: {way}", [1e3 * t / parts for t in times[way]], "ms", how) for way in calls]
  rows.append(summary(f"{name}: looped over unrolled", ratios(times[LOOPED], times[UNROLLED]), "x",
                      "above 1: unrolling is faster"))
  return rows


def _convolve(x, w):
  return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _weight_gradient(layer: Callable, x_shape: tuple[int, ...], w_shape: tuple[int, ...],
                     way: str) -> Callable[[], jax.Array]:
  """Return the sum over micro-batches of the gradient with respect to the layer's weights."""
  x_key, w_key = jax.random.split(jax.random.key(0))
  xs, w = jax.random.normal(x_key, x_shape), 0.1 * jax.random.normal(w_key, w_shape)

  def gradient(w, x):
    return jax.grad(lambda w: jnp.sum(jnp.square(layer(x, w))))(w)

  def looped(w, xs):
    return jax.lax.scan(lambda total, x: (total + gradient(w, x), None), jnp.zeros_like(w), xs)[0]

  def unrolled(w, xs):
    return sum((gradient(w, x) for x in xs), jnp.zeros_like(w))

  call = jax.jit({LOOPED: looped, UNROLLED: unrolled}[way])
  return lambda: call(w, xs)
