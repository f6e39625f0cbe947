"""Diffusion beside diffusers: training steps and DDIM's images/s of the same U-Net; memory of sampling against steps.

diffusers lives in an environment of its own under the folder that --peers names:

  python -m venv DIR/diffusers && DIR/diffusers/bin/pip install diffusers==0.42.1 torch==2.13.0

Both programs take turns, so that what else the machine does hits both alike. Where others compute too, run it on one
core (`taskset -c 1 python -m experiments.speed --sections=diffusion ...`): else PyTorch's threads, which wait for each
other, make any ratio.
"""

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.speed.beside import num_threads
from experiments.speed.peers.diffusion_case import NUM_STEPS
from experiments.speed.peers.gdm_diffusion import model, sampler
from experiments.speed.peers.protocol import SAMPLING, TRAINING, Case, Peer
from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import rates, ratios, summary

OURS, PEER = "experiments.speed.peers.gdm_diffusion", "experiments.speed.peers.diffusers_diffusion"
TARGET = 0.7  # of diffusers' speed on a CPU
ACCELERATOR_TARGET = 1.0
MEMORY_TARGET = 1.05  # of ten times as many steps
MORE = 10


@dataclasses.dataclass(frozen=True)
class Size:
  """What is compared: blocks, width, channels of an image, its side, and the batch; seconds of a timing."""

  cases: tuple[tuple[int, int, int, int, int], ...] = ((2, 32, 1, 8, 100), (2, 32, 3, 16, 32))
  seconds: float = 2.0


SIZES = {FULL: Size(), QUICK: Size(cases=Size.cases[:1], seconds=0.5),
         TINY: Size(cases=((1, 2, 1, 2, 2),), seconds=0.01)}


def run(settings: Settings) -> list[Row]:
  size, rows = SIZES[settings.size], []
  for num_blocks, width, channels, side, batch in size.cases:
    case = Case("unet", num_blocks, width, channels, side, batch, num_threads())
    rows += [*_beside(case, settings, size.seconds), *_memory(case)]
  return rows


def _beside(case: Case, settings: Settings, seconds: float) -> list[Row]:
  """Rows of a case: ours, theirs, and their ratios; without diffusers only ours."""
  what, low = _name(case), TARGET if jax.default_backend() == "cpu" else ACCELERATOR_TARGET
  with contextlib.ExitStack() as stack:
    peers, missing = {"": Peer(sys.executable, OURS, case)}, ""
    stack.callback(peers[""].close)
    try:
      peers[PEER] = Peer(_python(settings), PEER, case)
      stack.callback(peers[PEER].close)
    except (RuntimeError, FileNotFoundError) as error:
      missing = f"not measured: {error}"
    rows = []
    for task, unit, num, words in ((TRAINING, "steps/s", 1, "AdamW on the mean squared error of the noise"),
                                   (SAMPLING, "images/s", case.batch, f"DDIM of {NUM_STEPS} steps, NFE {NUM_STEPS}")):
      steps = {name: max(1, round(seconds / peer.seconds(1, task))) for name, peer in peers.items()}
      times, busy = {name: [] for name in peers}, {name: [] for name in peers}
      for _ in range(settings.repeats):
        for name, peer in peers.items():
          times[name].append(peer.seconds(steps[name], task) / steps[name])
          busy[name].append(peer.processor / steps[name])
      how = f"{words}, {case.threads} threads, {peers[''].params:,} parameters"
      rows.append(summary(f"{what}: {task}", rates(times[""], num), unit, how))
      label = f"{what}: {task} over diffusers"
      if missing:
        rows.append(Row(label, None, "x", missing, low=low))
        continue
      params = f"{peers[PEER].params:,} parameters"
      rows += [summary(f"{what}: {task}, diffusers", rates(times[PEER], num), unit, f"{words}, {params}"),
               summary(label, ratios(times[PEER], times[""]), "x", "ratios of neighbouring timings", low=low),
               summary(f"{label}, processor time", ratios(busy[PEER], busy[""]), "x",
                       "steadier on a busy machine, but with several threads PyTorch's spin while they wait")]
    return rows


def _memory(case: Case) -> list[Row]:
  """Return the memory of the compiled sampler, and how much more of it many steps take than few."""
  x = jax.ShapeDtypeStruct((case.batch, case.context, case.context, case.levels), jnp.float32)
  key = jax.random.key(0)
  params, _ = jax.eval_shape(model(case).init, key, {"x": x})
  compiled: list[Any] = [jax.jit(sampler(case, steps)).lower(params, key).compile()
                         for steps in (NUM_STEPS, MORE * NUM_STEPS)]
  few, many = (each.memory_analysis().temp_size_in_bytes for each in compiled)
  what, how = f"{_name(case)}: sampling memory", "beside samples and parameters, as the compiler counts it"
  return [Row(what, few / 2**20, "MiB", f"{NUM_STEPS} steps; {how}"),
          Row(f"{what}, {MORE * NUM_STEPS} steps over {NUM_STEPS}", many / few, "x", how, high=MEMORY_TARGET)]


def _name(case: Case) -> str:
  return f"U-Net {case.num_layers}x{case.width}, {case.context}x{case.context}x{case.levels}, batch {case.batch}"


def _python(settings: Settings) -> str:
  """Return the python of diffusers' environment; a FileNotFoundError says where it should be."""
  if not settings.peers:
    raise FileNotFoundError("give --peers, a folder with an environment diffusers")
  python = Path(settings.peers).absolute() / "diffusers" / "bin" / "python"
  if not python.exists():
    raise FileNotFoundError("--peers has no diffusers/bin/python")
  return str(python)
