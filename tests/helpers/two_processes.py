"""One of two processes: python two_processes.py PORT INDEX FOLDER; the first writes what both computed."""

import sys
from pathlib import Path

import jax
import numpy as np


def main(port, index, folder):
  jax.distributed.initialize(f"localhost:{port}", 2, int(index))
  from gdm.mesh import make_mesh
  from helpers.device_runs import TWO_PROCESSES, run_steps
  for name, fsdp in TWO_PROCESSES:
    gradients = run_steps(name, make_mesh(fsdp), 1, np.float32).opt_state
    with jax.enable_x64(True):
      fifty = run_steps(name, make_mesh(fsdp), 50, np.float64)
    if index == "0":
      for what, tree in (("gradients", gradients), ("fifty", fifty)):
        np.savez(Path(folder) / f"{name}-{fsdp}-{what}.npz", *jax.tree.leaves(tree))


if __name__ == "__main__":
  main(*sys.argv[1:])
