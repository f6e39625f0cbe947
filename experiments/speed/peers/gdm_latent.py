"""This project's side of variational autoencoders."""

import numpy as np

from experiments.speed.peers.gdm_step import training
from experiments.speed.peers.protocol import Case, serve
from gdm.dataspec import DataSpec
from gdm.runs.allocation import keep_freed_memory
from gdm.runs.registry import build_model


def build(case: Case):
  event = (case.context, case.context, 1)
  if case.model == "mlp":
    hidden = (case.width,) * case.num_layers
    networks = {"encoder": {"name": "mlp", "hidden": hidden}, "decoder": {"name": "mlp", "hidden": hidden}}
  else:
    widths = (case.width, *(2 * case.width,) * (case.num_layers - 1))
    networks = {"encoder": {"name": "convolutional", "widths": widths},
                "decoder": {"name": "convolutional", "widths": widths[::-1]}}
  model = build_model({"name": "vae", "latent_dims": 40, **networks}, DataSpec(event, case.levels))
  return training(model, np.random.default_rng(0).integers(0, case.levels, (case.batch, *event), np.uint8))


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
