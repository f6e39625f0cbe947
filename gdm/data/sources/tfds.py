"""Sets of TensorFlow Datasets, read without TensorFlow: images, tables and texts, as `tfds:mnist`, `tfds:titanic`.

A set must have been prepared as array_record; that, unlike reading, needs TensorFlow. Its features say what it is:

  images    there is an Image, see tfds_images.py
  text      there is a Text, see tfds_text.py; `text=NAME` chooses a feature, and makes any set with it text
  a table   all features are numbers, class labels, strings, or vectors, see tfds_table.py; `columns=` makes a table of
            the columns it names, in a set of any kind

A set of another kind is an error that names its features.
"""

import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from gdm.data.dataset import Dataset
from gdm.data.sources import tfds_images, tfds_table, tfds_text
from gdm.data.sources.request import Request
from gdm.data.sources.tfds_images import MEMORY_LIMIT
from gdm.data.sources.tfds_prepared import Prepared, blaming, where_of
from gdm.errors import ConfigError, DataError, nearest
from gdm.paths import local_path

_READERS = {"a set of images": tfds_images, "text": tfds_text, "a table": tfds_table}
_NEEDING_TENSORFLOW = frozenset(("Audio", "Video"))  # classes of features
_OTHER_KIND = "{} is neither images, nor text, nor a table; its features are {}."
OPTIONS = tuple(dict.fromkeys(option for reader in _READERS.values() for option in reader.OPTIONS))


def load(request: Request, memory_limit: int = MEMORY_LIMIT) -> Dataset:
  """Return the set; images that need more than `memory_limit` bytes stay on disk.

  Raise DataError where the set is not prepared, damaged, or of a kind that is not read; ConfigError for an option of
  another kind of set.
  """
  prepared = open_set(request)
  kind = kind_of_set(prepared, request)
  _refuse(kind, _READERS[kind].OPTIONS, request)
  if kind == "a set of images":
    return tfds_images.load(prepared, request, memory_limit)
  return (tfds_text if kind == "text" else tfds_table).load(prepared, request)


def open_set(request: Request) -> Prepared:
  """Return the set that a request names. Raise DataError where it is not prepared, or damaged."""
  import tensorflow_datasets as tfds  # here, since importing it takes a quarter of a second

  root = local_path(request.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets",
                    "data.data_dir" if request.data_dir else "$TFDS_DATA_DIR")
  directory = find(request.argument, root)
  _refuse_sound_and_video(directory, where_of(request.argument, directory))
  hint = _build_hint(request.argument, root)
  with blaming(where_of(request.argument, directory), hint):
    return Prepared(request.argument, directory, tfds.builder_from_directory(directory), hint)


def kind_of_set(prepared: Prepared, request: Request) -> str:
  """Return what a set is read as, a key of `_READERS`. Raise DataError for one of another kind."""
  import tensorflow_datasets as tfds

  kinds = tfds.features
  if "text" in request.options:
    return "text"
  if "columns" in request.options:
    return "a table"
  features = prepared.features
  if any(isinstance(feature, kinds.Image) and "/" not in path for path, feature in features.items()):
    return "a set of images"
  media = (kinds.Image, kinds.Audio, kinds.Video, kinds.BBoxFeature)
  if (any(isinstance(feature, kinds.Text) for feature in features.values())
      and not any(isinstance(feature, media) for feature in features.values())):
    return "text"
  widths = [tfds_table.width_of(feature) for feature in features.values()]
  if all(widths):
    return "a table"
  choose = "; #columns= makes a table of some of them" if any(widths) else ""
  raise DataError(_OTHER_KIND.format(prepared.where, prepared.shown_features + choose))


def _refuse_sound_and_video(directory: pathlib.Path, where: str) -> None:
  """Raise DataError for a set with features that TFDS cannot even open without TensorFlow."""
  try:
    features = json.loads((directory / "features.json").read_bytes())
  except (OSError, ValueError):
    return  # which TFDS reports in its words
  kinds = dict(_stored_kinds(features))
  if not _NEEDING_TENSORFLOW.isdisjoint(kinds.values()):
    raise DataError(_OTHER_KIND.format(where, ", ".join(f"{path} ({kind})" for path, kind in kinds.items())))


def _stored_kinds(record: Any, path: str = "") -> Iterator[tuple[str, str]]:
  """Yield the path of each feature in a features.json, and the name of its class."""
  inner = record.get("featuresDict", {}).get("features") if isinstance(record, dict) else None
  if isinstance(inner, dict):
    for name, feature in inner.items():
      yield from _stored_kinds(feature, f"{path}/{name}" if path else name)
  elif isinstance(record, dict):
    yield path or "all", str(record.get("pythonClassName", "")).rpartition(".")[2]


def _refuse(kind: str, allowed: Sequence[str], request: Request) -> None:
  """Raise a ConfigError for an option of another kind of set."""
  for option in (option for option in request.options if option not in allowed):
    raise ConfigError(f"data.name: tfds:{request.argument} is read as {kind}, which has no option {option}; take it "
                      f"away: its options are {', '.join(allowed)}.")


def find(name: str, root: pathlib.Path) -> pathlib.Path:
  """Return the folder of the newest prepared version of "set", "set/config" or "set/config:1.0.0" under `root`."""
  path, _, version = name.partition(":")
  folder = root / path
  if not path or not folder.is_dir():
    there = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    raise DataError(f"tfds:{name} is not prepared in {root}, where there is {', '.join(there) or 'nothing'}. Set "
                    f"data.data_dir to where it lies, or prepare it: {_build_hint(name, root)}")
  versions = {p.name: p for p in folder.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", p.name)}
  if not versions:
    configs = sorted(p.name for p in folder.iterdir() if p.is_dir())
    raise DataError(f"tfds:{name} has no version in {folder}; name one of its configs as tfds:{path}/<config>: "
                    f"{', '.join(configs) or 'there is none'}.")
  if version and version not in versions:
    raise DataError(f"tfds:{name}: version {version!r} is not in {folder}; {nearest(version, versions)}")
  return versions[version or max(versions, key=lambda v: tuple(map(int, v.split("."))))]


def _build_hint(name: str, root: pathlib.Path) -> str:
  return (f"`pip install '.[prepare]'`, then `tfds build {name.partition(':')[0]} --data_dir={root} "
          "--file_format=array_record`.")
