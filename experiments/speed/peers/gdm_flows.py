"""This project's side of flows: layers of two hidden layers each, without normalization between."""

import functools
from typing import Any

import jax
import numpy as np
import optax

from experiments.speed.peers.gdm_step import training
from experiments.speed.peers.protocol import DENSITY, SAMPLING, Case, serve
from gdm.dataspec import DataSpec
from gdm.runs.allocation import keep_freed_memory
from gdm.runs.registry import build_model

LEARNING_RATE = 1e-5  # on one batch again and again, so that nothing diverges

FIELDS = {"coupling": lambda case: {"name": "realnvp"}, "maf": lambda case: {"name": "maf"},
          "spline": lambda case: {"name": "spline_autoregressive", "num_bins": case.levels}}


def build_flow(case: Case) -> Any:
  return build_model({**FIELDS[case.model](case), "num_layers": case.num_layers, "hidden": (case.width, case.width),
                      "normalization": "none"}, DataSpec((case.context,), None))


def build(case: Case):
  model, key = build_flow(case), jax.random.key(0)
  x = np.random.default_rng(0).standard_normal((case.batch, case.context), np.float32)
  params, tasks = training(model, x, optax.adam(LEARNING_RATE))
  batch = jax.device_put({"x": x})
  start = functools.cache(lambda: jax.jit(model.init)(key, batch))
  log_prob = jax.jit(lambda params, carry, batch, key: model.log_likelihood(params, carry, batch, key).nats)
  sample = jax.jit(lambda params, carry, key: model.sample(params, carry, key, case.batch).x)

  def density(steps: int) -> None:
    for _ in range(steps):
      jax.block_until_ready(log_prob(*start(), batch, key))

  def draw(steps: int) -> None:
    for _ in range(steps):
      jax.block_until_ready(sample(*start(), key))

  return params, {**tasks, DENSITY: density, SAMPLING: draw}


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
