"""Compiles models for TPUs that are not here, and says how much memory they need and what devices send to each other.

  python -m experiments.accelerators --out=FILE.json [--models=transformer,ddpm] [--topologies=v5e:2x2,v5p:2x2x1]
      [--meshes=data,fsdp,tensor] [--programs]

It needs the TPU's compiler, the package libtpu, and no TPU:

  pip install --target=libtpu --no-deps libtpu
  export TPU_LIBRARY_PATH=libtpu/libtpu/libtpu.so

One model of each family, at the size of its config, is compiled: its training step for each topology and mesh, and with
--programs also its other programs for the first topology. A line is printed for each, and FILE.json keeps what was
found; the same command goes on where it was stopped. `make check-accelerators` also exports every model for cuda and
tpu, which is the test tests/runs/test_accelerators.py.
"""

import dataclasses
import importlib
import json
import time
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import cli
from gdm.checks import one_of
from gdm.dataspec import DataSpec
from gdm.mesh import batch_shards
from gdm.paths import write_whole
from gdm.runs import accelerators
from gdm.runs.registry import build_model
from gdm.training.optimizer import make_optimizers

# Config, its variant, and the data that it serves there.
MODELS = {
    "mixture": ("baselines.mixture", "binarized_mnist", DataSpec((28, 28, 1), 2)),
    "transformer": ("autoregressive.transformer", "shakespeare", DataSpec((64,), 65, has_lengths=True)),
    "glow": ("flows.glow", "digits", DataSpec((8, 8, 1), 17)),
    "ddpm": ("diffusion.ddpm", "digits", DataSpec((8, 8, 1), 17)),
    "masked": ("discrete_diffusion.masked", "shakespeare_long", DataSpec((128,), 65)),
    "ebm": ("energy.ebm", "digits", DataSpec((8, 8, 1), 17)),
    "vae": ("latent.vae", "mnist", DataSpec((28, 28, 1), 256)),
    "dcgan": ("adversarial.dcgan", "mnist", DataSpec((28, 28, 1), 256)),
    "cnn_classifier": ("discriminative.cnn_classifier", "mnist", DataSpec((28, 28, 1), 256, 10)),
}
MESHES = {"data": {}, "fsdp": {"fsdp": 0}, "tensor": {"tensor": 2}}  # 0 is all devices

_OUT = flags.DEFINE_string("out", None, "The file to write; what it has already is not compiled again.")
_MODELS = flags.DEFINE_list("models", list(MODELS), "Models, one of each family by default.")
_TOPOLOGIES = flags.DEFINE_list("topologies", ["v5e:2x2", "v5e:4x4", "v5p:2x2x1"], "TPU topologies.")
_MESHES = flags.DEFINE_list("meshes", ["data", "fsdp"], "How devices share a step: data, fsdp, tensor.")
_PROGRAMS = flags.DEFINE_boolean("programs", False, "Also init, log_likelihood, sample and conditional_step.")


def main() -> None:
  out = cli.require_path("out")
  for flag, known in ((_MODELS, MODELS), (_MESHES, MESHES)):
    for name in flag.value:
      one_of(f"--{flag.name}", name, tuple(known))
  rows = json.loads(out.read_bytes()) if out.is_file() else []
  done = {(row["model"], row["program"], row["topology"], row["mesh"]) for row in rows}
  for key in _wanted():
    if key in done:
      continue
    start = time.perf_counter()
    name, program, topology, mesh = key
    found = _compile(name, program, accelerators.topology_mesh(topology, **MESHES[mesh]))
    row = {"model": name, "program": program, "topology": topology, "mesh": mesh,
           "seconds": time.perf_counter() - start, **found}
    rows.append(row)
    write_whole(out, lambda file: file.write(json.dumps(rows, indent=1).encode()))
    print(accelerators.table_line(row), flush=True)


def _wanted() -> list[tuple[str, str, str, str]]:
  """Return model, program, topology and mesh of everything to compile."""
  steps = [(name, "step", topology, mesh) for topology in _TOPOLOGIES.value for mesh in _MESHES.value
           for name in _MODELS.value if name != "mixture" and (mesh != "tensor" or name in ("transformer", "masked"))]
  others = [(name, program, _TOPOLOGIES.value[0], "data") for name in _MODELS.value if _PROGRAMS.value
            for program in accelerators.PROGRAMS if program != "step" and _has(name, program)]
  return [*steps, *others]


def _has(name: str, program: str) -> bool:
  model, optimizers, batch = _model(name, 1)
  return bool(accelerators.programs(model, optimizers, batch, only=(program,)))


def _model(name: str, shards: int) -> tuple[Any, Any, dict[str, Any]]:
  """Return a model, its optimizers, and the shapes of a batch that so many devices can share."""
  config_name, variant, spec = MODELS[name]
  config = importlib.import_module(f"configs.{config_name}").get_config(variant)
  if "chain_shards" in config.model:  # each device keeps chains of its own
    config.model.chain_shards = max(config.model.chain_shards, shards)
  model = build_model(config.model.to_dict(), spec)
  num = -(-config.data.batch_size // shards) * shards
  batch: dict[str, Any] = {"x": jax.ShapeDtypeStruct((num, *spec.event), np.uint8 if spec.is_discrete else np.float32)}
  if spec.num_classes:
    batch["y"] = jax.ShapeDtypeStruct((num,), np.int32)
  if spec.has_lengths:
    batch["length"] = jax.ShapeDtypeStruct((num,), np.int32)
  return model, make_optimizers(config.optimizer.to_dict(), config.training.num_steps, model), batch


def _compile(name: str, program: str, mesh: Any) -> dict[str, Any]:
  model, optimizers, batch = _model(name, batch_shards(mesh))
  if program == "step":
    found = accelerators.compile_step(model, optimizers, batch, mesh)
  else:
    found = accelerators.compile_program(accelerators.programs(model, optimizers, batch, only=(program,))[0], mesh)
  return {"batch": batch["x"].shape[0], **dataclasses.asdict(found)}


if __name__ == "__main__":
  cli.run(main, precise=False)
