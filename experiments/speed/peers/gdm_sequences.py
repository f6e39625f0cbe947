"""This project's side of models of sequences."""

import numpy as np

from experiments.speed.peers.gdm_step import training
from experiments.speed.peers.protocol import Case, serve
from gdm.dataspec import DataSpec
from gdm.runs.allocation import keep_freed_memory
from gdm.runs.registry import build_model


def build(case: Case):
  name, cell = ("transformer", {}) if case.model == "transformer" else ("recurrent", {"cell": case.model})
  network = {"num_layers": case.num_layers, "width": case.width, **cell}
  model = build_model({"name": name, "network": network}, DataSpec((case.context,), case.levels))
  x = np.random.default_rng(0).integers(0, case.levels, (case.batch, case.context), np.uint8)
  return training(model, x)


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
