"""Arrays of npy and npz files that are too large for memory: mapped, and read a batch at a time.

An npy file, and an npz file whose arrays np.savez stored without compression, hold arrays byte by byte, so that they
can be mapped. From `MAPPED_FROM` bytes on they are: arrays train, valid and test, or x alone (arr_0, or an npy's one
array), which the rule of gdm/data/partition.py splits, with labels where there are any; levels, classes and names that
are nearly ours follow the rules of arrays.py. What changes every value is refused: folds, sequences with lengths,
contexts and prefixes, images of another layout, and types that are not served as they are (float64).
A pass over the file checks the range of integers and hashes examples; the file's own checksums are not verified.
"""

import functools
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gdm.data import cache, partition
from gdm.data.dataset import MOST_LEVELS, SPLITS, Dataset, smallest_dtype
from gdm.data.sources.arrays import LAYOUTS, count_classes, declared_number, refuse_near_misses, require_labels
from gdm.data.sources.request import Request
from gdm.data.split import DiskSplit, Indices, Rows, Split
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError

MAPPED_FROM = 2 << 30  # bytes of a file
_OPTIONS = ("layout", *partition.OPTIONS)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_WHOLE = ("x", "arr_0")
_MEMORY_ONLY = ("length", "context", "fold")
_CHUNK = 1 << 24  # bytes that a pass looks at together


def is_mapped(path: Path) -> bool:
  """Return whether a file is so large that its arrays are mapped."""
  return path.is_file() and path.stat().st_size >= MAPPED_FROM


def load(request: Request) -> Dataset:
  """Return the set in an npy or npz file, on disk.

  Raise DataError for arrays that are compressed, missing, or of another kind than can be served as they are, and
  ConfigError for options that these cannot have.
  """
  path = Path(request.argument)
  where = f"{request.kind} file {path}, of {path.stat().st_size / 2**30:.1f} GiB and so left on disk"
  for option in (option for option in request.options if option not in _OPTIONS):
    raise ConfigError(f"data.name: option {option} of {request.kind} is for arrays in memory, but this is {where}; "
                      "take it away, or prepare a smaller file.")
  arrays = map_arrays(path, where)
  refuse_near_misses(arrays, where)
  _refuse_parts(arrays, where)
  xs = {name: arrays[name] for name in SPLITS if name in arrays}
  is_whole = "train" not in xs
  if is_whole:
    found = next((name for name in _WHOLE if name in arrays), None)
    if found is None:
      raise DataError(f"{where} has neither train nor x; it has {', '.join(sorted(arrays)) or 'nothing'}.")
    xs = {"train": arrays[found]}
  _check_types(xs, where)
  layout = LAYOUTS[request.choice("layout", ("auto", "arrays"), "auto")]
  xs = {name: layout(x, f"{where}, array {name!r}") for name, x in xs.items()}
  ys = _labels(arrays, xs, is_whole, where)
  # The splits that say how many levels and classes there are, as in arrays.py.
  basis = ("train",) if "valid" in xs else tuple(xs)
  levels, why = _levels(arrays, xs, basis, where)
  num_classes = count_classes(arrays, ys, basis, where)
  splits, rule = _splits(path, xs, {name: y.astype(np.int32) for name, y in ys.items()}, levels, request, where)
  spec = DataSpec(xs["train"].shape[1:], levels, num_classes)
  return Dataset(f"{request.kind}:{path.stem}", spec, splits,
                 {"source": str(path), "levels": why, "split": rule, "in_memory": False})


def _refuse_parts(arrays: Mapping[str, np.ndarray], where: str) -> None:
  """Raise a DataError for an array that a smaller file would be read by: without it the data would be others."""
  of_splits = {f"{split}_{part}" for split in SPLITS for part in _MEMORY_ONLY}
  for name in sorted(arrays.keys() & {*_MEMORY_ONLY, *of_splits}):
    raise DataError(f"{where}, has an array {name!r}, which is read of files in memory alone; write a file without it, "
                    f"or a file below {MAPPED_FROM / 2**30:g} GiB.")


def _labels(arrays: Mapping[str, np.ndarray], xs: Mapping[str, np.ndarray], is_whole: bool, where: str
            ) -> dict[str, np.ndarray]:
  """Return the labels of each split; {} without any."""
  names = {"train": next((name for name in ("label", "y") if name in arrays), "label")} if is_whole else {
      split: f"{split}_label" for split in xs}
  if missing := [name for name in names.values() if name not in arrays]:
    if len(missing) < len(names):
      raise DataError(f"{where}, has no array {missing[0]!r}; all splits need labels, or none.")
    return {}
  return {split: require_labels(arrays[name], len(xs[split]), f"{where}, array {name!r}")
          for split, name in names.items()}


def map_arrays(path: Path, where: str) -> dict[str, np.ndarray]:
  """Return the arrays of an npy or npz file, mapped. Raise DataError where they are damaged, compressed or objects."""
  try:
    if path.suffix == ".npy":
      return {"x": np.load(path, mmap_mode="r", allow_pickle=False)}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
      return {member.filename.removesuffix(".npy"): _map_member(path, archive, file, member, where)
              for member in archive.infolist()}
  except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
    raise DataError(f"{where}, cannot be read: {error}; write numbers by np.save or np.savez.") from error


def _map_member(path: Path, archive: zipfile.ZipFile, file, member: zipfile.ZipInfo, where: str) -> np.ndarray:
  if member.compress_type != zipfile.ZIP_STORED:
    raise DataError(f"{where}: array {member.filename.removesuffix('.npy')!r} is compressed and cannot be mapped; "
                    "write the file by np.savez, not by np.savez_compressed.")
  with archive.open(member) as opened:
    version = np.lib.format.read_magic(opened)
    shape, is_fortran, dtype = _HEADERS[version](opened)
    header = opened.tell()
  if dtype.hasobject or is_fortran:
    raise DataError(f"{where}: array {member.filename.removesuffix('.npy')!r} has Python objects, or its first axis "
                    "last; save numbers in C order.")
  file.seek(member.header_offset + 26)  # the local header's own lengths of name and extra field
  lengths = np.frombuffer(file.read(4), "<u2")
  start = member.header_offset + 30 + int(lengths.sum()) + header
  if not shape:
    return np.asarray(np.fromfile(path, dtype, 1, offset=start)).reshape(())
  return np.memmap(path, dtype, "r", start, shape)


def _check_types(xs: Mapping[str, np.ndarray], where: str) -> None:
  first = xs["train"] if "train" in xs else next(iter(xs.values()))
  for name, x in xs.items():
    if x.dtype.kind not in "buif" or x.dtype == np.float64 or x.ndim < 2 or 0 in x.shape:
      raise DataError(f"{where}: array {name!r} has dtype {x.dtype} and shape {x.shape}; it must be [N, ...], of "
                      "integers or float32, which are served as they are.")
    if x.shape[1:] != first.shape[1:] or (x.dtype.kind == "f") != (first.dtype.kind == "f"):
      raise DataError(f"{where}: array {name!r} has dtype {x.dtype} and examples of shape {x.shape[1:]}, another has "
                      f"{first.dtype} and {first.shape[1:]}; all splits must agree.")


def _levels(arrays: Mapping[str, np.ndarray], xs: Mapping[str, np.ndarray], basis: Sequence[str], where: str
            ) -> tuple[int | None, str]:
  """Return the number of levels by the rule of arrays.py, or None for continuous data; and why."""
  levels = declared_number(arrays, "levels", 2, where)
  if any(x.dtype.kind == "f" for x in xs.values()):
    if levels is not None:
      raise DataError(f"{where}, declares levels={levels}, but holds floating-point numbers; save integers.")
    return None, "floating-point numbers"
  least = {name: min(int(part.min()) for part in _parts(x)) for name, x in xs.items()}
  most = {name: max(int(part.max()) for part in _parts(x)) for name, x in xs.items()}
  largest, why = max(most[name] for name in basis), "declared by the file"
  of_what = "the training split" if len(basis) == 1 and "valid" in xs else "the set"
  if levels is None:
    train = xs["train"]
    is_image = train.dtype == np.uint8 and train.ndim == 4 and train.shape[-1] in (1, 3)
    levels = 2 if largest <= 1 else 256 if is_image else largest + 1
    why = (f"{of_what} holds 0 and 1 alone" if largest <= 1 else "uint8 images" if is_image else
           f"the largest value of {of_what} is {largest}")
  for name in xs:
    if least[name] < 0 or most[name] >= levels:
      raise DataError(f"{where}, array {name!r} holds values from {least[name]} to {most[name]}; they must lie in "
                      f"[0, {levels}): {why}.")
  if levels > MOST_LEVELS:
    raise DataError(f"{where}, has {levels} levels; there may be at most {MOST_LEVELS}: shift the values.")
  return levels, why


def _parts(x: np.ndarray):
  size = max(1, _CHUNK // max(1, x[:1].nbytes))
  return (x[start:start + size] for start in range(0, len(x), size))


def _splits(path: Path, xs: Mapping[str, np.ndarray], ys: Mapping[str, np.ndarray], levels: int | None,
            request: Request, where: str) -> tuple[dict[str, Split], str]:
  names = [name for name in SPLITS if name in xs]
  facts = repr((str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns, names))
  digests = cache.cached(f"hashes-{hashlib.sha256(facts.encode()).hexdigest()[:32]}",
                         functools.partial(_hashes, [xs[name] for name in names]))["sha256"]
  of_split = np.concatenate([np.full(len(xs[name]), name, "U5") for name in names])
  first = dict(zip(names, np.cumsum([0, *(len(xs[name]) for name in names)]), strict=False))
  found, rule = partition.complete_names(of_split, digests, request, where)
  splits: dict[str, Split] = {}
  for name in (name for name in SPLITS if (found == name).any()):
    source = name if "valid" in xs or (name == "test" and "test" in xs) else "train"
    rows = np.flatnonzero(found == name) - first[source]

    def read(examples: Indices, rows: np.ndarray = rows, source: str = source) -> Rows:
      mine = rows[examples]
      x = np.take(xs[source], mine, axis=0)
      x = x.astype(np.float32 if levels is None else smallest_dtype(levels), copy=False)
      return {"x": x, **({"y": ys[source][mine]} if ys else {})}

    content = hashlib.sha256(digests[np.flatnonzero(found == name)].tobytes()).hexdigest()
    splits[name] = DiskSplit(f"{path.name}, split {name}", len(rows), ("x", "y") if ys else ("x",), read,
                             content=content)
  return splits, rule


def _hashes(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
  found = [b"".join(partition.digests_of(part)) for x in arrays for part in _parts(x)]
  return {"sha256": np.frombuffer(b"".join(found), np.uint8).reshape(-1, 32)}
