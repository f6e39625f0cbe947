"""Step time of one model and one batch on 1, 2, 4 and 8 devices: the batch split, or the parameters too.

Where there is but a CPU, eight devices are simulated on its cores: they show what sharing costs, and no speed-up.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, ratios, summary
from experiments.speed.training import Trainee, made
from gdm import mesh as meshes

SIMULATED = 8


@dataclasses.dataclass(frozen=True)
class Size:
  """Hidden layers, which 8 must divide for fsdp=8; the batch that devices share; steps per mesh and repeat; meshes.

  A mesh is its axes' sizes, (data, fsdp); the first is the one that others are compared with.
  """

  hidden: tuple[int, ...] = (512,)
  batch: int = 2000
  steps: int = 20
  meshes: tuple[tuple[int, int], ...] = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 8))


SIZES = {FULL: Size(), QUICK: Size(steps=5), TINY: Size((8,), 8, 1, ((1, 1), (1, 8)))}
# Steps of milliseconds on a GPU or a TPU.
ACCELERATOR_SIZES = {FULL: Size((8192, 8192), 4096, 10), QUICK: Size((8192, 8192), 4096, 3), TINY: SIZES[TINY]}


def run(settings: Settings) -> list[Row]:
  jax.config.update("jax_num_cpu_devices", SIMULATED)  # the backend starts after this
  size = (SIZES if jax.default_backend() == "cpu" else ACCELERATOR_SIZES)[settings.size]
  dataset, devices = settings.dataset(), jax.devices()
  name, model = made(dataset, size.hidden)
  calls = {}
  for data, fsdp in size.meshes:
    if data * fsdp <= len(devices):
      trainee = Trainee(model, dataset, meshes.make_mesh(fsdp, devices[:data * fsdp]))
      calls[data, fsdp] = trainee.repeat(trainee.compile(size.batch), size.batch)
  # Each step is waited for: steps in flight together on more devices than cores would starve each other's collectives.
  times = alternate(calls, settings.repeats * size.steps)
  how = f"batch {size.batch} in all, adam; {_kind(devices)}"
  rows = [summary(_title(name, *mesh), [1e3 * time for time in times[mesh]], "ms", how) for mesh in calls]
  return rows + [summary(f"{_title(name, *mesh)}, over one device", ratios(times[mesh], times[1, 1]), "x",
                         "median over neighbouring steps") for mesh in calls if mesh != (1, 1)]


def _title(name: str, data: int, fsdp: int) -> str:
  return f"{name}: data={data}" + (f", fsdp={fsdp}" if fsdp > 1 else "")


def _kind(devices: Sequence[Any]) -> str:
  if devices[0].platform != "cpu":
    return f"the first of {len(devices)} x {devices[0].device_kind}"
  return f"simulated devices that share {os.cpu_count()} cores: overhead, no speed-up"
