"""Cost of a sample of NADE against the number of dimensions: linear, since each conditional adds one variable."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, exponent, ratios, summary
from gdm.dataspec import DataSpec
from gdm.runs.registry import build_model

EXPONENT_TARGET = 1.15  # 1 is linear; below it while the fixed cost of a call still counts


@dataclasses.dataclass(frozen=True)
class Size:
  """Dimensions to sample at, hidden units, and samples per call."""

  dims: tuple[int, ...] = (64, 128, 256, 512, 1024)
  hidden: int = 500
  num: int = 100


SIZES = {FULL: Size(), QUICK: Size(dims=(64, 256, 1024)), TINY: Size(dims=(2, 4), hidden=3, num=2)}


def run(settings: Settings) -> list[Row]:
  size = SIZES[settings.size]
  times = alternate({dims: _sampler(dims, size) for dims in size.dims}, settings.repeats)
  how = f"{size.num} samples in one call, compiled before"
  rows = [summary(f"NADE-{size.hidden}, D = {dims}", times[dims], "s", how) for dims in size.dims]
  slopes = [exponent(size.dims, at_once) for at_once in zip(*times.values(), strict=True)]
  last, before = (times[dims] for dims in size.dims[:-3:-1])
  return [
      *rows,
      summary("exponent in D", slopes, "", "least squares of log seconds on log D, per repeat", high=EXPONENT_TARGET),
      summary(f"D = {size.dims[-1]} over D = {size.dims[-2]}", ratios(last, before), "x",
              f"linear would be {size.dims[-1] / size.dims[-2]:g}"),
  ]


def _sampler(dims: int, size: Size) -> Callable[[], jax.Array]:
  model: Any = build_model({"name": "nade", "hidden": size.hidden}, DataSpec((dims,), levels=2))
  key = jax.random.key(0)
  params, carry = model.init(key, {"x": jnp.zeros((2, dims), jnp.uint8)})
  sample = jax.jit(lambda params, key: model.sample(params, carry, key, size.num).x)
  return lambda: sample(params, key)
