"""Descriptions of a run in words: its parameters, and where its bytes lie."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gdm import mesh as meshes
from gdm.training.state import TrainState

MAX_ROWS = 24


def parameter_table(params: Mapping[str, Any], max_rows: int = MAX_ROWS) -> str:
  """One aligned line per leaf, or per module where there are more than `max_rows` leaves: name, shape, dtype, count.

  Numbers in names count as numbers, so that layer_2 stands before layer_10. A leaf split over devices shows
  the shape of its largest shard too.
  """
  paths = [([str(jax.tree_util.keystr((key,), simple=True)) for key in path], leaf)
           for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
  paths.sort(key=lambda item: [_natural(part) for part in item[0]])
  depth = max((len(path) for path, _ in paths), default=0)
  while depth > 1 and len({tuple(path[:depth]) for path, _ in paths}) > max_rows:
    depth -= 1
  groups = defaultdict(list)
  for path, leaf in paths:
    groups["/".join(path[:depth])].append(leaf)
  total = sum(leaf.size for _, leaf in paths)
  rows = [("parameters", "shape", "dtype", "number", "share")]
  for name, leaves in groups.items():
    size = sum(leaf.size for leaf in leaves)
    shape = _shape(leaves[0]) if len(leaves) == 1 else f"{len(leaves)} arrays"
    dtypes = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
    rows.append((name, shape, dtypes, f"{size:,}", f"{100 * size / max(total, 1):.1f} %"))
  rows.append(("all", "", "", f"{total:,}", ""))
  return _align(rows)


def memory_line(state: TrainState, temporary_bytes: int | None) -> str:
  """Bytes of each part of the state on one device, and of a step beyond it."""
  parts = {"parameters": state.params, "optimizer": state.opt_state, "averages": state.ema, "carry": state.carry}
  sizes = {name: meshes.shard_bytes(tree) for name, tree in parts.items()}
  if temporary_bytes is not None:
    sizes["temporaries"] = temporary_bytes
  return f"{quantity(sum(sizes.values()))}B per device: " + ", ".join(
      f"{name} {quantity(size)}B" for name, size in sizes.items() if size)


def mesh_line(mesh: Mesh) -> str:
  """Return the mesh in words."""
  device = mesh.devices.flat[0]
  axes = " x ".join(f"{name}={size}" for name, size in mesh.shape.items())
  processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
  return f"mesh {axes}: {mesh.size} device{'s' * (mesh.size > 1)} ({device.device_kind}){processes}"


def quantity(value: float | int) -> str:
  """Three significant digits with an SI prefix, and a space: 1234567 -> "1.23 M"."""
  for prefix in ("", "k", "M", "G", "T", "P"):
    if abs(value) < 999.5 or prefix == "P":
      break
    value /= 1000
  return f"{value:.3g} {prefix}"


def _natural(name: str) -> list[tuple[int, int | str]]:
  """Return a key that sorts names by their numbers."""
  return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _shape(leaf: Any) -> str:
  shape, shard = "x".join(map(str, leaf.shape)), leaf.shape
  if isinstance(leaf, jax.Array):
    shard = leaf.sharding.shard_shape(leaf.shape)
  return shape if tuple(shard) == tuple(leaf.shape) else f"{shape}, {'x'.join(map(str, shard))} on each device"


def _align(rows: Sequence[tuple[str, ...]]) -> str:
  widths = np.max([[len(cell) for cell in row] for row in rows], axis=0)
  return "\n".join("  ".join(cell.rjust(width) if column > 2 else cell.ljust(width)
                             for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
                   for row in rows)
