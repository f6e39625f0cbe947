"""This project's side of adversarial models; a case's layers are the critic's steps."""

import numpy as np
import optax

from experiments.speed.peers.gdm_step import training
from experiments.speed.peers.protocol import Case, serve
from gdm.dataspec import DataSpec
from gdm.runs.allocation import keep_freed_memory
from gdm.runs.registry import build_model


def build(case: Case):
  event = (case.context, case.context, 1)
  networks = {"generator": {"name": "convolutional", "width": case.width},
              "critic": {"name": "convolutional", "width": case.width,
                         "normalization": "batch" if case.model == "dcgan" else "layer"}}
  steps = {} if case.model == "dcgan" else {"critic_steps": case.num_layers}
  model = build_model({"name": case.model, **networks, **steps}, DataSpec(event, case.levels))
  x = np.random.default_rng(0).integers(0, case.levels, (case.batch, *event), np.uint8)
  return training(model, x, optax.adam(2e-4, b1=0.5))


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
