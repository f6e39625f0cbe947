"""Arrays of one's own: `npz:<path>` with train, valid and test, or `npz:<path>#fold=3` with x and fold.

Integers are discrete: the file's own array "levels" says how many, else 2 if all values are 0 or 1, 256 for uint8
images (height, width, channels), and otherwise the largest value of any split plus one. Floating-point numbers are
continuous unless "levels" is there and they are whole. Labels are optional: train_label, valid_label, test_label.

With folds, fold k is the test split of run k; a tenth of the other rows, drawn by `VALID_SEED`, is the validation
split.
"""

import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from gdm.data.archive import DAMAGE, PickledError, read_npz
from gdm.data.dataset import SPLITS, Dataset, check_finite, check_range, smallest_dtype
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.dataspec import DataSpec
from gdm.errors import DataError

VALID_SEED = 20240603  # which rows outside the test fold validate, whatever the config's seed
VALID_FRACTION = 0.1

Arrays = Mapping[str, np.ndarray]


def load(request: Request) -> Dataset:
  """The set in the file. Raises DataError for a file, an array or a value that cannot be used, saying which."""
  path = pathlib.Path(request.argument)
  arrays = read(path)
  fold = request.integer("fold") if "fold" in request.options else None
  xs, ys, rule = _splits(arrays, path) if fold is None else _folds(arrays, path, fold)
  levels = _levels(arrays, xs, path)
  num_classes = 1 + max(int(y.max(initial=0)) for y in ys.values()) if ys else None
  labels = {name: {"y": y.astype(np.int32)} for name, y in ys.items()}
  splits = {name: MemorySplit({"x": _cast(xs[name], levels), **labels.get(name, {})}) for name in SPLITS}
  name = f"npz:{path.stem}" + ("" if fold is None else f"#fold={fold}")
  return Dataset(name, DataSpec(event=xs["train"].shape[1:], levels=levels, num_classes=num_classes), splits,
                 {"source": str(path), **rule})


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """All arrays of an npz file, never unpickling. Raises DataError where it is missing, damaged or holds objects."""
  if not path.is_file():
    raise DataError(f"npz file {str(path)!r} does not exist; name it by data.path or npz:<path>.")
  if not zipfile.is_zipfile(path):
    raise DataError(f"npz file {path} is truncated or no npz archive; write it by np.savez.")
  try:
    return read_npz(path)
  except PickledError as error:
    raise DataError(f"npz file {path}: array '{error}' holds pickled Python objects, which are never loaded; save "
                    "numbers only.") from error
  except DAMAGE as error:
    raise DataError(f"npz file {path} is damaged: {error}") from error


def _splits(arrays: Arrays, path: pathlib.Path) -> tuple[Arrays, Arrays, dict]:
  """The arrays of the three splits and their labels ({} without any)."""
  missing = [name for name in SPLITS if name not in arrays]
  if missing and {"x", "fold"} <= arrays.keys():
    known = ", ".join(map(str, np.unique(arrays["fold"])))
    raise DataError(f"npz file {path} holds x and fold; say which fold is the test split, as npz:{path}#fold=1 (folds: "
                    f"{known}).")
  if missing:
    raise DataError(f"npz file {path} has no array {missing[0]!r}; it needs train, valid and test, and has: "
                    f"{', '.join(sorted(arrays)) or 'none'}.")
  xs = {name: _require_examples(arrays[name], f"npz file {path}, array {name!r}") for name in SPLITS}
  for name in SPLITS:
    if xs[name].shape[1:] != xs["train"].shape[1:]:
      raise DataError(f"npz file {path}: the examples of {name!r} have shape {xs[name].shape[1:]}, those of 'train' "
                      f"{xs['train'].shape[1:]}; all splits must agree.")
    if (xs[name].dtype.kind == "f") != (xs["train"].dtype.kind == "f"):
      raise DataError(f"npz file {path}: {name!r} has dtype {xs[name].dtype}, 'train' {xs['train'].dtype}; all splits "
                      "must be integers or all floating-point.")
  given = [name for name in SPLITS if f"{name}_label" in arrays]
  if given and len(given) < len(SPLITS):
    raise DataError(f"npz file {path} has labels of {', '.join(given)} only; label all splits or none.")
  ys = {name: _require_labels(arrays[f"{name}_label"], len(xs[name]), f"npz file {path}, array '{name}_label'")
        for name in given}
  return xs, ys, {}


def _folds(arrays: Arrays, path: pathlib.Path, fold: int) -> tuple[Arrays, Arrays, dict]:
  """Fold `fold` as the test split; the rest cut into a validation tenth and the training split."""
  if not {"x", "fold"} <= arrays.keys():
    raise DataError(f"npz file {path} has no arrays x and fold, which #fold={fold} needs; it has: "
                    f"{', '.join(sorted(arrays)) or 'none'}.")
  x = _require_examples(arrays["x"], f"npz file {path}, array 'x'")
  folds = _require_labels(arrays["fold"], len(x), f"npz file {path}, array 'fold'")
  if fold not in folds:
    raise DataError(f"npz file {path} has no fold {fold}; it has {', '.join(map(str, np.unique(folds)))}.")
  rest = np.flatnonzero(folds != fold)
  if len(rest) < 2:
    raise DataError(f"npz file {path} has {len(rest)} rows outside fold {fold}; training and validation need 2.")
  rest = np.random.Generator(np.random.Philox([VALID_SEED, fold])).permutation(rest)
  num_valid = max(1, round(VALID_FRACTION * len(rest)))
  parts = {"train": np.sort(rest[num_valid:]), "valid": np.sort(rest[:num_valid]),
           "test": np.flatnonzero(folds == fold)}
  rule = {"fold": fold, "valid_fraction": VALID_FRACTION, "valid_seed": VALID_SEED}
  return {name: x[rows] for name, rows in parts.items()}, {}, rule


def _require_examples(x: np.ndarray, where: str) -> np.ndarray:
  if x.dtype.kind not in "buif":
    raise DataError(f"{where} has dtype {x.dtype}; it must hold integers or floating-point numbers.")
  if x.ndim < 2:
    raise DataError(f"{where} has shape {x.shape}; it must be [N, ...], one row per example.")
  if 0 in x.shape:
    raise DataError(f"{where} has shape {x.shape}: it is empty; every split needs at least one example.")
  return x


def _require_labels(y: np.ndarray, num: int, where: str) -> np.ndarray:
  if y.dtype.kind not in "bui" or y.shape != (num,):
    raise DataError(f"{where} has dtype {y.dtype} and shape {y.shape}; it must hold {num} integers.")
  if int(y.min()) < 0:
    raise DataError(f"{where} holds {y.min()}; it must not be negative.")
  return y


def _levels(arrays: Arrays, xs: Arrays, path: pathlib.Path) -> int | None:
  """The number of levels by the rule at the top of this file, or None for continuous data."""
  declared = _declared_levels(arrays, path)
  whole = {name: x for name, x in xs.items() if x.dtype.kind != "f"}
  if declared is None and len(whole) < len(xs):
    return None
  if declared is None:
    for name, x in xs.items():
      if int(x.min()) < 0:
        index = [int(i) for i in np.argwhere(x < 0)[0]]
        raise DataError(f"npz file {path}, array {name!r}: the value at index {index} is {x[tuple(index)]}; levels "
                        "count from 0, so shift the data.")
    largest = max(int(x.max()) for x in xs.values())
    train = xs["train"]
    is_image = train.dtype == np.uint8 and train.ndim == 4 and train.shape[-1] in (1, 3)
    return 2 if largest <= 1 else 256 if is_image else largest + 1
  for name, x in xs.items():
    where = f"npz file {path}, array {name!r}"
    if x.dtype.kind == "f":
      check_finite(x, where)
      if (x != np.round(x)).any():
        raise DataError(f"{where} holds fractions, but the file declares levels={declared}; discrete data is whole.")
    check_range(x, declared, "levels", where)
  return declared


def _declared_levels(arrays: Arrays, path: pathlib.Path) -> int | None:
  if "levels" not in arrays:
    return None
  levels = arrays["levels"]
  if levels.size != 1 or levels.dtype.kind not in "ui" or int(levels.reshape(())) < 2:
    raise DataError(f"npz file {path}: 'levels' is {levels.tolist()!r}; it must be one integer of at least 2.")
  return int(levels.reshape(()))


def _cast(x: np.ndarray, levels: int | None) -> np.ndarray:
  if levels is not None:
    return x.astype(smallest_dtype(levels))
  with np.errstate(over="ignore"):  # what overflows float32 becomes inf, which the check of the data set reports
    return x.astype(np.float32)
