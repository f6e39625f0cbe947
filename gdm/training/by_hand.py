"""Training in one's own code: any iterator of minibatches, with checkpoints that a killed program goes on from."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from gdm.errors import ConfigError
from gdm.model import Batch
from gdm.training import checkpoint
from gdm.training.loop import Hook, fit
from gdm.training.state import TrainState
from gdm.training.step import TrainStep

Minibatches = Callable[[int], Iterator[Batch]]


class Iterated:
  """Batches of an iterator of minibatches, as `fit` takes them.

  Args:
    minibatches: gives an iterator of minibatches {"x": [batch, *event], ...}, all of one shape, that begins with the
      one of a number, counted from 0: so a resumed run sees what the unbroken one would.
    per_step: minibatches of a step, `sum(objective.repeats for objective in model.objectives)`.
    first_step: steps that are done already.

  Raise ConfigError where the iterator ends.
  """

  def __init__(self, minibatches: Minibatches, per_step: int = 1, first_step: int = 0):
    self._per_step = per_step
    self._iterator = minibatches(first_step * per_step)

  def next_batches(self, k: int | None = None) -> Mapping[str, np.ndarray]:
    """Return the next k steps' batches: leaves [k, minibatches, batch, ...]."""
    num = 1 if k is None else k
    found = list(itertools.islice(self._iterator, num * self._per_step))
    if len(found) < num * self._per_step:
      raise ConfigError("the iterator of minibatches ended before training; it must go on and on.")
    return {name: np.stack([np.asarray(each[name]) for each in found]).reshape(
        num, self._per_step, *np.shape(found[0][name])) for name in found[0]}


def train_with_checkpoints(folder: str | os.PathLike, step: TrainStep, state: TrainState, minibatches: Minibatches, *,
                           key: Key[Array, ""], num_steps: int, every: int, per_step: int = 1, keep: int = 2,
                           **options: Any) -> TrainState:
  """Train to `num_steps`, from the newest whole checkpoint in a folder where there is one.

  Args:
    folder: of the checkpoints, made if absent.
    step: from `make_train_step`.
    state: a first state, from `init_state`; donated.
    minibatches: see `Iterated`.
    key: root key of the run.
    num_steps: steps in all.
    every: steps between checkpoints.
    per_step: minibatches of a step.
    keep: how many of the newest checkpoints are kept.
    options: further ones of `gdm.training.loop.fit`.

  Returns:
    The last state, which is saved too.

  Raises:
    CheckpointError: a checkpoint is of another model, or cannot be written.
    NotFiniteError: a metric is NaN or infinite.

  Example:

    state = init_state(model, optimizers, jax.random.key(0), next(minibatches(0)))
    state = train_with_checkpoints("runs/mine", make_train_step(model, optimizers), state, minibatches,
                                   key=jax.random.key(0), num_steps=1000, every=100)
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  saver = checkpoint.Checkpointer(folder, keep=keep)
  try:
    newest = checkpoint.newest_good_step(folder)
    if newest is not None:
      like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
      state = checkpoint.restore(folder, newest, like).state
    saver.set_aside_damaged()

    def save(state: TrainState, step: int) -> None:
      saver.save(step, state, {})

    batches = Iterated(minibatches, per_step, int(state.step))
    state, _ = fit(step, state, batches, key=key, num_steps=num_steps,
                   hooks=(*options.pop("hooks", ()), Hook(every, save)), **options)
    save(state, int(state.step))
    saver.finish()
  finally:
    saver.close()
  return state
