"""Programs of a model for accelerators that this machine does not have: exported, and compiled by the TPU's compiler.

A model's programs are what training, evaluation and sampling run on a device: `init`, one training `step`,
`log_likelihood`, `sample`, `conditional_step` and, where a model has no likelihood, what it has in its place. An export
(`jax.export`) lowers them for a platform; it fails where a program needs the host, or an operation that the platform
lacks. A compilation (`compile_program`) goes further: the compiler of `libtpu` makes the very program of a topology,
and says how much memory each device needs and what devices send to each other.
"""

import collections
import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from gdm import mesh as meshes
from gdm import platforms
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.model import (
  HasAnomalyScore,
  HasClasses,
  HasComplete,
  HasConditionals,
  HasContextCondition,
  HasLabelProbs,
  HasLogLikelihood,
  HasSample,
  HasUnnormalized,
  HasValidation,
  Model,
)
from gdm.paths import write_whole
from gdm.runs.registry import build_model
from gdm.training.loop import lower_step
from gdm.training.optimizer import make_optimizers
from gdm.training.state import Optimizers, names_of, state_shapes
from gdm.training.step import make_train_step

PLATFORMS = ("cuda", "tpu")
# What a model may have; see `programs`.
PROGRAMS = ("init", "step", "log_likelihood", "unnormalized_log_prob", "validate", "anomaly_score", "log_label_probs",
            "sample", "complete", "conditional_step")
MESHES = {"data": {}, "fsdp": {"fsdp": 0}, "tensor": {"tensor": 2}}  # 0 is all devices
_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_COLLECTIVE = re.compile(rf"= \S.*? ({'|'.join(_COLLECTIVES)})(?:-start)?\(")
_CHANNEL = re.compile(r"channel_id=\d+")


@dataclasses.dataclass(frozen=True)
class Program:
  """A function of arrays, and the shapes of its arguments.

  Attributes:
    name: what it does, as "sample".
    function: the function.
    arguments: shapes of what it takes.
  """

  name: str
  function: Callable[..., Any]
  arguments: tuple[Any, ...]


def programs(model: Model, optimizers: Optimizers, batch: Mapping[str, Any], *,
             only: tuple[str, ...] = ()) -> list[Program]:
  """Return the programs of a model.

  Args:
    model: the model.
    optimizers: parameter group -> optimizer.
    batch: arrays or shapes of a minibatch, [batch, *event].
    only: names of those to return; () for all.
  """
  batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
  num = batch["x"].shape[0]
  key = jax.eval_shape(lambda: jax.random.key(0))
  params, carry = jax.eval_shape(model.init, key, batch)
  found = [Program("init", model.init, (key, batch))]
  if model.objectives:
    state = state_shapes(model, optimizers, batch, mesh=one_device())
    repeats = sum(objective.repeats for objective in model.objectives)
    batches = {name: jax.ShapeDtypeStruct((repeats, *x.shape), x.dtype) for name, x in batch.items()}
    found.append(Program("step", make_train_step(model, optimizers), (_plain(state), batches, key)))
  whole = {**batch, "mask": jax.ShapeDtypeStruct((num,), jnp.float32)}
  if isinstance(model, HasLogLikelihood):
    found.append(Program("log_likelihood", lambda params, carry, batch, key: model.log_likelihood(
        params, carry, batch, key).nats, (params, carry, whole, key)))
  if isinstance(model, HasUnnormalized):
    found.append(Program("unnormalized_log_prob", model.unnormalized_log_prob, (params, carry, batch)))
  if isinstance(model, HasValidation):
    found.append(Program("validate", model.validate, (params, carry, whole, key)))
  if isinstance(model, HasAnomalyScore):
    found.append(Program("anomaly_score", model.anomaly_score, (params, carry, batch, key)))
  if isinstance(model, HasLabelProbs):
    found.append(Program("log_label_probs", model.log_label_probs, (params, carry, batch)))
  if isinstance(model, HasSample):
    condition = _condition(model, num)
    found.append(Program("sample", lambda params, carry, key, condition: model.sample(
        params, carry, key, num, **condition).x, (params, carry, key, condition)))
  if isinstance(model, HasComplete):
    event = model.spec.event  # the first half of it, by its first axis, is known
    half = (np.arange(event[0]) < event[0] // 2).reshape(-1, *(1,) * (len(event) - 1))
    known = jnp.asarray(np.broadcast_to(half, event))
    found.append(Program("complete", lambda params, carry, key, x: model.complete(params, carry, key, x, known).x,
                         (params, carry, key, batch["x"])))
  if isinstance(model, HasConditionals):
    cache = jax.eval_shape(lambda params: model.init_cache(params, num), params)
    found.append(Program("conditional_step", model.conditional_step,
                         (params, cache, jax.ShapeDtypeStruct((num,), jnp.int32), jax.ShapeDtypeStruct((), jnp.int32))))
  return [program for program in found if not only or program.name in only]


def export_program(program: Program, names: Sequence[str] = PLATFORMS) -> str:
  """Return the program as an export for all these platforms has it, as text; what tracing or lowering raises, passes.

  Call it within `platforms.tracing_for("tpu")`: all accelerators trace alike, but for cuDNN's fused attention where a
  network asks for it.
  """
  return jax.export.export(jax.jit(program.function), platforms=list(names))(*program.arguments).mlir_module()


def one_device() -> Mesh:
  """Return a mesh of one device of this machine."""
  return meshes.make_mesh(devices=jax.devices()[:1])


def _plain(tree: Any) -> Any:
  """Return shapes without shardings."""
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _condition(model: Model, num: int) -> dict[str, Any]:
  """Return shapes of what samples are drawn given: {} or {"condition": ...}."""
  rows = {}
  if isinstance(model, HasClasses) and model.class_conditional:
    rows["y"] = jax.ShapeDtypeStruct((num,), jnp.int32)
  if isinstance(model, HasContextCondition) and model.context_conditional:
    rows["context"] = jax.ShapeDtypeStruct((num, model.spec.context_dims), jnp.float32)
  return {"condition": rows if len(rows) > 1 or "context" in rows else rows["y"]} if rows else {}


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What the compiler says of a program.

  Attributes:
    arguments, temporary, outputs: bytes on each device: of what goes in, of what is needed meanwhile, of what comes out
      and is not in the place of an argument.
    flops: floating-point operations of one device, after optimization; of a loop, one turn. None where not known.
    collectives: how many operations between devices there are, by kind; those in loops counted once.
  """

  arguments: int
  temporary: int
  outputs: int
  flops: float | None
  collectives: Mapping[str, int]

  @property
  def total(self) -> int:
    """Bytes on each device."""
    return self.arguments + self.temporary + self.outputs


def topology_mesh(name: str, fsdp: int = 1, tensor: int = 1) -> Mesh:
  """Return the mesh of a TPU topology that need not be here.

  Args:
    name: kind and shape, as "v5e:2x2" or "v5p:2x2x1".
    fsdp: size of the mesh's axis fsdp; 0 for all devices.
    tensor: size of the mesh's axis tensor.

  Raise ConfigError where libtpu is missing, or does not know the topology.
  """
  _find_libtpu()
  from jax.experimental import topologies
  try:
    devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
  except Exception as error:  # libtpu's are of no one kind
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ConfigError(f"--topologies has {name!r}, but the compiler of libtpu says: {line}") from error
  return meshes.make_mesh(fsdp or len(devices) // tensor, devices, tensor)


class ModelCase(NamedTuple):
  """A model by its config, and the kind of the data that the config serves."""

  config: ml_collections.ConfigDict
  spec: DataSpec


def compile_all(cases: Mapping[str, ModelCase], topologies: Sequence[str], mesh_names: Sequence[str], out: Path, *,
                with_programs: bool = False) -> Iterator[str]:
  """Compile the training step of each model for each topology and mesh; yield a line of a markdown table for each.

  Args:
    cases: models by name.
    topologies: of TPUs, as "v5e:2x2".
    mesh_names: in `MESHES`.
    out: JSON file of what was found; what it has already is not compiled again.
    with_programs: whether the other programs are compiled too, for the first topology.

  Raise ConfigError where libtpu is missing, or does not know a topology.
  """
  rows = json.loads(out.read_bytes()) if out.is_file() else []
  done = {(row["model"], row["program"], row["topology"], row["mesh"]) for row in rows}
  for key in _wanted(cases, topologies, mesh_names, with_programs):
    if key in done:
      continue
    start = time.perf_counter()
    name, program, topology, mesh = key
    found = _compile(cases[name], program, topology_mesh(topology, **MESHES[mesh]))
    row = {"model": name, "program": program, "topology": topology, "mesh": mesh,
           "seconds": time.perf_counter() - start, **found}
    rows.append(row)
    write_whole(out, lambda file: file.write(json.dumps(rows, indent=1).encode()))
    yield table_line(row)


def _wanted(cases: Mapping[str, ModelCase], topologies: Sequence[str], mesh_names: Sequence[str], with_programs: bool
            ) -> list[tuple[str, str, str, str]]:
  """Return model, program, topology and mesh of everything to compile."""
  steps = [(name, "step", topology, mesh) for topology in topologies for mesh in mesh_names
           for name in cases if name != "mixture" and (mesh != "tensor" or name in ("transformer", "masked"))]
  others = [(name, program, topologies[0], "data") for name, case in cases.items() if with_programs
            for program in PROGRAMS if program != "step" and _programs(case, program)]
  return [*steps, *others]


def _programs(case: ModelCase, program: str, shards: int = 1) -> list[Program]:
  return programs(*_model(case, shards), only=(program,))


def _model(case: ModelCase, shards: int) -> tuple[Any, Any, dict[str, Any]]:
  """Return a model, its optimizers, and the shapes of a batch that so many devices can share."""
  config, spec = case.config.copy_and_resolve_references(), case.spec
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


def _compile(case: ModelCase, program: str, mesh: Mesh) -> dict[str, Any]:
  model, optimizers, batch = _model(case, meshes.batch_shards(mesh))
  if program == "step":
    found = compile_step(model, optimizers, batch, mesh)
  else:
    found = compile_program(_programs(case, program, meshes.batch_shards(mesh))[0], mesh)
  return {"batch": batch["x"].shape[0], **dataclasses.asdict(found)}


def compile_step(model: Model, optimizers: Optimizers, batch: Mapping[str, Any], mesh: Mesh) -> Compiled:
  """Compile one training step as `gdm.training.loop.fit` runs it, for a mesh of TPUs."""
  with platforms.tracing_for("tpu"):
    batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
    state = state_shapes(model, optimizers, batch, mesh=mesh)
    repeats = sum(objective.repeats for objective in model.objectives)
    local, num = meshes.local_shards(mesh), meshes.batch_shards(mesh)
    rows = {name: jax.ShapeDtypeStruct((1, repeats, x.shape[0] * local // num, *x.shape[1:]), x.dtype)
            for name, x in batch.items()}
    return facts(lower_step(make_train_step(model, optimizers), state, rows, mesh).lowered, mesh)


def compile_program(program: Program, mesh: Mesh) -> Compiled:
  """Compile a program for a mesh of TPUs: parameters by the mesh's rule, examples over all devices, keys everywhere."""
  with platforms.tracing_for("tpu"), jax.set_mesh(mesh):
    placed = [_placed(argument, mesh, kind) for argument, kind in
              zip(program.arguments, _kinds(program), strict=True)]
    return facts(jax.jit(program.function).lower(*placed), mesh)


def facts(lowered: Any, mesh: Mesh) -> Compiled:
  """Compile what was lowered, and return what the compiler says of it."""
  with jax.set_mesh(mesh):
    compiled = lowered.compile()
  memory, costs = compiled.memory_analysis(), compiled.cost_analysis() or {}
  return Compiled(memory.argument_size_in_bytes, memory.temp_size_in_bytes,
                  memory.output_size_in_bytes - memory.alias_size_in_bytes, costs.get("flops"),
                  count_collectives(compiled.as_text()))


def count_collectives(text: str) -> dict[str, int]:
  """Return how many operations between devices a compiled program has, by kind.

  A started and a finished one count as one, and so do those of one channel, which the TPU's compiler writes once for
  each computation that it overlaps with them.
  """
  found: collections.Counter[str] = collections.Counter()
  seen = set()
  for line in text.splitlines():
    if (kind := _COLLECTIVE.search(line)) and (channel := _CHANNEL.search(line) or [line.strip()])[0] not in seen:
      seen.add(channel[0])
      found[kind[1]] += 1
  return {kind: found[kind] for kind in _COLLECTIVES if found[kind]}


def table_line(row: Mapping[str, Any]) -> str:
  """Return what was found of a program as a line of a markdown table: names, batch, bytes, FLOPs, collectives."""
  sent = ", ".join(f"{num} {kind}" for kind, num in row["collectives"].items()) or "none"
  sizes = " | ".join(f"{row[name] / 1e6:,.2f}" for name in ("arguments", "temporary"))
  flops = "" if row["flops"] is None else f"{row['flops'] / 1e9:,.3f}"
  names = " | ".join(str(row[name]) for name in ("model", "program", "topology", "mesh", "batch"))
  return f"| {names} | {sizes} | {flops} | {sent} |"


def _kinds(program: Program) -> tuple[str, ...]:
  """Return what each argument of a program is: parameters, examples, or what every device has."""
  first = {"init": ("whole", "examples")}.get(program.name)
  if first:
    return first
  if program.name == "conditional_step":
    return ("parameters", "examples", "examples", "whole")
  return ("parameters", "whole", *("examples" if isinstance(argument, Mapping) and "x" in argument else
                                   "examples" if program.name == "complete" and index == 1 else "whole"
                                   for index, argument in enumerate(program.arguments[2:])))


def _placed(tree: Any, mesh: Mesh, kind: str) -> Any:
  """Return shapes with the shardings of their kind."""
  def place(path: tuple[Any, ...], leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = meshes.replicated(mesh)
    if kind == "parameters":
      sharding = meshes.parameter_sharding(mesh, leaf.shape, names_of(path))
    elif kind == "examples" and leaf.shape and leaf.shape[0] % meshes.batch_shards(mesh) == 0:
      sharding = meshes.batch_sharding(mesh, leading_axes=0)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree_util.tree_map_with_path(place, tree)


def _find_libtpu() -> None:
  """Let JAX find libtpu, and let libtpu look for no machine. Raise ConfigError where it is not installed."""
  if not os.environ.get("TPU_LIBRARY_PATH"):
    try:
      import libtpu  # type: ignore
    except ImportError:
      raise ConfigError("the TPU's compiler needs the package libtpu, which is not here; pip install --target=libtpu "
                        "--no-deps libtpu, and set TPU_LIBRARY_PATH=libtpu/libtpu/libtpu.so (in a folder of its own, "
                        "since JAX looks for TPUs where it is installed).") from None
    os.environ["TPU_LIBRARY_PATH"] = str(Path(str(libtpu.__file__)).parent / "libtpu.so")
  if not Path(os.environ["TPU_LIBRARY_PATH"]).is_file():
    raise ConfigError(f"TPU_LIBRARY_PATH is {os.environ['TPU_LIBRARY_PATH']!r}, but there is no such file; it must be "
                      "libtpu.so of the package libtpu.")
  for name, value in {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES":
                      "localhost", "TPU_WORKER_ID": "0", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}.items():
    os.environ.setdefault(name, value)
