"""Cost of the loop: steps/s of `fit` over steps/s of the bare compiled step, MADE on the given data."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import rates, ratios, seconds, summary
from gdm import mesh as meshes
from gdm.data.dataset import Dataset
from gdm.data.loader import Loader
from gdm.model import Batch, Model
from gdm.runs.registry import build_model
from gdm.training.loop import CompiledStep, Hook, compile_step, fit
from gdm.training.metrics import MetricsWindow
from gdm.training.state import TrainState, init_state, optimizers_for
from gdm.training.step import TrainStep, make_train_step

FIT_TARGET = 0.9


@dataclasses.dataclass(frozen=True)
class Size:
  """Hidden units, batch size, steps per timing, timings per repeat, and steps of a call of several."""

  hidden: int = 500
  batch: int = 100
  steps: int = 200
  blocks: int = 3
  per_call: int = 10


SIZES = {FULL: Size(), QUICK: Size(steps=100, blocks=1), TINY: Size(4, 10, 4, 1, 2)}


def run(settings: Settings) -> list[Row]:
  size, dataset = SIZES[settings.size], settings.dataset()
  trainee = Trainee(build_model({"name": "made", "network": {"hidden": (size.hidden,)}}, dataset.spec), dataset)
  bare, name = trainee.bare_step(size.batch), f"MADE-{size.hidden}"
  how = f"batch {size.batch}, adam, {size.steps} steps a time"
  rows = []
  for steps_per_call, low in ((1, FIT_TARGET), (size.per_call, None)):
    turns = Turns(bare, size.steps)
    trainee.fit(size.batch, (size.blocks * settings.repeats + 1) * size.steps, steps_per_call, turns)
    call = f"{steps_per_call} step{'s' * (steps_per_call > 1)} per call"
    rows += [
        summary(f"{name}: bare step, beside {call}", rates(turns.bare, size.steps), "steps/s",
                f"batch on the device; {how}"),
        summary(f"{name}: fit, {call}", rates(turns.fit, size.steps), "steps/s", how),
        summary(f"{name}: fit over bare step, {call}", ratios(turns.bare, turns.fit), "x",
                "ratios of neighbouring timings", low=low),
    ]
  return rows


def made(dataset: Dataset, hidden: tuple[int, ...]) -> tuple[str, Model]:
  """MADE of these hidden layers, and what rows call it."""
  return f"MADE-{'-'.join(map(str, hidden))}", build_model({"name": "made", "network": {"hidden": hidden}},
                                                                dataset.spec)


class Trainee:
  """A model with all that its training takes, on a mesh: that of one device, unless told otherwise."""

  def __init__(self, model: Model, dataset: Dataset, mesh: Mesh | None = None):
    self.model, self.dataset = model, dataset
    self.mesh, self.key = mesh or meshes.make_mesh(devices=jax.devices()[:1]), jax.random.key(0)
    self.optimizers = optimizers_for(model, optax.adam(1e-3))
    self._state = init_state(model, self.optimizers, self.key, dataset.split("train").rows(slice(0, 10)),
                             mesh=self.mesh)
    self._bare = jax.jit(make_train_step(model, self.optimizers), donate_argnums=0)

  def fresh_state(self) -> TrainState:
    """Return a copy of the first state, for a step to donate."""
    return jax.tree.map(jnp.copy, self._state)

  def loader(self, batch_size: int) -> Loader:
    return Loader(self.dataset, batch_size, seed=0)

  def bare_step(self, batch_size: int, ahead: bool = False) -> Callable[[], TrainState]:
    """Return a call that takes one step of `make_train_step` under plain `jax.jit`, on a batch that stays on the
    device.

    Args:
      batch_size: examples per step.
      ahead: whether it is compiled ahead of time, as `fit`'s step is, or by the first call.
    """
    device = self.mesh.devices.flat[0]
    state, batch = jax.device_put((self.fresh_state(), self.loader(batch_size).next_batches()), device)
    step = self._bare.lower(state, batch, self.key).compile() if ahead else self._bare
    return self._stepper(step, state, batch)

  def compile(self, batch_size: int, steps: int = 1, unroll: bool = True, **options: Any) -> CompiledStep:
    """`steps` steps in one dispatch, as `fit` compiles them; the options are those of `make_train_step`."""
    step = make_train_step(self.model, self.optimizers, unroll=unroll, **options)
    return compile_step(step, self._state, self.loader(batch_size).batch_shapes(steps), self.mesh, steps, unroll)

  def repeat(self, compiled: CompiledStep, batch_size: int) -> Callable[[], TrainState]:
    """Return a call that takes the steps of one dispatch, on a batch that stays on the devices."""
    batch = meshes.put_batch(self.loader(batch_size).next_batches(compiled.steps_per_call),
                             meshes.batch_sharding(self.mesh, leading_axes=2))
    return self._stepper(lambda state, batch, key: compiled.call(state, batch, key, None)[:2], self.fresh_state(),
                         batch)

  def _stepper(self, compiled: TrainStep, state: TrainState, batch: Batch) -> Callable[[], TrainState]:
    """Return a call that takes the next step from `state` on, always on `batch`."""
    def call() -> TrainState:
      nonlocal state
      state, _ = compiled(state, batch, self.key)
      return state

    return call

  def fit(self, batch_size: int, num_steps: int, steps_per_call: int, turns: "Turns") -> None:
    """Train by `fit`, with `turns` as a hook."""
    fit(make_train_step(self.model, self.optimizers), self.fresh_state(), self.loader(batch_size), key=self.key,
        num_steps=num_steps, steps_per_call=steps_per_call, mesh=self.mesh,
        window=MetricsWindow(turns.steps, lambda step, row: None), hooks=[Hook(turns.steps, turns)])


class Turns:
  """A hook of `fit` that runs the bare step for as many steps as `fit` just took, and times both.

  One `fit` serves all timings, since each compiles anew; its first stretch, which compiles, is not counted.

  Attributes:
    steps: how many steps a turn is.
    fit: seconds of each turn of `fit`.
    bare: seconds of the bare step's turn after it.
  """

  def __init__(self, bare_step: Callable[[], TrainState], steps: int):
    self.steps = steps
    self.fit: list[float] = []
    self.bare: list[float] = []
    self._call = bare_step
    self._since: float | None = None

  def __call__(self, state: TrainState, step: int) -> None:
    del step
    jax.block_until_ready(state)
    if self._since is None:
      seconds(self._call)
    else:
      self.fit.append(time.perf_counter() - self._since)
      self.bare.append(seconds(lambda: [self._call() for _ in range(self.steps)][-1]))
    self._since = time.perf_counter()
