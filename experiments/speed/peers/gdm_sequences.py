"""This project's side: the bare compiled train step."""

import jax
import numpy as np
import optax

from experiments.allocation import keep_freed_memory
from experiments.registry import build_model
from experiments.speed.peers.protocol import Case, serve
from gdm.dataspec import DataSpec
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step


def build(case: Case):
  name, own = ("transformer", {}) if case.model == "transformer" else ("recurrent", {"cell": case.model})
  model = build_model({"name": name, "num_layers": case.num_layers, "width": case.width, **own},
                      DataSpec((case.context,), case.levels))
  x = np.random.default_rng(0).integers(0, case.levels, (case.batch, case.context), np.uint8)
  optimizers = optimizers_for(model, optax.adamw(1e-3))
  key = jax.random.key(0)
  state = init_state(model, optimizers, key, {"x": x})
  params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  step, batch = jax.jit(make_train_step(model, optimizers), donate_argnums=0), jax.device_put({"x": x[None]})

  def take(steps: int) -> None:
    nonlocal state
    for _ in range(steps):
      state, _ = step(state, batch, key)
    jax.block_until_ready(state)

  return params, take


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
