"""One mesh for a laptop and a pod: axes `data` and `fsdp`; a CPU is a mesh of one.

The batch is split over both axes, parameters over `fsdp` alone (on their largest axis that it divides), replay chains
over `data`; everything else is replicated.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gdm.errors import ConfigError
from gdm.model import PyTree

DATA, FSDP = "data", "fsdp"


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
  """A mesh over all devices with axes (data, fsdp). Raises ConfigError unless `fsdp` divides the device count."""
  devices = jax.devices() if devices is None else devices
  if fsdp < 1 or len(devices) % fsdp:
    raise ConfigError(f"mesh.fsdp is {fsdp}, which does not divide the {len(devices)} devices.")
  # Auto and not make_mesh's default of Explicit, under which Linen modules cannot be traced.
  return jax.make_mesh((len(devices) // fsdp, fsdp), (DATA, FSDP), axis_types=(AxisType.Auto,) * 2, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def parameter_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
  """Splits a leaf over `fsdp` on its largest axis that it divides; replicates it where none does."""
  size = mesh.shape[FSDP]
  axes = [axis for axis, length in enumerate(shape) if size > 1 and length % size == 0]
  if not axes:
    return replicated(mesh)
  largest = max(axes, key=lambda axis: shape[axis])
  return NamedSharding(mesh, PartitionSpec(*(FSDP if axis == largest else None for axis in range(len(shape)))))


def chain_sharding(mesh: Mesh) -> NamedSharding:
  """Splits chains [shards, n, *event] over `data`."""
  return NamedSharding(mesh, PartitionSpec(DATA))


def batch_sharding(mesh: Mesh, leading_axes: int) -> NamedSharding:
  """Splits the example axis, which follows `leading_axes` unsplit ones (steps, minibatches)."""
  return NamedSharding(mesh, PartitionSpec(*[None] * leading_axes, (DATA, FSDP)))


def put_batch(batch: PyTree, sharding: NamedSharding) -> PyTree:
  """Places host arrays, each process's own slice of the batch, as one global batch."""
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)
