"""Weights alone, in a file that others read: safetensors with parameters and carry, and nothing of a training run.

Leaves are named by their path, "params/<group>/..." and "carry/...", with list places as numbers; every array is as it
was, bit for bit. A digest of all arrays and strings tells a file that was changed since. The file holds no code and
none is run by reading it; `safetensors.numpy.load_file` reads it without this package, `load_weights` without JAX.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes  # noqa: F401, makes bfloat16 a type that NumPy knows
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gdm.errors import CheckpointError
from gdm.paths import is_local

if TYPE_CHECKING:
  from gdm.model import Carry, Params, PyTree

FORMAT = 1
_MARK = "gdm_format"
_DIGEST = "digest"
_PARTS = ("params", "carry")


def save_weights(path: str | os.PathLike, params: "Params", carry: "Carry", metadata: Mapping[str, str]) -> None:
  """Write parameters and carry, whole or not at all; only a file that this function wrote is overwritten.

  Args:
    path: the file.
    params: parameter group -> parameters, floating or integer leaves of any shape; every shard must be on this host.
    carry: the non-parameter state.
    metadata: what to tell about them; strings, to be found beside the arrays.

  Raises:
    CheckpointError: the file cannot be written, or another one lies there.
  """
  import jax  # here, since reading does without

  path = Path(path)
  leaves = {jax.tree_util.keystr(place, simple=True, separator="/"): np.asarray(leaf, order="C")
            for place, leaf in jax.tree_util.tree_leaves_with_path({"params": params, "carry": carry})}
  if fault := None if is_local(os.fspath(path)) else "it is no path of this machine":
    raise CheckpointError(f"{path} cannot be written: {fault}.")
  if path.exists() and (not path.is_file() or _MARK not in _metadata_of(path)):
    raise CheckpointError(f"{path} exists and is no weights of gdm; name another file.")
  partial = path.with_name(f".{path.name}.partial")
  try:
    partial.touch()
    mode = partial.stat().st_mode  # by the umask; safetensors makes a file of its own, for its owner alone
    about = {**metadata, _MARK: str(FORMAT)}
    save_file(leaves, partial, {**about, _DIGEST: _digest(leaves, about)})
    partial.chmod(mode)
    partial.replace(path)
  except (OSError, SafetensorError) as error:
    with contextlib.suppress(OSError):
      partial.unlink()
    reason = getattr(error, "strerror", None) or str(error).rpartition("I/O error: ")[2].split(" (os error")[0]
    raise CheckpointError(f"{path} cannot be written: {reason}.") from error


def load_weights(path: str | os.PathLike, like: "tuple[Params, Carry] | None" = None
                 ) -> "tuple[Params, Carry, dict[str, str]]":
  """Parameters, carry and metadata of a file of `save_weights`; the arrays are NumPy's.

  Args:
    path: the file.
    like: (params, carry) of arrays or shapes, say of `jax.eval_shape(model.init, ...)`: the structure wanted. Without
      it both are nested dicts, in which a list is a dict by place, and a group without leaves is absent.

  Raises:
    CheckpointError: the file is missing, cut, damaged or no safetensors, of a newer format, was changed since it was
      written, or has leaves of other names, shapes or dtypes than `like`.
  """
  path = Path(path)
  metadata = read_metadata(path)
  with _reading(path), safe_open(path, framework="np") as file:
    leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
  written = metadata.pop(_DIGEST, None)
  if written not in (None, _digest(leaves, metadata)):
    raise CheckpointError(f"{path} was changed since it was written: its digest is another; export the run again.")
  if like is None:
    tree = _nested(leaves)
    return tree.get("params", {}), tree.get("carry", {}), metadata
  params, carry = _as_like(path, leaves, like)
  return params, carry, metadata


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
  """Return the strings beside the weights in a file, without reading these.

  Raise CheckpointError where the file is missing, no safetensors, or not of this format.
  """
  with _reading(path), safe_open(path, framework="np") as file:
    metadata = dict(file.metadata() or {})
  version = metadata.get(_MARK, "none")
  if not version.isdigit() or int(version) > FORMAT:
    raise CheckpointError(f"{path} has {_MARK} {version}; this version reads up to {FORMAT}. "
                          + ("Update gdm." if version.isdigit() else "It is no weights of gdm."))
  return metadata


@contextlib.contextmanager
def _reading(path: str | os.PathLike) -> Iterator[None]:
  try:
    yield
  except (OSError, SafetensorError) as error:
    raise CheckpointError(f"{path} cannot be read: {_reason(Path(path), error)}.") from error


def _digest(leaves: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
  """Return the sha256, in hex digits, of all arrays and strings with their names."""
  digest = hashlib.sha256()
  for name, text in sorted(metadata.items()):
    digest.update(f"{name}\0{text}\0".encode())
  for name, leaf in sorted(leaves.items()):
    digest.update(f"{name} {leaf.dtype} {leaf.shape} ".encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()


def _metadata_of(path: Path) -> Mapping[str, str]:
  """Return the metadata of a file, none where it is no safetensors."""
  try:
    with safe_open(path, framework="np") as file:
      return file.metadata() or {}
  except (OSError, SafetensorError):
    return {}


def _reason(path: Path, error: Exception) -> str:
  if isinstance(error, OSError):
    return "it does not exist" if not path.exists() else "it is a folder" if path.is_dir() else str(error)
  return f"it is no safetensors file, or was cut or damaged ({str(error).rpartition(': ')[2]})"


def _nested(leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Flat names as nested dicts."""
  tree: dict[str, Any] = {}
  for name, leaf in leaves.items():
    *folders, last = name.split("/")
    place = tree
    for folder in folders:
      place = place.setdefault(folder, {})
    place[last] = leaf
  return tree


def _as_like(path: Path, leaves: Mapping[str, np.ndarray], like: "tuple[PyTree, PyTree]") -> tuple[Any, Any]:
  """Return the leaves in the structure of (params, carry)."""
  import jax

  places, structure = jax.tree_util.tree_flatten_with_path(dict(zip(_PARTS, like, strict=True)))
  wanted = {jax.tree_util.keystr(place, simple=True, separator="/"): leaf for place, leaf in places}
  faults = [f"{name} is missing" for name in wanted if name not in leaves]
  faults += [f"{name} is not part of this model" for name in leaves if name not in wanted]
  faults += [f"{name} is {leaves[name].dtype}{list(leaves[name].shape)} there, {leaf.dtype}{list(leaf.shape)} here"
             for name, leaf in wanted.items()
             if name in leaves and (leaves[name].shape, leaves[name].dtype) != (tuple(leaf.shape), leaf.dtype)]
  if faults:
    more = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
    raise CheckpointError(f"{path} holds the weights of another model: {'; '.join(faults[:5])}{more}.")
  tree = jax.tree.unflatten(structure, [leaves[name] for name in wanted])
  return tree["params"], tree["carry"]
