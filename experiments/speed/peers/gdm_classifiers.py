"""This project's side of classifiers; a case's layers are the network's stages."""

import numpy as np
import optax

from experiments.speed.peers.gdm_step import training
from experiments.speed.peers.protocol import Case, serve
from gdm.dataspec import DataSpec
from gdm.runs.allocation import keep_freed_memory
from gdm.runs.registry import build_model

CLASSES = 10


def build(case: Case):
  event, rng = (case.context, case.context, 1), np.random.default_rng(0)
  widths = tuple(case.width * 2**i for i in range(case.num_layers))
  model = build_model({"name": "cnn_classifier", "network": {"widths": widths}},
                      DataSpec(event, case.levels, num_classes=CLASSES))
  x = rng.integers(0, case.levels, (case.batch, *event), np.uint8)
  return training(model, x, optax.adamw(2e-3), y=rng.integers(0, CLASSES, case.batch).astype(np.int32))


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
