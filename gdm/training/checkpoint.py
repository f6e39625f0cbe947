"""Checkpoints one can trust: Orbax behind a thin wrapper that verifies what Orbax does not.

Orbax commits a step atomically, but does not notice flipped bits, casts a changed dtype silently, and can commit what
it cannot read. So after the commit every array is read back, and then a manifest of file digests is written into the
step's folder; restoring verifies it and falls back to the newest step that is whole. A committed step without a
manifest died between commit and manifest and counts as damaged.

Of several processes all call the same methods in the same order; they share the directory, and the first one verifies,
seals and deletes for all.
"""

import contextlib
import hashlib
import json
import logging
import math
import platform
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gdm.errors import CheckpointError, NotFiniteError
from gdm.model import PyTree
from gdm.paths import fault_of_folder
from gdm.storage import Mirror
from gdm.training import hosts
from gdm.version import version

FORMAT = 1
_logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"
_DELETING = "deleting-"
_STORAGE_MARKS = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "os_error_code", "OS error")


class RestoredState(NamedTuple):
  """A restored state, the step it is of, and what was stored beside it."""

  state: PyTree
  step: int
  meta: dict[str, Any]


class Checkpointer:
  """Saves and restores states under one directory, one folder per step."""

  def __init__(self, directory: Path, keep: int | None = None, after: "Checkpointer | None" = None,
               mirror: Mirror | None = None):
    """Open `directory` for writing, clearing saves that died.

    Args:
      directory: where the steps are.
      keep: how many of the newest steps are kept; all by default.
      after: another whose save under way must be whole before one of these counts, since these refer to it.
      mirror: the bucket that `directory` is a local copy of: a save is then sealed there too, and deletions are done
        there too.

    Raise CheckpointError where checkpoints in such a folder could not be read back.
    """
    require_usable(directory)
    self._directory = directory.absolute()
    # A bucket's local copy is the first process's alone, which then saves what it gathers from all.
    self._apart = mirror is not None and jax.process_count() > 1
    self._manager = self._open_manager() if hosts.is_first() or not self._apart else None
    self._keep, self._after, self._mirror = keep, after, mirror
    self._unverified: int | None = None
    self._sealing: Future[None] | None = None
    # Digests and deletions take as long as the files are large, and must not hold up the loop.
    self._aside = ThreadPoolExecutor(1, "checkpoint")

  def _open_manager(self) -> ocp.CheckpointManager:
    """Return Orbax's manager, after deleting what a kill left half deleted."""
    if hosts.is_first():
      for leftover in self._directory.glob(_DELETING + "*"):
        shutil.rmtree(leftover)
    # Barriers of two managers that save at the same time need names of their own.
    names = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=self._directory.name,
                                               active_processes={0} if self._apart else None)
    if self._apart:  # Orbax makes folders for all processes only
      self._directory.mkdir(parents=True, exist_ok=True)
    # Orbax would delete the oldest step when the newest is committed, which is before it has its manifest.
    options = ocp.CheckpointManagerOptions(max_to_keep=None, create=not self._apart, cleanup_tmp_directories=True,
                                           multiprocessing_options=names)
    return ocp.CheckpointManager(self._directory, options=options)

  def save(self, step: int, state: PyTree, meta: Mapping[str, Any]) -> None:
    """Save in the background; `poll`, `finish` or the next `save` seals it with its manifest.

    Raises:
      NotFiniteError: a leaf of the state is NaN or infinite; what was saved before stays.
      CheckpointError: it or the save before cannot be written; what was saved before stays.
    """
    if step == self._unverified:
      return  # the same step of the same run is the same state
    self.finish()
    if step in self.steps():
      return
    leaves = flatten(state)
    require_finite_state(leaves, step)
    record = {**meta, "format": FORMAT, "step": step, "versions": versions(),
              "leaves": {name: describe(leaf) for name, leaf in leaves.items()}}
    if self._apart:
      leaves = {name: hosts.gathered(leaf) for name, leaf in leaves.items()}
    with _storage_errors(self._directory / str(step)):
      if self._manager is not None:
        self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(leaves),
                                                         meta=ocp.args.JsonSave(record)))
    self._unverified = step

  @property
  def is_busy(self) -> bool:
    """Whether a save is not sealed yet, one's own or one that it comes after."""
    return self._unverified is not None or (self._after is not None and self._after.is_busy)

  def poll(self) -> None:
    """Seal in the background a save that has ended meanwhile; a kill from then on loses nothing before it."""
    if self._unverified is None or (self._manager is not None and self._manager.is_saving_in_progress()):
      return
    if self._sealing is None and not (self._after is not None and self._after.is_busy):
      self._sealing = self._aside.submit(self._seal, self._unverified)
    elif self._sealing is not None and self._sealing.done() and jax.process_count() == 1:
      self.finish()  # of several processes, others may still be at it, and this must not wait for them

  def finish(self) -> None:
    """Wait for a save under way, write its manifest, and only then delete the steps too many.

    Raises:
      CheckpointError: it could not be written; what was saved before stays.
    """
    step, self._unverified = self._unverified, None
    sealing, self._sealing = self._sealing, None
    if self._after is not None and step is not None:
      self._after.finish()
    with _storage_errors(self._directory / str(step)):
      if self._manager is not None:
        self._manager.wait_until_finished()
      if step is not None:
        (sealing or self._aside.submit(self._seal, step)).result()
        hosts.barrier(f"sealed {step}")
    if step is not None and self._keep is not None:
      self.retain(self.steps()[-self._keep:])

  def _seal(self, step: int) -> None:
    if hosts.is_first():
      require_readable(self._directory, step)
      write_manifest(self._directory / str(step))
      if self._mirror is not None:
        self._mirror.push_step(self._directory / str(step))

  def steps(self) -> list[int]:
    """Return the committed steps, ascending; all processes must ask."""
    return hosts.from_first(self._list) if self._apart else self._list()

  def _list(self) -> list[int]:
    return list_steps(self._directory)

  def set_aside_damaged(self) -> None:
    """Move steps that do not match their manifest out of the way, into a folder `damaged` beside this one."""
    for step in self._list() if hosts.is_first() else ():
      if find_fault(self._directory / str(step)) is not None:
        target = self._directory.parent / "damaged" / f"{self._directory.name}-{step}"
        while target.exists():
          target = target.with_name(target.name + "+")
        target.parent.mkdir(exist_ok=True)
        (self._directory / str(step)).rename(target)
    hosts.barrier("damaged set aside")
    self._reload()

  def _reload(self) -> None:
    if self._manager is not None:
      self._manager.reload()

  def retain(self, wanted: Collection[int]) -> None:
    """Delete the steps that are not in `wanted`. Raise CheckpointError where it cannot."""
    self.finish()
    steps = self.steps()
    unwanted = [step for step in steps if step not in wanted]
    hosts.barrier("steps to retain chosen")
    for step in unwanted if hosts.is_first() else ():
      folder = self._directory / str(step)
      with _storage_errors(folder):
        # Renamed first: a kill while files are deleted must not leave half a step under its number.
        doomed = folder.rename(self._directory / f"{_DELETING}{step}")
      # What it cannot delete, the next run will.
      self._aside.submit(shutil.rmtree, doomed, ignore_errors=True)
    if self._mirror is not None and hosts.is_first():  # also what a save that died has left there
      self._aside.submit(self._mirror.keep_steps, self._directory.name, [step for step in steps if step in wanted])
    hosts.barrier("steps retained")
    if unwanted and steps[-1] in unwanted:  # Orbax refuses steps before the last one it knows
      with _storage_errors(self._directory / str(unwanted[0])):
        self._reload()

  def close(self) -> None:
    try:
      self.finish()
    finally:
      self._aside.shutdown()
    if self._manager is not None:
      self._manager.close()


@contextlib.contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
  """Turn the storage's refusals into a CheckpointError.

  TensorStore and Orbax say it by ValueErrors of many texts, of which RuntimeErrors may follow; nothing else in a save
  raises these, so that all of them count.
  """
  try:
    yield
  except (OSError, ValueError, RuntimeError) as error:
    reason = _storage_reason(error) if folder.parent.is_dir() else "No such file or directory"
    raise CheckpointError(f"checkpoint {folder} cannot be written: {reason}; what was saved before stays.") from error


def _storage_reason(error: BaseException) -> str:
  """Return the storage's message, in the first of the chained errors that comes from it; else the last one's."""
  link: BaseException | None = error
  while link is not None:
    if isinstance(link, OSError) or any(mark in str(link) for mark in _STORAGE_MARKS):
      return getattr(link, "strerror", None) or str(link).rsplit(": ", 1)[-1].split(" [")[0]
    link = link.__cause__ or link.__context__
  # Orbax looks for what it has just written, and describes at length what it does not find.
  return str(error).partition("\n")[0].partition(". ")[0][:120]


def list_steps(directory: Path) -> list[int]:
  """Return the committed steps under `directory`, ascending."""
  return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit() and path.is_dir())


def newest_good_step(directory: Path) -> int | None:
  """Return the newest step whose files match its manifest, None where there is none; warns about each damaged one."""
  for step in reversed(list_steps(directory)):
    fault = find_fault(directory / str(step))
    if fault is None:
      return step
    _logger.warning("Checkpoint %s is damaged (%s); falling back to the one before.", directory / str(step), fault)
  return None


def read_meta(directory: Path, step: int) -> dict[str, Any]:
  """Return the record stored beside the state of `step`. Raise CheckpointError when it is of a newer format."""
  try:
    meta = json.loads((directory / str(step) / "meta" / "metadata").read_text())
  except FileNotFoundError:  # a run under way has deleted it
    raise
  except (OSError, ValueError) as error:
    reason = error.strerror if isinstance(error, OSError) else "it is not valid JSON"
    raise CheckpointError(f"checkpoint {directory / str(step)} cannot be read: {reason}.") from error
  if meta["format"] > FORMAT:
    raise CheckpointError(f"checkpoint {directory / str(step)} has format {meta['format']}; this version reads up to "
                          f"{FORMAT}: update gdm.")
  return meta


def require_usable(directory: Path) -> None:
  """Raise CheckpointError where checkpoints in a folder could not be read back, because of its path."""
  if fault := fault_of_folder(directory):
    raise CheckpointError(f"checkpoints cannot lie in {directory.absolute()}, {fault}")


def require_readable(directory: Path, step: int) -> None:
  """Read every array of a committed step, some at a time, and drop it.

  Raise CheckpointError where one cannot be read, or has another shape or dtype than it was saved with.
  """
  folder, me = directory.absolute() / str(step), jax.process_index()
  alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
  reader = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
  for group in _in_groups(read_meta(directory, step)["leaves"]):
    like = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in group.items()}
    kinds = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in like}
    try:
      read = reader.restore(folder / "state", args=ocp.args.PyTreeRestore(like, restore_args=kinds,
                                                                          partial_restore=True))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
      raise CheckpointError(f"checkpoint {folder} was written, but cannot be read back: {_storage_reason(error)}; "
                            "what was saved before stays.") from error
    if wrong := [name for name in group if describe(read[name]) != group[name]]:
      raise CheckpointError(f"checkpoint {folder} was written, but {wrong[0]} is read back as "
                            f"{describe(read[wrong[0]])} where {group[wrong[0]]} was saved; what was saved before "
                            "stays.")


def _in_groups(leaves: Mapping[str, list[Any]], most_bytes: int = 1 << 28) -> Iterator[dict[str, list[Any]]]:
  """Return the leaves, name -> [shape, dtype], in groups that take about so many bytes each."""
  group: dict[str, list[Any]] = {}
  size = 0
  for name, (shape, dtype) in leaves.items():
    num = math.prod(shape) * jnp.dtype(dtype).itemsize
    if group and size + num > most_bytes:
      yield group
      group, size = {}, 0
    group[name] = [shape, dtype]
    size += num
  if group:
    yield group


def restore(directory: Path, step: int, like: PyTree, partial: bool = False) -> RestoredState:
  """Return the state of `step`, placed as `like` (arrays or ShapeDtypeStructs with shardings) is, on whatever mesh
  that is.

  Args:
    directory: where the steps are.
    step: which one.
    like: the structure wanted.
    partial: whether the checkpoint may hold more leaves than `like`, which are then not read.

  Raises:
    CheckpointError: the step is damaged, its leaves have other names, shapes or dtypes than `like`, or Orbax does not
      take its folder's path literally.
  """
  require_usable(directory)
  hosts.from_first(lambda: require_whole(directory, step))
  meta = read_meta(directory, step)
  wanted = flatten(like)
  saved = {name: leaf for name, leaf in meta["leaves"].items() if name in wanted or not partial}
  _require_same_leaves(saved, {name: describe(leaf) for name, leaf in wanted.items()})
  targets = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
             for name, leaf in wanted.items()}
  restore_args = ocp.checkpoint_utils.construct_restore_args(targets)
  with ocp.PyTreeCheckpointer() as reader:
    leaves = reader.restore(directory.absolute() / str(step) / "state",
                            args=ocp.args.PyTreeRestore(targets, restore_args=restore_args, partial_restore=True))
  return RestoredState(jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in wanted]), step, meta)


def flatten(tree: PyTree) -> dict[str, Any]:
  """Leaves by their path, in the tree's order: names that errors can speak and that do not depend on Python types."""
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def describe(leaf: Any) -> list[Any]:
  return [list(leaf.shape), str(leaf.dtype)]


@jax.jit
def _all_finite(leaves: list[jax.Array]) -> list[jax.Array]:
  return [jnp.all(jnp.isfinite(leaf)) for leaf in leaves]


def require_finite_state(leaves: Mapping[str, jax.Array], step: int) -> None:
  """Raise NotFiniteError naming the first floating-point leaf with a NaN or an infinity."""
  floats = {name: leaf for name, leaf in leaves.items() if jnp.issubdtype(leaf.dtype, jnp.floating)}
  for name, finite in zip(floats, jax.device_get(_all_finite(list(floats.values()))), strict=True):
    if not finite:
      raise NotFiniteError(f"{name} is NaN or infinite after step {step}; this state is not saved.")


def write_manifest(folder: Path) -> None:
  """Write the digest of every file below `folder`, atomically."""
  digests = {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
  temporary = folder / (MANIFEST + ".tmp")
  temporary.write_text(json.dumps(digests))
  temporary.replace(folder / MANIFEST)


def require_whole(directory: Path, step: int) -> None:
  """Raise CheckpointError unless every file of `step` matches the manifest."""
  fault = find_fault(directory / str(step))
  if fault is not None:
    raise CheckpointError(f"checkpoint {directory / str(step)} is damaged: {fault}.")


def find_fault(folder: Path) -> str | None:
  """Return what is wrong with a checkpoint folder, None when every file matches its digest."""
  try:
    digests = json.loads((folder / MANIFEST).read_text())
  except FileNotFoundError:
    return "it has no manifest, so its save did not end" if folder.exists() else "it does not exist"
  except (OSError, ValueError):
    return "its manifest is unreadable"
  if not isinstance(digests, dict) or not digests:
    return "its manifest is unreadable"
  for name, digest in digests.items():
    try:
      if _digest(folder / name) != digest:
        return f"{name} does not match its digest"
    except FileNotFoundError:
      return f"{name} is missing"
    except OSError as error:
      return f"{name} cannot be read: {error.strerror}"
  return None


def versions() -> dict[str, str]:
  """Return the versions that may matter to a reader of the file."""
  packages = ("jax", "flax", "optax", "orbax-checkpoint")
  return {"python": platform.python_version(), "gdm": version(), **{name: metadata.version(name) for name in packages}}


def _digest(path: Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _require_same_leaves(saved: Mapping[str, list], wanted: Mapping[str, list]) -> None:
  faults = [f"{name} is missing" for name in wanted if name not in saved]
  faults += [f"{name} is not part of this model" for name in saved if name not in wanted]
  faults += [f"{name} is {saved[name][1]}{saved[name][0]} there, {wanted[name][1]}{wanted[name][0]} here"
             for name in wanted if name in saved and saved[name] != wanted[name]]
  if faults:
    more = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
    raise CheckpointError(f"the checkpoint is of another model: {'; '.join(faults[:5])}{more}.")
