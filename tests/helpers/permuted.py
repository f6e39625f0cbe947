"""Training and scoring on a mesh whose devices do not follow the order of their processes, as on a TPU slice.

`python permuted.py PORT INDEX PATH` is one of two processes with two devices each; the first writes their `results`.
`python permuted.py --module=evaluate ...` runs a binary on such a mesh.
"""

import dataclasses
import functools
import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from gdm import mesh as meshes
from gdm.data.dataset import Dataset
from gdm.data.loader import Loader, eval_batches
from gdm.evaluation.classification import evaluate_labels
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import LossOutput, Mean
from gdm.training.loop import fit
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step
from helpers.toy_models import PLANE, ExactToy

ORDER = (0, 2, 3, 1)  # of four devices, two of each process: those of processes 0, 1, 1, 0
NUM, BATCH = 50, 16  # the last batch is not full


@dataclasses.dataclass(frozen=True)
class Numbered(ExactToy):
  """A Gaussian of which every number depends on the example and on its place in the batch, by noise."""

  def loss(self, params, carry, batch, key, step):
    nll = -super().log_likelihood(params, carry, batch, key).nats
    weight = jax.random.uniform(key, nll.shape)
    return LossOutput(jnp.mean(weight * nll), {"nll": Mean.of(nll)}, carry)

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    nats = super().log_likelihood(params, carry, batch, key).nats + 0.1 * jax.random.normal(key, batch["x"].shape[:1])
    return LogLikelihood.of(nats, 2, Kind.LOWER_BOUND, details={"first": batch["x"][:, 0]})

  def log_label_probs(self, params, carry, batch):
    return jax.nn.log_softmax(batch["x"])


def permuted(devices):
  """The devices in an order that is not of their processes."""
  by_process = sorted(devices, key=lambda device: (device.process_index, device.id))
  return [by_process[i] for i in ORDER]


def dataset():
  rng = np.random.default_rng(0)
  arrays = {"x": rng.normal(1.0, 2.0, (NUM, 2)).astype(np.float32), "y": rng.integers(0, 2, NUM).astype(np.int32)}
  return Dataset("numbered", dataclasses.replace(PLANE, num_classes=2), {"train": arrays, "test": arrays})


def results(mesh):
  """Parameters after training, the score of each example, log p(y | x) of each, and the first batch of training."""
  model, data, key = Numbered(), dataset(), jax.random.key(0)  # a key of the module would start the backend too soon
  optimizers = optimizers_for(model, optax.sgd(0.05))
  loader = Loader(data, BATCH, seed=0, rows=meshes.local_rows(mesh, BATCH))
  first = loader.next_batches(1)["x"]
  placed = meshes.put_batch(first, meshes.batch_sharding(mesh, leading_axes=2))
  state = init_state(model, optimizers, key, {"x": np.zeros((2, 2), np.float32)}, mesh=mesh)
  state, _ = fit(make_train_step(model, optimizers), state, loader, key=key, num_steps=5, mesh=mesh)

  def batches():
    return eval_batches(data, "test", BATCH, rows=meshes.local_rows(mesh, BATCH))

  scores = evaluate_likelihood(model, state.params, state.carry, batches(), key=key, num_draws=2, num_examples=NUM,
                               mesh=mesh)
  labels = evaluate_labels(model, state.params, state.carry, batches(), num_examples=NUM, mesh=mesh)
  params, batch = whole((state.params, placed))
  return {"params": np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)]), "nats": scores.nats,
          "label_nats": labels.nats, "right": labels.right, "batch": np.asarray(batch),
          "detail": np.asarray(scores.details["first"])}


def whole(tree):
  return multihost_utils.process_allgather(tree, tiled=True) if jax.process_count() > 1 else jax.device_get(tree)


def run_two(*arguments):
  """Runs the script as two processes, which talk over gloo, each with its arguments; returns what they printed."""
  here = Path(__file__)
  environment = {**os.environ, "PYTHONPATH": f"{here.parents[2]}:{here.parents[1]}", "JAX_PLATFORMS": "cpu",
                 "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
                 "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
  processes = [subprocess.Popen([sys.executable, str(here), *map(str, own)], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE) for own in arguments]
  printed = [process.communicate(timeout=120) for process in processes]
  assert [process.returncode for process in processes] == [0, 0], printed
  return printed


meshes.MIN_SPLIT = 1  # in processes of its own too


def free_port():
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


def main(port, index, path):
  jax.config.update("jax_num_cpu_devices", 2)
  jax.distributed.initialize(f"localhost:{port}", 2, int(index))
  found = results(meshes.make_mesh(2, permuted(jax.devices())))
  if index == "0":
    np.savez(path, **found)


def run_binary(name):
  """Runs a binary of experiments on a permuted mesh, with the flags of the command line."""
  jax.config.update("jax_num_cpu_devices", 2)
  make_mesh = meshes.make_mesh
  meshes.make_mesh = lambda fsdp=1, devices=None, tensor=1: make_mesh(fsdp, devices or permuted(jax.devices()), tensor)
  module = importlib.import_module(f"experiments.{name}")
  importlib.import_module("experiments.cli").run(functools.partial(module.main))


if __name__ == "__main__":
  if sys.argv[1].startswith("--module="):
    run_binary(sys.argv.pop(1).partition("=")[2])
  else:
    main(*sys.argv[1:])
