"""One mesh for a laptop and a pod: axes `data` and `fsdp`, and where asked for `tensor`; a CPU is a mesh of one.

The batch is split over `data` and `fsdp`, replay chains over `data`, parameters by rule:

  tensor   the heads of attention and the width of two-layer networks, found by the names of layers (`LOGICAL_AXES`), so
           that each device computes its own heads and units, and activations are summed once after each of them
  fsdp     the largest axis left that it divides, of parameters of `MIN_SPLIT` numbers and more

Everything else is replicated. A small parameter is cheaper kept than gathered: each gather costs microseconds, whatever
its size.

Which rows of a batch a process serves follows from where its devices stand in the mesh (`local_rows`), never from its
number: on a TPU slice the mesh follows the wiring, so that the devices of one process need not be neighbours in it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from gdm import compiler
from gdm.errors import ConfigError

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"
# Numbers of the smallest parameter that is split over fsdp: 256 KiB of float32, which a link of 50 GB/s moves in the
# few microseconds that a gather takes anyway.
MIN_SPLIT = 1 << 16

# Layer and parameter -> which of its axes is one of heads or of hidden units, counted from the last.
LOGICAL_AXES: Mapping[tuple[str, str], int] = {
    **{(layer, name): -1 for layer in ("query", "key", "value", "expand") for name in ("kernel", "bias")},
    ("out", "kernel"): -2,
    ("contract", "kernel"): -2,
}


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None, tensor: int = 1) -> Mesh:
  """Return a mesh over all devices, of all hosts, with axes (data, fsdp), and tensor where it is above 1.

  Raise ConfigError unless `fsdp` and `tensor` divide the number of devices. Issues a CompilerWarning where this process
  miscompiles.
  """
  compiler.check(stacklevel=2)
  devices = jax.devices() if devices is None else devices
  if fsdp < 1 or len(devices) % fsdp:
    raise ConfigError(f"mesh.fsdp is {fsdp}; it must divide the number of devices, {len(devices)}.")
  if tensor < 1 or len(devices) // fsdp % tensor:
    among = f" / mesh.fsdp, {len(devices) // fsdp}" if fsdp > 1 else f", {len(devices)}"
    raise ConfigError(f"mesh.tensor is {tensor}; it must divide the number of devices{among}.")
  axes = {DATA: len(devices) // fsdp // tensor, FSDP: fsdp, **({TENSOR: tensor} if tensor > 1 else {})}
  # Auto and not make_mesh's default of Explicit, under which Linen modules cannot be traced.
  return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes), devices=devices)


def batch_shards(mesh: Mesh) -> int:
  """Return into how many parts a batch is split."""
  return mesh.shape[DATA] * mesh.shape[FSDP]


def local_shards(mesh: Mesh) -> int:
  """Return how many parts of a batch the devices of this process hold."""
  process = jax.process_index()
  return len({place[:2] for place, device in np.ndenumerate(mesh.devices) if device.process_index == process})


def require_divisible(mesh: Mesh, batch_size: int, name: str) -> None:
  """Raise ConfigError unless the devices can share batches of `batch_size`, the value of the field `name`."""
  num = batch_shards(mesh)
  if batch_size % num:
    below = batch_size - batch_size % num
    near = f"{below} or {below + num}" if below else str(num)
    raise ConfigError(f"{name} is {batch_size}; it must be a multiple of the number of devices, {num}, which "
                      f"share each batch: {near}, say.")


def round_up(mesh: Mesh, batch_size: int) -> int:
  """Return the least batch size from `batch_size` on that the devices can share, for batches that are padded anyway."""
  num = batch_shards(mesh)
  return -(-batch_size // num) * num


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def parameter_sharding(mesh: Mesh, shape: tuple[int, ...], path: Sequence[str] = ()) -> NamedSharding:
  """Return how a parameter, or an optimizer's number for each of a parameter's, is split: by the rule of this module.

  Args:
    mesh: the mesh.
    shape: of the leaf.
    path: names of the layers that it is in, and its own, as ("blocks_0", "attention", "query", "kernel").
  """
  split: list[str | None] = [None] * len(shape)
  tensor = mesh.shape.get(TENSOR, 1)
  axis = LOGICAL_AXES.get((path[-2], path[-1])) if tensor > 1 and len(path) > 1 else None
  if axis is not None and len(shape) >= -axis and shape[axis] % tensor == 0:
    split[axis] = TENSOR
  size = mesh.shape[FSDP]
  axes = [axis for axis, length in enumerate(shape) if size > 1 and length % size == 0 and split[axis] is None]
  if axes and math.prod(shape) >= MIN_SPLIT:
    split[max(axes, key=lambda axis: shape[axis])] = FSDP
  return NamedSharding(mesh, PartitionSpec(*split)) if any(split) else replicated(mesh)


def require_use(mesh: Mesh, leaves: Mapping[tuple[str, ...], tuple[int, ...]]) -> None:
  """Raise ConfigError where an axis of the mesh can split none of a model's parameters, given as path -> shape."""
  fsdp, tensor = mesh.shape[FSDP], mesh.shape.get(TENSOR, 1)
  if fsdp > 1 and not any(length % fsdp == 0 for shape in leaves.values() for length in shape):
    raise ConfigError(f"mesh.fsdp is {fsdp}, which divides no axis of any of the model's {len(leaves)} parameters; it "
                      "must divide some, or be 1.")
  if tensor > 1 and not any(TENSOR in parameter_sharding(mesh, shape, path).spec for path, shape in leaves.items()):
    raise ConfigError(f"mesh.tensor is {tensor}, but it can split no parameter of the model: it must divide the width "
                      "of attention or of the two-layer networks of a transformer; else it must be 1.")


def chain_sharding(mesh: Mesh) -> NamedSharding:
  """Split chains [shards, n, *event] over `data`."""
  return NamedSharding(mesh, PartitionSpec(DATA))


def batch_sharding(mesh: Mesh, leading_axes: int) -> NamedSharding:
  """Split the example axis, which follows `leading_axes` unsplit ones (steps, minibatches)."""
  return NamedSharding(mesh, PartitionSpec(*[None] * leading_axes, (DATA, FSDP)))


def constrain_batch(x: Array) -> Array:
  """Keep the examples of an activation [batch, ...] where those of the batch are; nothing without a mesh in context.

  Without it the compiler may follow parameters that are split over `fsdp`, and move activations instead of them.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not {DATA, FSDP} <= set(mesh.axis_names) <= {DATA, FSDP, TENSOR} or set(mesh.axis_types) != {AxisType.Auto}:
    return x
  return jax.lax.with_sharding_constraint(x, PartitionSpec((DATA, FSDP), *[PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)))


def local_rows(mesh: Mesh, batch_size: int) -> Int[np.ndarray, " rows"]:
  """Return which rows of a batch of `batch_size` the devices of this process hold, in ascending order.

  Raise ConfigError where the mesh has no device of this process.
  """
  places = batch_sharding(mesh, leading_axes=0).addressable_devices_indices_map((batch_size,))
  if not places:
    raise ConfigError(f"the mesh of {mesh.size} devices has none of process {jax.process_index()}; every process must "
                      "have a part in it.")
  return np.unique(np.concatenate([np.arange(batch_size)[index] for index in places.values()]))


def whole_batch_size(mesh: Mesh, num_local: int) -> int:
  """Return the size of the batch of which this process serves `num_local` rows."""
  return num_local * batch_shards(mesh) // local_shards(mesh)


def put_batch(batch: Any, sharding: NamedSharding) -> Any:
  """Places host arrays, each process's own rows of the batch, as one global batch.

  Args:
    batch: arrays whose example axis, the one that `sharding` splits, holds the rows that `local_rows` names, in order.
    sharding: of `batch_sharding`.
  """
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)
  return jax.tree.map(lambda x: _put_rows(np.asarray(x), sharding), batch)


def _put_rows(x: np.ndarray, sharding: NamedSharding) -> Array:
  axis, mesh = len(sharding.spec) - 1, cast(Mesh, sharding.mesh)
  num = whole_batch_size(mesh, x.shape[axis])
  rows = local_rows(mesh, num)

  def shard(index: Any) -> np.ndarray:
    start, stop, _ = index[axis].indices(num)
    first = int(np.searchsorted(rows, start))
    return x[(*index[:axis], slice(first, first + stop - start))]

  return jax.make_array_from_callback((*x.shape[:axis], num, *x.shape[axis + 1:]), sharding, shard)


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Places arrays, the same on each process, on every device of the mesh."""
  sharding = replicated(mesh)
  if jax.process_count() == 1:
    return jax.device_put(tree, sharding)
  return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, np.asarray(x).__getitem__), tree)


def shard_bytes(tree: Any) -> int:
  """Bytes that the arrays of `tree` take on one device: of each, its largest shard."""
  return sum(int(np.prod(leaf.sharding.shard_shape(leaf.shape), dtype=np.int64)) * leaf.dtype.itemsize
             for leaf in jax.tree.leaves(tree))
