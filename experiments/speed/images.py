"""Models of images: sampling cached over naive and against the image's size, coding, and training beside PyTorch.

For PyTorch see section sequences: --peer_python names the python of its environment.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.beside import num_threads, training
from experiments.speed.peers.protocol import Case
from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, rates, ratios, summary
from gdm.autoregressive.images.image_model import ImageModel
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.evaluation.coding.chains import chain_of
from gdm.evaluation.coding.coder import Coder
from gdm.runs.registry import MODELS, build_model, load_object

OURS, PEER = "experiments.speed.peers.gdm_images", "experiments.speed.peers.torch_images"
CACHED, SMALLER, NAIVE = "cached", "smaller", "one pass"

CACHED_TARGETS = {"pixelcnn": 20.0}  # over naive
# Of images four times as large, by caches of convolutions; naive sampling takes sixteen times as long, and attention
# looks at four times as many pixels for each.
GROWTH_TARGETS: dict[str, float] = {"pixelcnn": 5.0, "gated_pixelcnn": 5.0, "pixelcnn_pp": 5.0}
TRAINING_TARGET = 0.8


@dataclasses.dataclass(frozen=True)
class Size:
  """Sides of images to sample, and how many at once; what to train: model, layers, width, levels, side, batch; seconds
  of a timing; images to code; the registry's models, all by default."""

  sides: tuple[int, int] = (14, 28)
  num: int = 16
  cases: tuple[tuple[str, int, int, int, int, int], ...] = (
      ("pixelcnn", 5, 40, 17, 8, 100), ("gated_pixelcnn", 5, 32, 17, 8, 100),
      ("pixelcnn", 8, 64, 2, 28, 32), ("gated_pixelcnn", 8, 64, 2, 28, 32))
  seconds: float = 1.0
  coded: int = 64
  only: tuple[str, ...] = ()


SIZES = {FULL: Size(), QUICK: Size(cases=Size.cases[:2], seconds=0.3),
         TINY: Size(sides=(4, 5), num=2, coded=2, only=("pixelcnn",), cases=(("pixelcnn", 1, 4, 3, 4, 2),),
                    seconds=0.01)}


def run(settings: Settings) -> list[Row]:
  size, rows = SIZES[settings.size], []
  for name in _names(size):
    rows += [*_sampling(name, size, settings.repeats), *_coding(name, size)]
  for name, num_layers, width, levels, side, batch in size.cases:
    case = Case(name, num_layers, width, levels, side, batch, num_threads())
    rows += training(f"{name} {num_layers}x{width}, {side}x{side}, {levels} levels, batch {batch}", case, OURS, PEER,
                     settings, size.seconds, TRAINING_TARGET)
  return rows


def _names(size: Size) -> list[str]:
  """Every model of images in the registry."""
  builders = {name: load_object(*place) for name, place in MODELS.items() if not size.only or name in size.only}
  return [name for name, builder in builders.items() if get_type_hints(builder).get("return") is ImageModel]


def _model(name: str, side: int) -> tuple[Any, Any, Any]:
  """Return a model of binary images at its defaults, and its parameters and carry."""
  for network in ({}, {"first_size": 3}):  # the default kernel, or where images are too small for it a smaller one
    with contextlib.suppress(SpecError, ValueError):
      model: Any = build_model({"name": name, "network": network}, DataSpec((side, side, 1), 2))
      return model, *jax.jit(model.init)(jax.random.key(0), {"x": jnp.zeros((1, side, side, 1), jnp.int32)})
  raise SpecError(f"{name} takes no images of {side} x {side}.")


def _sampling(name: str, size: Size, repeats: int) -> list[Row]:
  """Sampling by the cache at both sides, and what it takes by the network on the whole image for each pixel.

  Naive sampling is one pass per pixel, so one pass is timed and counted as often.
  """
  calls: dict[str, Callable[[], Any]] = {}
  for label, side in ((SMALLER, size.sides[0]), (CACHED, size.sides[1])):
    model, params, carry = _model(name, side)
    sample = jax.jit(lambda params, key, model=model, carry=carry: model.sample(params, carry, key, size.num).x)
    calls[label] = lambda sample=sample, params=params: sample(params, jax.random.key(0))
  one_pass = jax.jit(lambda params, x: model.logits(params, x))
  x = jnp.zeros((size.num, model.num_steps), jnp.int32)
  calls[NAIVE] = lambda: one_pass(params, x)
  times = alternate(calls, repeats)
  small, large = size.sides
  naive = [model.num_steps * seconds for seconds in times[NAIVE]]
  return [
      summary(f"{name}, {large}x{large}: sampling", rates(times[CACHED], size.num), "images/s",
              f"{size.num} binary images in one call, at the model's defaults"),
      summary(f"{name}, {large}x{large}: cached over naive", ratios(naive, times[CACHED]), "x",
              "naive: a pass of the network over the whole batch for each pixel; one was timed",
              low=CACHED_TARGETS.get(name)),
      summary(f"{name}: sampling {large}x{large} over {small}x{small}", ratios(times[CACHED], times[SMALLER]), "x",
              f"pixels: {large**2 / small**2:.3g} times as many", high=GROWTH_TARGETS.get(name)),
  ]


def _coding(name: str, size: Size) -> list[Row]:
  """Symbols/s to bits and back, of random images; one timing each."""
  model, params, _ = _model(name, size.sides[1])
  coder = Coder(chain_of(model), params, size.coded)
  x = np.random.default_rng(0).integers(0, 2, (size.coded, *model.spec.event))
  start = time.perf_counter()
  words = coder.encode(x)
  between = time.perf_counter()
  found, _ = coder.decode(words, size.coded)
  end = time.perf_counter()
  if not np.array_equal(found, x):
    raise RuntimeError(f"{name} did not decode what it encoded")
  how = f"{size.coded} random binary images at once, decoded to the same"
  return [Row(f"{name}, {size.sides[1]}x{size.sides[1]}: encoding", x.size / (between - start), "symbols/s", how),
          Row(f"{name}, {size.sides[1]}x{size.sides[1]}: decoding", x.size / (end - between), "symbols/s", how)]
