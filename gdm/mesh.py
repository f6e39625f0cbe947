"""One mesh for a laptop and a pod: axes `data` and `fsdp`; a CPU is a mesh of one.

The batch is split over both axes, parameters over `fsdp` alone (on their largest axis that it divides), replay chains
over `data`; everything else is replicated.

Which rows of a batch a process serves follows from where its devices stand in the mesh (`local_rows`), never from its
number: on a TPU slice the mesh follows the wiring, so that the devices of one process need not be neighbours in it.
"""

from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from gdm import compiler
from gdm.errors import ConfigError

DATA, FSDP = "data", "fsdp"


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
  """Return a mesh over all devices, of all hosts, with axes (data, fsdp).

  Raise ConfigError unless `fsdp` divides the number of devices. Issues a CompilerWarning where this process
  miscompiles.
  """
  compiler.check(stacklevel=2)
  devices = jax.devices() if devices is None else devices
  if fsdp < 1 or len(devices) % fsdp:
    raise ConfigError(f"mesh.fsdp is {fsdp}; it must divide the number of devices, {len(devices)}.")
  # Auto and not make_mesh's default of Explicit, under which Linen modules cannot be traced.
  return jax.make_mesh((len(devices) // fsdp, fsdp), (DATA, FSDP), axis_types=(AxisType.Auto,) * 2, devices=devices)


def require_divisible(mesh: Mesh, batch_size: int, name: str) -> None:
  """Raise ConfigError unless the devices can share batches of `batch_size`, the value of the field `name`."""
  if batch_size % mesh.size:
    below = batch_size - batch_size % mesh.size
    near = f"{below} or {below + mesh.size}" if below else str(mesh.size)
    raise ConfigError(f"{name} is {batch_size}; it must be a multiple of the number of devices, {mesh.size}, which "
                      f"share each batch: {near}, say.")


def round_up(mesh: Mesh, batch_size: int) -> int:
  """Return the least batch size from `batch_size` on that the devices can share, for batches that are padded anyway."""
  return -(-batch_size // mesh.size) * mesh.size


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def parameter_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
  """Split a leaf over `fsdp` on its largest axis that it divides; replicates it where none does."""
  size = mesh.shape[FSDP]
  axes = [axis for axis, length in enumerate(shape) if size > 1 and length % size == 0]
  if not axes:
    return replicated(mesh)
  largest = max(axes, key=lambda axis: shape[axis])
  return NamedSharding(mesh, PartitionSpec(*(FSDP if axis == largest else None for axis in range(len(shape)))))


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
  if set(mesh.axis_names) != {DATA, FSDP} or mesh.axis_types != (AxisType.Auto,) * 2:
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
  return num_local * mesh.size // len(mesh.local_devices)


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
