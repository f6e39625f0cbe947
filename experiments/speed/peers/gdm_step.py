"""The bare compiled train step of this project's sides."""

from typing import Any

import jax
import numpy as np
import optax

from experiments.speed.peers.protocol import TRAINING, Tasks
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step


def training(model: Any, x: np.ndarray, optimizer: optax.GradientTransformation | None = None,
             **given: np.ndarray) -> tuple[int, Tasks]:
  """Return the number of parameters, and the task of training on the batch x, by AdamW where nothing else is given;
  `given` are further entries of the batch, as labels y."""
  optimizers = optimizers_for(model, optimizer or optax.adamw(1e-3))
  key = jax.random.key(0)
  state = init_state(model, optimizers, key, {"x": x})
  params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  repeats = sum(objective.repeats for objective in model.objectives)
  step = jax.jit(make_train_step(model, optimizers), donate_argnums=0)
  batch = jax.device_put({name: np.stack([value] * repeats) for name, value in {"x": x, **given}.items()})

  def take(steps: int) -> None:
    nonlocal state
    for _ in range(steps):
      state, _ = step(state, batch, key)
    jax.block_until_ready(state)

  return params, {TRAINING: take}
