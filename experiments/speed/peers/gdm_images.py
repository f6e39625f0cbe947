"""This project's side of models of images."""

import numpy as np

from experiments.speed.peers.gdm_step import training
from experiments.speed.peers.protocol import Case, serve
from gdm.dataspec import DataSpec
from gdm.runs.allocation import keep_freed_memory
from gdm.runs.registry import build_model

FIELDS = {"pixelcnn": lambda case: {"num_blocks": case.num_layers, "head_width": 2 * case.width},
          "gated_pixelcnn": lambda case: {"num_layers": case.num_layers, "skip_width": 2 * case.width}}


def build(case: Case):
  event = (case.context, case.context, 1)
  network = {"width": case.width, "first_size": 7, "kernel_size": 3, **FIELDS[case.model](case)}
  model = build_model({"name": case.model, "network": network}, DataSpec(event, case.levels))
  return training(model, np.random.default_rng(0).integers(0, case.levels, (case.batch, *event), np.uint8))


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
