"""Share of a step in which the host is in the way: a step that is fed, over the same step on a batch that stays.

Each way of `data.feed` feeds a step of MADE on 8 devices, simulated ones where there is but a CPU. There host and
devices share the cores, so that even work beside the step takes time from it; on an accelerator it does not.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from experiments.speed.devices import SIMULATED
from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, ratios, summary
from experiments.speed.training import Trainee, made
from gdm import mesh as meshes
from gdm.runs.feeding import Feed
from gdm.training.loop import CompiledStep

STAYS = "stays on the devices"
WAYS = ("host", "device", "ahead")


@dataclasses.dataclass(frozen=True)
class Size:
  """Hidden layers, batch size of all devices, and steps of each way per repeat."""

  hidden: tuple[int, ...] = (512,)
  batch: int = 1000
  steps: int = 40


SIZES = {FULL: Size(), QUICK: Size(steps=10), TINY: Size((8,), 8, 2)}


def run(settings: Settings) -> list[Row]:
  jax.config.update("jax_num_cpu_devices", SIMULATED)  # the backend starts after this
  size, dataset = SIZES[settings.size], settings.dataset()
  devices = jax.devices()[:SIMULATED]
  name, model = made(dataset, size.hidden)
  trainee = Trainee(model, dataset, meshes.make_mesh(devices=devices))
  compiled = trainee.compile(size.batch)
  feeds = {way: Feed(trainee.loader(size.batch), dataset.split("train"), trainee.mesh, way) for way in WAYS}
  calls = {STAYS: trainee.repeat(compiled, size.batch),
           **{way: _fed(trainee, compiled, feed) for way, feed in feeds.items()}}
  times = alternate(calls, settings.repeats * size.steps)
  for feed in feeds.values():
    feed.__exit__()
  how = f"batch {size.batch} on {len(devices)} x {devices[0].device_kind}, adam; each step is waited for"
  rows = [summary(f"{name}: batch {STAYS}", [1e3 * time for time in times[STAYS]], "ms", how)]
  return rows + [summary(f"{name}: {way}, the host's share of a step",
                         [1 - ratio for ratio in ratios(times[STAYS], times[way])], "",
                         "one minus the step whose batch stays over this one, median over neighbouring steps")
                 for way in WAYS]


def _fed(trainee: Trainee, compiled: CompiledStep, feed: Feed) -> Callable[[], Any]:
  """Return a call that takes the next batch from the feed, and a step on it."""
  state = trainee.fresh_state()

  def call() -> Any:
    nonlocal state
    state, *_ = compiled.call(state, feed.next_batches(1), trainee.key, None)
    return state

  return call
