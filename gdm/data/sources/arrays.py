"""Arrays of one's own, by their names: train, valid and test; or x alone; or x and fold, with "#fold=3".

A file with train but no valid gets its validation split, and where it has no test either its test split, from train by
the rule of gdm/data/partition.py; one with train and valid alone has no test split.

Integers are discrete: the file's own array "levels" says how many; else they are 2 if all values of the training split
are 0 or 1, 256 for uint8 images (height, width, channels), and otherwise the largest value of the training split plus
one. No other split is looked at: one that holds a larger value is an error. `Dataset.info["levels"]` gives the reason.
Floating-point numbers are continuous unless "levels" is there and they are whole. Labels are optional: train_label,
valid_label, test_label; the array "num_classes" says how many there are, else the largest of the training split does.

A file with x (or arr_0, as numpy calls an array without a name), and y or label where there are labels, is split by the
rule of gdm/data/partition.py. So is a file with keras' names, x_train and y_train; x_test and y_test, x_val and y_val
are the test and the validation split where they are there. Where the rule makes a split, it is all splits together that
say how many levels and classes there are.

What looks like images of another form (channels first, without an axis of channels, or with transparency) is an error
that says what to do; "#layout=images" makes images (height, width, channels) of the first two, and "#layout=arrays"
takes every shape as it is. Arrays of other names are left alone, but one whose name is nearly one of ours is an error.

Sequences of different lengths are padded to one, and train_length, valid_length and test_length (with x: length)
count what is real along the first axis of each example; padding is served as 0, whatever it is in the file. They may
also be joined, and are cut into windows by "#context=64"; see joined.py.

"#label=speaker" takes train_speaker, valid_speaker and test_speaker for the labels, and "#label=label*speaker" each
pair of both; see chosen_labels.py.

Arrays train_context, valid_context and test_context (with x: context), [N, width], are a real-valued condition of each
example.

"#prefix=caption" makes examples conditional on train_caption, valid_caption and test_caption: texts [N], of which words
are taken that at least "#least=2" training captions have (gdm/data/captions.py), or integers [N, steps], of which 0 is
no token. It needs a file with its own splits.

With folds, fold k is the test split of run k; a tenth of the other rows, drawn by `VALID_SEED`, is the validation
split.
"""

import difflib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gdm.batches import check_finite, check_lengths, check_range
from gdm.data import captions, partition
from gdm.data.dataset import MOST_LEVELS, SPLITS, Dataset
from gdm.data.sources import chosen_labels, joined
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.data.tokens import Tokenizer
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError

VALID_SEED = 20240603  # which rows outside the test fold validate, whatever the config's seed
VALID_FRACTION = 0.1

OPTIONS = ("fold", "layout", "least", "prefix", *chosen_labels.OPTIONS, *joined.OPTIONS, *partition.OPTIONS)
LEAST_SIDE = 8  # of what looks like an image

Arrays = Mapping[str, np.ndarray]

# Endings of our names, and the entries of a batch.
_PARTS = {"": "x", "_label": "y", "_length": "length", "_context": "context"}
# Names of a whole set, keras' names, and our names, as ours.
_WHOLE = {"x": "train", "arr_0": "train", "label": "train_label", "y": "train_label", "length": "train_length",
          "context": "train_context"}
_KERAS = {f"{entry}_{theirs}": f"{ours}{ending}" for entry, ending in (("x", ""), ("y", "_label"))
          for theirs, ours in {"train": "train", "val": "valid", "valid": "valid", "test": "test"}.items()}
_ONLY_TEST = {f"test{ending}": f"train{ending}" for ending in _PARTS}
_OURS = {f"{split}{ending}": f"{split}{ending}" for split in SPLITS for ending in _PARTS}
# The usual names of labels and of the validation split, of which no spelling is near ours.
_LABEL_WORDS = ("y", "labels", "target", "targets", "class", "classes")
_VALID_WORDS = ("val", "validation", "dev")


def from_arrays(arrays: Arrays, request: Request, where: str) -> Dataset:
  """Return the set that arrays of these names are.

  Args:
    arrays: by the names at the top of this file.
    request: with the options `OPTIONS`; its argument is the path of the file.
    where: the file, as the subject of messages.

  Raise DataError for an array or a value that cannot be used, saying which; ConfigError for an option.
  """
  fold = request.integer("fold") if "fold" in request.options else None
  layout = request.choice("layout", tuple(LAYOUTS), "auto")
  labels: dict[str, Any] = {}
  if "label" in request.options:
    arrays, labels = chosen_labels.chosen(arrays, request.options["label"], where)
  refuse_near_misses(arrays, where)
  arrays, rule = joined.separated(arrays, request, where)
  names = None if fold is not None else _names_to_split(arrays, request.whole)
  basis = ("train",)
  in_file = {"train": "x"} if fold is not None else {ours: theirs for theirs, ours in (names or {}).items()
                                                     if theirs in arrays}
  if not names and not rule:
    _refuse_shares(request, where)
  elif names:
    arrays, rule = _split_by_rule(arrays, names, request, where)
    basis = tuple(name for name in SPLITS if name in arrays)
  if fold is not None:
    arrays, rule = _folds(arrays, where, fold)
  xs, ys, lengths = _splits(arrays, request, where)
  if not lengths:  # sequences are no images
    xs = {name: LAYOUTS[layout](x, f"{where}, array {in_file.get(name, in_file.get('train', name))!r}")
          for name, x in xs.items()}
  xs = {name: _without_padding(xs[name], length) for name, length in lengths.items()} or xs
  levels, why = _levels(arrays, xs, basis, where, request.levels)
  num_classes = count_classes(arrays, ys, basis, where)
  contexts = _contexts(arrays, xs, where)
  prefix = _prefix(arrays, xs, bool(names) or fold is not None, request, where)
  more = {key: values for key, values in (("y", ys), ("length", lengths), ("prefix", prefix.tokens)) if values}
  # Not cast yet: transforms work on the file's own values.
  splits = {name: MemorySplit({"x": xs[name], **{key: values[name].astype(np.int32) for key, values in more.items()},
                               **({"context": contexts[name]} if contexts else {})}) for name in xs}
  path = pathlib.Path(request.argument)
  spec = DataSpec(event=xs["train"].shape[1:], levels=levels, num_classes=num_classes, has_lengths=bool(lengths),
                  context_dims=contexts["train"].shape[1] if contexts else 0, prefix_steps=prefix.steps,
                  prefix_levels=prefix.levels)
  name = f"{request.kind}:{path.stem}" + ("" if fold is None else f"#fold={fold}")
  dataset = Dataset(name, spec, splits, {"source": str(path), "levels": why, **labels, **rule},
                    prefix_tokenizer=prefix.tokenizer)
  return joined.in_windows(dataset, request, where)


def _contexts(arrays: Arrays, xs: Arrays, where: str) -> dict[str, np.ndarray]:
  """Return the condition of each split; {} without any. Raise DataError where one is of another shape."""
  found = _of_all_splits(arrays, "context", list(xs), where)
  for name, context in found.items():
    if context.dtype.kind not in "uif" or context.ndim != 2 or len(context) != len(xs[name]):
      raise DataError(f"{where}, array '{name}_context' has dtype {context.dtype} and shape {context.shape}; it must "
                      f"hold numbers [{len(xs[name])}, width].")
  return {name: context.astype(np.float64) for name, context in found.items()}


class _Prefix(NamedTuple):
  """What examples are conditional on: tokens [N, steps] of each split, below `levels`; texts have a tokenizer."""

  tokens: Arrays
  steps: int
  levels: int
  tokenizer: Tokenizer | None = None


def _prefix(arrays: Arrays, xs: Arrays, is_split_by_us: bool, request: Request, where: str) -> _Prefix:
  """Return the prefixes that option `prefix` asks for. Raise DataError where they are missing or cannot be used."""
  name = request.options.get("prefix", "")
  if not name:
    return _Prefix({}, 0, 0)
  if is_split_by_us:
    raise ConfigError(f"data.name: option prefix={name!r} needs a file with its own splits, arrays train, valid and "
                      f"test, but {where} is split by a rule.")
  found = _of_all_splits(arrays, name, list(xs), where)
  if not found:
    raise DataError(f"{where} has no array 'train_{name}', which #prefix={name} asks for; it has: "
                    f"{', '.join(sorted(arrays))}.")
  for split, array in found.items():
    if len(array) != len(xs[split]) or (array.dtype.kind, array.ndim) not in {("U", 1), ("u", 2), ("i", 2)}:
      raise DataError(f"{where}, array '{split}_{name}' has dtype {array.dtype} and shape {array.shape}; it must hold "
                      f"{len(xs[split])} texts, or integers [{len(xs[split])}, steps].")
  if found["train"].dtype.kind == "U":
    return _texts({split: [str(text) for text in array] for split, array in found.items()}, name, request, where)
  steps, levels = found["train"].shape[1], max(2, int(found["train"].max()) + 1)
  return _Prefix(found, request.prefix_steps or steps, levels)


def _texts(texts: Mapping[str, list[str]], name: str, request: Request, where: str) -> _Prefix:
  """Return texts as tokens, by the words of the training split, or of a model that knows its words already."""
  tokenizer = request.prefix_tokenizer or captions.tokenizer_of(
      texts["train"], request.integer("least", captions.LEAST, minimum=1))
  steps = request.prefix_steps or max(map(captions.longest, texts.values()))
  tokens = {split: captions.encode(tokenizer, rows, steps, f"{where}, array '{split}_{name}'")
            for split, rows in texts.items()}
  return _Prefix(tokens, steps, len(tokenizer), tokenizer)


def _names_to_split(arrays: Arrays, whole: bool) -> Mapping[str, str] | None:
  """Return the names, as ours, of a set that the rule must split, or that is taken whole; None where there is none."""
  if whole and "test" in arrays and not arrays.keys() & {"train", "valid", "fold"}:
    return _ONLY_TEST
  if "train" in arrays:
    return None if "valid" in arrays else _OURS
  if "fold" in arrays:
    return None
  return next((names for names in (_WHOLE, _KERAS) if "train" in {names.get(name) for name in arrays}), None)


def _split_by_rule(arrays: Arrays, names: Mapping[str, str], request: Request, where: str
                   ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Return the arrays by our names, split by the rule, and the rule for the record."""
  theirs = {names[name]: name for name in arrays if name in names}
  parts: dict[str, dict[str, np.ndarray]] = {}
  for split in (split for split in SPLITS if split in theirs):
    found = {entry: (theirs[f"{split}{ending}"], arrays[theirs[f"{split}{ending}"]])
             for ending, entry in _PARTS.items() if f"{split}{ending}" in theirs}
    parts[split] = _checked_rows(found, "levels" in arrays, where)
  found, rule = partition.complete(parts, request, where)
  rest = {name: array for name, array in arrays.items() if name not in names}
  split_arrays = {f"{split}{ending}": rows[entry] for split, rows in found.items()
                  for ending, entry in _PARTS.items() if entry in rows}
  return {**rest, **split_arrays}, {"split": rule}


def _checked_rows(found: Mapping[str, tuple[str, np.ndarray]], is_declared: bool, where: str) -> dict[str, np.ndarray]:
  """Return the entries of a batch from arrays and their names in the file, checked while rows are at its places."""
  name, x = found["x"]
  rows = {"x": require_examples(x, f"{where}, array {name!r}")}
  if x.dtype.kind != "f" and not is_declared:
    _refuse_negative(x, f"{where}, array {name!r}")
  for entry, (name, array) in found.items():
    if entry == "y":
      is_column = array.ndim == 2 and array.shape[1] == 1  # as keras'
      rows[entry] = require_labels(array[:, 0] if is_column else array, len(x), f"{where}, array {name!r}")
    elif not array.ndim or len(array) != len(x):
      raise DataError(f"{where}, array {name!r} has shape {array.shape}, but there are {len(x)} examples.")
    else:
      rows[entry] = array
  return rows


def _refuse_shares(request: Request, where: str) -> None:
  for option in (option for option in partition.OPTIONS if option in request.options):
    raise ConfigError(f"data.name: option {option} of {request.kind} says how to split one array, but {where} brings "
                      "its own splits; take it away.")


def refuse_near_misses(arrays: Arrays, where: str) -> None:
  """Raise a DataError for an array that nothing reads and whose name is nearly one that is read."""
  known = [*SPLITS, *(f"{name}_{part}" for name in SPLITS for part in ("label", "length", "context")), "x", "fold",
           "levels", "num_classes", "length", "context"]
  aliases = {f"{name}{gap}{word}": f"{name}_label" for name in SPLITS for gap in ("_", "") for word in _LABEL_WORDS}
  aliases |= dict.fromkeys(_VALID_WORDS, "valid")
  read = {*known, *_KERAS, *_WHOLE}
  if "train" not in arrays and not arrays.keys() & {"y", *_KERAS}:  # one array, and no labels
    aliases |= dict.fromkeys(_LABEL_WORDS, "label")
  for name in sorted(arrays.keys() - read):
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
    meant = aliases.get(name.lower()) or (near[0] if near else None)
    if meant and meant not in arrays:
      raise DataError(f"{where} has an array {name!r}, which is not read; did you mean {meant!r}? Rename it, "
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


def _splits(arrays: Arrays, request: Request, where: str) -> tuple[Arrays, Arrays, Arrays]:
  """Return the arrays of the splits, their labels and their lengths ({} without any)."""
  names = [name for name in SPLITS if name in arrays]
  if "train" not in arrays and {"x", "fold"} <= arrays.keys():
    known = ", ".join(map(str, np.unique(arrays["fold"])))
    example = f"{request.kind}:{request.argument}#fold=1"
    raise DataError(f"{where} holds x and fold; say which fold is the test split, as {example} "
                    f"(folds: {known}).")
  if "train" not in arrays:
    raise DataError(f"{where} has no array 'train'; it needs train, or x alone, and has: "
                    f"{', '.join(sorted(arrays)) or 'none'}.")
  xs = {name: require_examples(arrays[name], f"{where}, array {name!r}") for name in names}
  for name in names:
    if xs[name].shape[1:] != xs["train"].shape[1:]:
      raise DataError(f"{where}: the examples of {name!r} have shape {xs[name].shape[1:]}, those of 'train' "
                      f"{xs['train'].shape[1:]}; all splits must agree.")
    if (xs[name].dtype.kind == "f") != (xs["train"].dtype.kind == "f"):
      raise DataError(f"{where}: {name!r} has dtype {xs[name].dtype}, 'train' {xs['train'].dtype}; all splits "
                      "must be integers or all floating-point.")
  ys = {name: require_labels(y, len(xs[name]), f"{where}, array '{name}_label'")
        for name, y in _of_all_splits(arrays, "label", names, where).items()}
  lengths = {name: _require_lengths(length, xs[name], f"{where}, array '{name}_length'")
             for name, length in _of_all_splits(arrays, "length", names, where).items()}
  return xs, ys, lengths


def _of_all_splits(arrays: Arrays, what: str, names: Sequence[str], where: str) -> Arrays:
  """Return the arrays <split>_<what>; {} without any."""
  given = [name for name in names if f"{name}_{what}" in arrays]
  if given and len(given) < len(names):
    raise DataError(f"{where} has {what}s of {', '.join(given)} only; all splits need them, or none.")
  return {name: arrays[f"{name}_{what}"] for name in given}


def _folds(arrays: Arrays, where: str, fold: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Return the arrays by our names and the rule: fold `fold` is the test split; the rest is cut into a validation tenth
  and the training split."""
  if not {"x", "fold"} <= arrays.keys():
    raise DataError(f"{where} has no arrays x and fold, which #fold={fold} needs; it has: "
                    f"{', '.join(sorted(arrays)) or 'none'}.")
  of_set = {_WHOLE[name].removeprefix("train"): name for name in arrays if name in _WHOLE}
  entries = {_PARTS[ending]: (name, arrays[name]) for ending, name in of_set.items()}
  rows = _checked_rows(entries, "levels" in arrays, where)
  folds = require_labels(arrays["fold"], len(rows["x"]), f"{where}, array 'fold'")
  if fold not in folds:
    raise DataError(f"{where} has no fold {fold}; it has {', '.join(map(str, np.unique(folds)))}.")
  rest = np.flatnonzero(folds != fold)
  if len(rest) < 2:
    raise DataError(f"{where} has {len(rest)} rows outside fold {fold}; training and validation need 2.")
  rest = np.random.Generator(np.random.Philox([VALID_SEED, fold])).permutation(rest)
  num_valid = max(1, round(VALID_FRACTION * len(rest)))
  parts = {"train": np.sort(rest[num_valid:]), "valid": np.sort(rest[:num_valid]),
           "test": np.flatnonzero(folds == fold)}
  rule = {"fold": fold, "valid_fraction": VALID_FRACTION, "valid_seed": VALID_SEED}
  others = {name: array for name, array in arrays.items() if name not in _WHOLE and name != "fold"}
  found = {f"{split}{ending}": rows[_PARTS[ending]][index] for split, index in parts.items() for ending in of_set}
  return {**others, **found}, rule


def require_examples(x: np.ndarray, where: str) -> np.ndarray:
  """Return an array of examples. Raise DataError where it holds no numbers, or is empty."""
  if x.dtype.kind not in "buif":
    raise DataError(f"{where} has dtype {x.dtype}; it must hold integers or floating-point numbers.")
  if x.ndim < 2:
    raise DataError(f"{where} has shape {x.shape}; it must be [N, ...], one row per example.")
  if 0 in x.shape:
    raise DataError(f"{where} has shape {x.shape}: it is empty; every split needs at least one example.")
  return x


def require_labels(y: np.ndarray, num: int, where: str) -> np.ndarray:
  """Return labels of so many examples. Raise DataError where they are no integers from 0 on."""
  if y.dtype.kind not in "bui" or y.shape != (num,):
    raise DataError(f"{where} has dtype {y.dtype} and shape {y.shape}; it must hold {num} integers, the number of each "
                    "example's class.")
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


def count_classes(arrays: Arrays, ys: Arrays, basis: Sequence[str], where: str) -> int | None:
  """Return how many labels there are: as declared, else by the `basis` splits, which must hold the largest."""
  if not ys:
    return None
  declared = declared_number(arrays, "num_classes", 1, where)
  num = 1 + max(int(ys[name].max()) for name in basis) if declared is None else declared
  for name, y in ys.items():
    if int(y.max()) >= num:
      rule = "the file declares" if declared is not None else "the largest label of the training split plus one gives"
      raise DataError(f"{where}, labels of {name!r}: {y.max()} at index {int(np.argmax(y))}, but {rule} "
                      f"num_classes={num}; declare it by an array num_classes.")
  return num


def _levels(arrays: Arrays, xs: Arrays, basis: Sequence[str], where: str, known: int) -> tuple[int | None, str]:
  """Return the number of levels by the rule at the top of this file, or None for continuous data; and why.

  Those of the data that a model was trained on are `known`, and hold where the file declares none; 0 for none.
  """
  declared = declared_number(arrays, "levels", 2, where)
  is_whole = all(x.dtype.kind != "f" for x in xs.values())
  if declared is None and not is_whole:
    return None, "floating-point numbers"
  if declared is not None:
    levels, why = declared, "declared by the file"
  elif known:
    levels, why = known, "as in the data that the run was trained on"
  else:
    levels, why = _found_levels(xs, basis, where)
  for name, x in xs.items():
    array = f"{where}, array {name!r}"
    if x.dtype.kind == "f":
      check_finite(x, array)
      if (x != np.round(x)).any():
        raise DataError(f"{array} holds fractions, but the file declares levels={levels}; discrete data is whole.")
    try:
      check_range(x, levels, "levels", array)
    except DataError as error:
      is_given = declared is not None or known
      hint = "" if is_given else f" Levels were found by this: {why}; declare them by an array levels."
      raise DataError(f"{error}{hint}") from error
  return levels, why


def _found_levels(xs: Arrays, basis: Sequence[str], where: str) -> tuple[int, str]:
  """Return the number of levels of integers, by their dtype and the `basis` splits."""
  for name, x in xs.items():
    _refuse_negative(x, f"{where}, array {name!r}")
  train = xs["train"]
  largest = max(int(xs[name].max()) for name in basis)
  of_what = "the training split" if len(basis) == 1 else "the set"
  if largest <= 1:
    return 2, f"{of_what} holds 0 and 1 alone"
  if train.dtype == np.uint8 and train.ndim == 4 and train.shape[-1] in (1, 3):
    return 256, "uint8 images"
  return largest + 1, f"the largest value of {of_what} is {largest}"


def _refuse_negative(x: np.ndarray, where: str) -> None:
  if int(x.min()) < 0:
    index = [int(i) for i in np.argwhere(x < 0)[0]]
    raise DataError(f"{where}: the value at index {index} is {x[tuple(index)]}; levels count from 0, so shift the "
                    "data.")


def declared_number(arrays: Arrays, name: str, least: int, where: str) -> int | None:
  """Return the one integer that an array of the file declares, at least `least`; None where there is no such array."""
  if name not in arrays:
    return None
  value = arrays[name]
  if value.size != 1 or value.dtype.kind not in "ui" or int(value.reshape(())) < least:
    raise DataError(f"{where}: {name!r} is {value.tolist()!r}; it must be one integer of at least {least}.")
  return int(value.reshape(()))
