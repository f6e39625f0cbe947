"""Latent-variable models: training beside PyTorch, images/s of bits back both ways, memory of a bound of many samples.

For PyTorch see section sequences: --peer_python names the python of its environment.
"""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.beside import num_threads, training
from experiments.speed.peers.protocol import Case
from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from gdm.dataspec import DataSpec
from gdm.evaluation.coding.bits_back import BitsBackCoder, bits_back_batch_size
from gdm.runs.registry import build_model

OURS, PEER = "experiments.speed.peers.gdm_latent", "experiments.speed.peers.torch_latent"
TRAINING_TARGETS = {"mlp": 1.2, "convolutional": 1.1}  # over PyTorch
MEMORY_TARGET = 1.01  # of many samples over few


@dataclasses.dataclass(frozen=True)
class Size:
  """Layers or width of what is trained, sides of its images, its latents are 40; batch; seconds of a timing; images to
  code; samples of a bound, few and many."""

  cases: tuple[tuple[str, int, int, int], ...] = (("mlp", 2, 512, 28), ("convolutional", 3, 32, 28))
  batch: int = 100
  seconds: float = 1.0
  coded: int = 1000
  samples: tuple[int, int] = (50, 5000)


SIZES = {FULL: Size(), QUICK: Size(coded=200, seconds=0.3),
         TINY: Size(cases=(("mlp", 1, 4, 4), ("convolutional", 2, 2, 4)), batch=4, seconds=0.01, coded=5,
                    samples=(2, 20))}


def run(settings: Settings) -> list[Row]:
  size, rows = SIZES[settings.size], []
  for kind, layers, width, side in size.cases:
    case = Case(kind, layers, width, 2, side, size.batch, num_threads())
    rows += training(f"VAE, {kind} {layers}x{width}, {side}x{side}, batch {size.batch}", case, OURS, PEER, settings,
                     size.seconds, TRAINING_TARGETS[kind], choose_threads=True)
  side = size.cases[0][3]
  model: Any = build_model({"name": "vae", "latent_dims": 40}, DataSpec((side, side, 1), 2))
  x = np.random.default_rng(0).integers(0, 2, (size.coded, side, side, 1)).astype(np.uint8)
  params, carry = jax.jit(model.init)(jax.random.key(0), {"x": x[:100]})
  return [*rows, *_coding(model, params, carry, x, size), _memory(model, params, carry, x, size)]


def _coding(model: Any, params: Any, carry: Any, x: np.ndarray, size: Size) -> list[Row]:
  """Images/s to bits and back, of random images; one timing each."""
  coder = BitsBackCoder(model, params, carry, bits_back_batch_size(model, len(x), 1, size.batch))
  start = time.perf_counter()
  words = coder.encode(x)
  between = time.perf_counter()
  found, _ = coder.decode(words, len(x))
  end = time.perf_counter()
  if not np.array_equal(found, x):
    raise RuntimeError("bits back did not decode what it encoded")
  how = f"{len(x)} random binary images, 40 latents, decoded to the same; {coder.num_initial_bits:,} initial bits"
  return [Row("bits back: encoding", len(x) / (between - start), "images/s", how),
          Row("bits back: decoding", len(x) / (end - between), "images/s", how)]


def _memory(model: Any, params: Any, carry: Any, x: np.ndarray, size: Size) -> Row:
  """Temporary memory of a bound of many samples over that of few, as compiled."""
  taken = []
  for num in size.samples:
    score = jax.jit(model.log_likelihood, static_argnames="num_samples")
    batch = {"x": jnp.asarray(x[:size.batch])}
    memory = score.lower(params, carry, batch, jax.random.key(0), num_samples=num).compile().memory_analysis()
    taken.append(None if memory is None else memory.temp_size_in_bytes)
  few, many = size.samples
  if None in taken or not taken[0]:
    return Row(f"bound of {many:,} samples: memory over {few}", None, "x", "this device does not say")
  return Row(f"bound of {many:,} samples: memory over {few}", taken[1] / taken[0], "x",
             f"temporaries {taken[0] / 2**20:,.3g} MiB with {few} samples, batch {size.batch}", high=MEMORY_TARGET)
