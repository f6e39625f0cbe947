"""Arrays of one's own: `npz:<path>` with train, valid and test, or `npz:<path>#fold=3` with x and fold.

Integers are discrete: the file's own array "levels" says how many; else they are 2 if all values of the training split
are 0 or 1, 256 for uint8 images (height, width, channels), and otherwise the largest value of the training split plus
one. No other split is looked at: one that holds a larger value is an error. `Dataset.info["levels"]` gives the reason.
Floating-point numbers are continuous unless "levels" is there and they are whole. Labels are optional: train_label,
valid_label, test_label; the array "num_classes" says how many there are, else the largest of the training split does.

What looks like images of another form (channels first, without an axis of channels, or with transparency) is an error
that says what to do; "#layout=images" makes images (height, width, channels) of the first two, and "#layout=arrays"
takes every shape as it is. Arrays of other names are left alone, but one whose name is nearly one of ours is an error.

Sequences of different lengths are padded to one, and train_length, valid_length and test_length (with folds: length)
count what is real along the first axis of each example; padding is served as 0, whatever it is in the file.

With folds, fold k is the test split of run k; a tenth of the other rows, drawn by `VALID_SEED`, is the validation
split.
"""

import difflib
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from gdm.batches import check_finite, check_lengths, check_range
from gdm.data.archive import DAMAGE, PickledError, read_npz
from gdm.data.dataset import MOST_LEVELS, SPLITS, Dataset
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.dataspec import DataSpec
from gdm.errors import DataError

VALID_SEED = 20240603  # which rows outside the test fold validate, whatever the config's seed
VALID_FRACTION = 0.1

OPTIONS = ("fold", "layout")
LEAST_SIDE = 8  # of what looks like an image

Arrays = Mapping[str, np.ndarray]


def load(request: Request) -> Dataset:
  """Return the set in the file. Raise DataError for a file, an array or a value that cannot be used, saying which."""
  path = pathlib.Path(request.argument)
  arrays = read(path)
  _refuse_near_misses(arrays, path)
  fold = request.integer("fold") if "fold" in request.options else None
  layout = request.choice("layout", tuple(LAYOUTS), "auto")
  xs, ys, lengths, rule = _splits(arrays, path) if fold is None else _folds(arrays, path, fold)
  xs = {name: LAYOUTS[layout](x, f"npz file {path}, array {name if fold is None else 'x'!r}") for name, x in xs.items()}
  xs = {name: _without_padding(xs[name], length) for name, length in lengths.items()} or xs
  levels, why = _levels(arrays, xs, path)
  num_classes = _num_classes(arrays, ys, path)
  more = {key: values for key, values in (("y", ys), ("length", lengths)) if values}
  # Not cast yet: transforms work on the file's own values.
  splits = {name: MemorySplit({"x": xs[name], **{key: values[name].astype(np.int32) for key, values in more.items()}})
            for name in SPLITS}
  name = f"npz:{path.stem}" + ("" if fold is None else f"#fold={fold}")
  spec = DataSpec(event=xs["train"].shape[1:], levels=levels, num_classes=num_classes, has_lengths=bool(lengths))
  return Dataset(name, spec, splits, {"source": str(path), "levels": why, **rule})


def _refuse_near_misses(arrays: Arrays, path: pathlib.Path) -> None:
  """Raise a DataError for an array that nothing reads and whose name is nearly one that is read."""
  known = [*SPLITS, *(f"{name}_{part}" for name in SPLITS for part in ("label", "length")), "x", "fold", "levels",
           "num_classes", "length"]
  # The usual names of labels, of which no spelling is near ours.
  aliases = {f"{name}{gap}{word}": f"{name}_label" for name in SPLITS for gap in ("_", "")
             for word in ("y", "labels", "target", "targets", "class", "classes")}
  for name in sorted(arrays.keys() - set(known)):
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
    meant = aliases.get(name.lower()) or (near[0] if near else None)
    if meant and meant not in arrays:
      raise DataError(f"npz file {path} has an array {name!r}, which is not read; did you mean {meant!r}? Rename it, "
                      "or remove it from the file.")


def _as_arrays(x: np.ndarray, where: str) -> np.ndarray:
  del where
  return x


def _as_images(x: np.ndarray, where: str) -> np.ndarray:
  """[N, height, width, channels] of images without channels, or with channels first."""
  if x.ndim == 3:
    return x[..., None]
  if x.ndim == 4 and x.shape[-1] in (1, 3):
    return x
  if x.ndim == 4 and x.shape[1] in (1, 3):
    return np.moveaxis(x, 1, -1)
  raise DataError(f"{where} has shape {x.shape}; option layout=images makes images of [N, height, width] or of "
                  "[N, channels, height, width] with 1 or 3 channels. Transparency must be blended away before.")


def _as_found(x: np.ndarray, where: str) -> np.ndarray:
  """x, unless its shape looks like images of another form."""
  event = x.shape[1:]
  looks_like = None
  if len(event) == 2 and min(event) >= LEAST_SIDE:
    looks_like = "images without an axis of channels"
  elif len(event) == 3 and event[-1] not in (1, 3):
    if event[0] in (1, 3) and min(event[1:]) >= LEAST_SIDE:
      looks_like = "images with channels first"
    elif event[-1] in (2, 4) and min(event[:2]) >= LEAST_SIDE:
      raise DataError(f"{where} has shape {x.shape}, which looks like images with transparency, [N, height, width, "
                      f"{event[-1]}]; blend them with a background and save 1 or 3 channels, or take the shape as it "
                      "is by #layout=arrays.")
  if looks_like:
    raise DataError(f"{where} has shape {x.shape}, which looks like {looks_like}; images are [N, height, width, "
                    "channels]: #layout=images after the path makes them so, #layout=arrays takes the shape as it is.")
  return x


LAYOUTS = {"auto": _as_found, "images": _as_images, "arrays": _as_arrays}


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Return all arrays of an npz file, never unpickling. Raise DataError where it is missing, damaged or holds
  objects."""
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


def _splits(arrays: Arrays, path: pathlib.Path) -> tuple[Arrays, Arrays, Arrays, dict]:
  """Return the arrays of the three splits, their labels and their lengths ({} without any)."""
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
  ys = {name: _require_labels(y, len(xs[name]), f"npz file {path}, array '{name}_label'")
        for name, y in _of_all_splits(arrays, "label", path).items()}
  lengths = {name: _require_lengths(length, xs[name], f"npz file {path}, array '{name}_length'")
             for name, length in _of_all_splits(arrays, "length", path).items()}
  return xs, ys, lengths, {}


def _of_all_splits(arrays: Arrays, what: str, path: pathlib.Path) -> Arrays:
  """Return the arrays <split>_<what>; {} without any."""
  given = [name for name in SPLITS if f"{name}_{what}" in arrays]
  if given and len(given) < len(SPLITS):
    raise DataError(f"npz file {path} has {what}s of {', '.join(given)} only; all splits need them, or none.")
  return {name: arrays[f"{name}_{what}"] for name in given}


def _folds(arrays: Arrays, path: pathlib.Path, fold: int) -> tuple[Arrays, Arrays, Arrays, dict]:
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
  lengths = {}
  if "length" in arrays:
    length = _require_lengths(arrays["length"], x, f"npz file {path}, array 'length'")
    lengths = {name: length[rows] for name, rows in parts.items()}
  return {name: x[rows] for name, rows in parts.items()}, {}, lengths, rule


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
  if int(y.max()) >= MOST_LEVELS:
    raise DataError(f"{where} holds {y.max()}; it must be below {MOST_LEVELS}: number the classes from 0.")
  return y


def _require_lengths(length: np.ndarray, x: np.ndarray, where: str) -> np.ndarray:
  if length.dtype.kind not in "ui" or length.shape != (len(x),):
    raise DataError(f"{where} has dtype {length.dtype} and shape {length.shape}; it must hold {len(x)} integers, one "
                    "for each example: sequences are padded to one length, not joined.")
  check_lengths(length, x.shape[1], where)
  return length


def _without_padding(x: np.ndarray, length: np.ndarray) -> np.ndarray:
  """Return the examples with 0 in place of whatever fills them up."""
  step = np.arange(x.shape[1]).reshape(1, -1, *(1,) * (x.ndim - 2))
  return np.where(step < length.reshape(-1, *(1,) * (x.ndim - 1)), x, np.zeros((), x.dtype))


def _num_classes(arrays: Arrays, ys: Arrays, path: pathlib.Path) -> int | None:
  """Return how many labels there are: as declared, else by the training split, which must hold the largest."""
  if not ys:
    return None
  declared = _declared(arrays, "num_classes", 1, path)
  num = 1 + int(ys["train"].max()) if declared is None else declared
  for name, y in ys.items():
    if int(y.max()) >= num:
      rule = "the file declares" if declared is not None else "the largest label of the training split plus one gives"
      raise DataError(f"npz file {path}, labels of {name!r}: {y.max()} at index {int(np.argmax(y))}, but {rule} "
                      f"num_classes={num}; declare it by an array num_classes.")
  return num


def _levels(arrays: Arrays, xs: Arrays, path: pathlib.Path) -> tuple[int | None, str]:
  """Return the number of levels by the rule at the top of this file, or None for continuous data; and why."""
  declared = _declared(arrays, "levels", 2, path)
  is_whole = all(x.dtype.kind != "f" for x in xs.values())
  if declared is None and not is_whole:
    return None, "floating-point numbers"
  if declared is None:
    levels, why = _found_levels(xs, path)
  else:
    levels, why = declared, "declared by the file"
  for name, x in xs.items():
    where = f"npz file {path}, array {name!r}"
    if x.dtype.kind == "f":
      check_finite(x, where)
      if (x != np.round(x)).any():
        raise DataError(f"{where} holds fractions, but the file declares levels={levels}; discrete data is whole.")
    try:
      check_range(x, levels, "levels", where)
    except DataError as error:
      hint = "" if declared is not None else f" Levels were found by this: {why}; declare them by an array levels."
      raise DataError(f"{error}{hint}") from error
  return levels, why


def _found_levels(xs: Arrays, path: pathlib.Path) -> tuple[int, str]:
  """Return the number of levels of integers, by their dtype and the training split."""
  for name, x in xs.items():
    if int(x.min()) < 0:
      index = [int(i) for i in np.argwhere(x < 0)[0]]
      raise DataError(f"npz file {path}, array {name!r}: the value at index {index} is {x[tuple(index)]}; levels "
                      "count from 0, so shift the data.")
  train = xs["train"]
  largest = int(train.max())
  if largest <= 1:
    return 2, "the training split holds 0 and 1 alone"
  if train.dtype == np.uint8 and train.ndim == 4 and train.shape[-1] in (1, 3):
    return 256, "uint8 images"
  return largest + 1, f"the largest value of the training split is {largest}"


def _declared(arrays: Arrays, name: str, least: int, path: pathlib.Path) -> int | None:
  if name not in arrays:
    return None
  value = arrays[name]
  if value.size != 1 or value.dtype.kind not in "ui" or int(value.reshape(())) < least:
    raise DataError(f"npz file {path}: {name!r} is {value.tolist()!r}; it must be one integer of at least {least}.")
  return int(value.reshape(()))
