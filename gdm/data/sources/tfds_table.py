"""Tables of TensorFlow Datasets: `tfds:titanic#label=survived&columns=fare,sex&bins=16`, with the options of table.py.

Numbers, truth values, class labels and strings are columns by their names; a feature within another one is called
"outer/inner", and the entries of a vector are "name_0", "name_1" and so on. Strings are categories, and class labels
too, by the names that the set has for them. A class label of -1, by which TFDS marks one that is unknown, is missing.

The label is by default the feature "label", unless that is a real number, or else the only class label; `label=`
without a name chooses none. Splits are those of tfds_prepared.py; a set with train alone is split by the rule of
gdm/data/partition.py.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdm.data import cache
from gdm.data.dataset import Dataset
from gdm.data.sources import table
from gdm.data.sources.request import Request
from gdm.data.sources.tfds_prepared import Part, Prepared, kind_of, parts_of
from gdm.errors import ConfigError, DataError

OPTIONS = table.OPTIONS
MEMORY_LIMIT = 2 << 30  # bytes of the columns that are read, at 8 a value
LONGEST_VECTOR = 4096  # entries of a feature, as columns
_DECODER = 1  # raise it where a change below makes other values of the same bytes: cached ones are then not read


def load(prepared: Prepared, request: Request, memory_limit: int = MEMORY_LIMIT) -> Dataset:
  """Return the set. Raise DataError where it is damaged or larger than memory, ConfigError for a column that it lacks
  or that is no number, label or string, and what `table.from_tables` raises."""
  where, widths = prepared.where, {path: width_of(feature) for path, feature in prepared.features.items()}
  _refuse_unreadable(prepared, widths, request)
  columns = {path: _column_names(path, prepared.features[path]) for path, width in widths.items() if width}
  label = _default_label(prepared.features)
  used = set(table.columns_used([name for names in columns.values() for name in names], request, where, label))
  paths = [path for path, names in columns.items() if used.intersection(names)]
  sizes = {name: size for name, size in prepared.sizes.items() if name in ("train", "validation", "test")}
  parts, rule = ({"train": Part("train", 0, sizes["train"])}, {}) if set(sizes) == {"train"} else parts_of(sizes, where)
  num_values = sum(part.num for part in parts.values()) * sum(widths[path] or 0 for path in paths)
  if 8 * num_values > memory_limit:
    raise DataError(f"{where} has {num_values:,} values, of which {memory_limit // 8:,} are read into memory; choose "
                    "fewer columns by #columns=, or save it as an npy file, which is read from disk.")
  tables = {name: {column: values for path, arrays in _read(prepared, paths, part).items()
                   for column, values in zip(columns[path], arrays, strict=True) if column in used}
            for name, part in parts.items()}
  named = {path: _class_names(prepared.features[path]) for path in paths}
  names = {column: classes for path, classes in named.items() if classes is not None for column in columns[path]}
  return table.from_tables(tables, request, where, names, label=label, name=f"tfds:{request.argument}{request.shown}",
                           facts={**prepared.facts, **rule})


def width_of(feature: Any) -> int | None:
  """Return how many columns a feature is; None where it is none."""
  import tensorflow_datasets as tfds

  kinds = tfds.features
  if type(feature) not in (kinds.Tensor, kinds.Scalar, kinds.ClassLabel, kinds.Text):  # subclasses are other kinds
    return None
  if np.dtype(feature.np_dtype).kind not in "biufOSU":
    return None
  if len(feature.shape) == 1 and feature.shape[0] and feature.shape[0] <= LONGEST_VECTOR:
    return feature.shape[0]
  return 1 if feature.shape == () else None


def _column_names(path: str, feature: Any) -> list[str]:
  return [f"{path}_{i}" for i in range(feature.shape[0])] if feature.shape else [path]


def _default_label(features: Mapping[str, Any]) -> str:
  """Return the column of labels where the request names none; "" where there is none."""
  import tensorflow_datasets as tfds

  found = features.get("label")
  if found is not None and width_of(found) == 1 and not found.shape and np.dtype(found.np_dtype).kind != "f":
    return "label"
  labels = [path for path, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
  return labels[0] if len(labels) == 1 else ""


def _refuse_unreadable(prepared: Prepared, widths: Mapping[str, int | None], request: Request) -> None:
  """Raise a ConfigError for an option that names a feature of another kind."""
  for option in ("columns", "label", "context", "categorical"):
    for name in request.names(option):
      if name in widths and widths[name] is None:
        raise ConfigError(f"data.name: option {option} of tfds names {name!r}, which is a feature of {prepared.where} "
                          f"of kind {kind_of(prepared.features[name])}; columns are numbers, class labels, strings, "
                          f"and vectors of up to {LONGEST_VECTOR} entries.")


def _class_names(feature: Any) -> Sequence[str] | None:
  """Return the names of classes, () for strings, whose categories are those that occur, and None for numbers."""
  import tensorflow_datasets as tfds

  if isinstance(feature, tfds.features.ClassLabel) and feature.num_classes:
    return feature.names
  return () if _is_text(feature) else None


def _is_text(feature: Any) -> bool:
  return np.dtype(feature.np_dtype).kind in "OSU"


def _read(prepared: Prepared, paths: Sequence[str], part: Part) -> dict[str, list[np.ndarray]]:
  """Return the columns of each feature over the examples of a part, decoded once and then from the cache."""
  facts = repr((_DECODER, prepared.files, tuple(paths), part))
  key = f"tfds-{prepared.directory.parent.name}-table-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
  arrays = cache.cached(key, lambda: _decoded(prepared, paths, part))
  return {path: _columns(prepared, path, arrays[f"values{i}"], arrays.get(f"sizes{i}")) for i, path in enumerate(paths)}


def _decoded(prepared: Prepared, paths: Sequence[str], part: Part) -> dict[str, np.ndarray]:
  """Return the values of each feature, [examples, width]; strings one after the other as bytes, and their sizes."""
  found: dict[str, list[Any]] = {path: [] for path in paths}
  for example in prepared.examples(paths, part):
    for path, values in found.items():
      values.append(example[path])
  arrays = {}
  for i, (path, values) in enumerate(found.items()):
    feature = prepared.features[path]
    if _is_text(feature):
      cells = [cell for value in values for cell in np.atleast_1d(np.array(value, object))]
      arrays[f"values{i}"] = np.frombuffer(b"".join(cells), np.uint8)
      arrays[f"sizes{i}"] = np.array([len(cell) for cell in cells], np.int64)
    else:
      arrays[f"values{i}"] = np.array(values, feature.np_dtype).reshape(part.num, -1)
  return arrays


def _columns(prepared: Prepared, path: str, values: np.ndarray, sizes: np.ndarray | None) -> list[np.ndarray]:
  """Return the columns of a feature as `table.from_tables` takes them: unknown class labels are NaN."""
  import tensorflow_datasets as tfds

  feature = prepared.features[path]
  if sizes is not None:
    raw, stops = values.tobytes(), np.cumsum(sizes)
    try:
      cells = [raw[stop - size:stop].decode() for stop, size in zip(stops, sizes, strict=True)]
    except UnicodeDecodeError as error:
      raise DataError(f"{prepared.where}: feature {path!r} holds {error.object[:40]!r}, which is not UTF-8; leave it "
                      "out by #columns=.") from error
    return list(np.array(cells, object).reshape(-1, len(_column_names(path, feature))).T)
  if isinstance(feature, tfds.features.ClassLabel) and (values < 0).any():
    values = np.where(values < 0, np.nan, values)
  return list(values.T)
