"""Sets in the format of the `datasets` library: `hf:<folder or name>`, of images or of tables; needs the extra "hf".

A folder is one that `save_to_disk` wrote, or that holds CSV, JSON or Parquet files; any other name is looked up on the
hub, or, offline, in the library's own cache. No code of a set is ever run.

  config=name      the configuration, of a set with several
  image=img        the column of images; by default the first
  label=y          the column of labels; of images by default the first of class labels
  resize, crop, channels                               of images, see folder.py
  columns, context, categorical, numbers, bins         of tables, see table.py
  valid, test, split                                   see gdm/data/partition.py

Splits that are called train, valid (or val, validation) and test are taken as they are.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from gdm.data.dataset import Dataset
from gdm.data.sources import folder, parquet, table
from gdm.data.sources.request import Request
from gdm.errors import ConfigError, DataError, nearest
from gdm.extras import load_extra

OPTIONS = tuple(dict.fromkeys((*table.OPTIONS, *folder.OPTIONS, "config", "image")))


def load(request: Request) -> Dataset:
  """Return the set. Raise DataError where it cannot be opened, and as `folder` and `table` do."""
  where = f"hf:{request.argument}"
  library: Any = load_extra("datasets", "hf", f"data.name {where}")
  library.disable_progress_bars()
  parts = _parts(_opened(library, request, where), where)
  features = parts["train"].features
  images = [name for name, feature in features.items() if isinstance(feature, library.Image)]
  names = {name: list(feature.names) for name, feature in features.items() if isinstance(feature, library.ClassLabel)}
  if not images and "image" not in request.options:
    _refuse(folder.OPTIONS, table.OPTIONS, "a table", request, where)
    tables = {split: parquet.arrow_columns(rows.with_format("arrow")[:], request, where)
              for split, rows in parts.items()}
    return table.from_tables(tables, request, where, names)
  _refuse(table.OPTIONS, folder.OPTIONS, "a set of images", request, where)
  image, label = _column("image", images, request, where), request.options.get("label", next(iter(names), ""))
  if label and label not in names:
    raise ConfigError(f"data.name: option label={label} of hf must be a column of class labels of {where}; its are: "
                      f"{', '.join(names) or 'none'}.")
  found = []
  for split, rows in parts.items():
    for i, row in enumerate(rows.cast_column(image, library.Image(decode=False)).with_format(None)):
      stored = row[image]
      if stored is None:
        raise DataError(f"{where}, split {split}: row {i} has no image.")
      content = pathlib.Path(stored["path"]) if stored["bytes"] is None else stored["bytes"]
      found.append((f"{i} of split {split} of {where}", content, split,
                    names[label][row[label]] if label else None))
  return folder.from_pictures(folder.with_headers(found), names.get(label, []), request, where, _short(request))


def _refuse(options: Sequence[str], allowed: Sequence[str], what: str, request: Request, where: str) -> None:
  """Raise a ConfigError for an option of the other kind of set."""
  for option in (option for option in options if option in request.options and option not in (*allowed, "label")):
    raise ConfigError(f"data.name: {where} is {what}, which has no option {option}; take it away.")


def _opened(library: Any, request: Request, where: str) -> Any:
  """Return what the library makes of the name: one set of rows, or several by split."""
  place = pathlib.Path(request.argument).expanduser()
  try:
    if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
      return library.load_from_disk(str(place))
    return library.load_dataset(str(place) if place.exists() else request.argument, request.options.get("config"))
  except Exception as error:  # of any of the libraries that it is built upon
    raise DataError(f"{where} cannot be opened: {error} Name a folder that save_to_disk wrote, one of CSV, JSON or "
                    "Parquet files, or a set of the hub that can be reached.") from error


def _parts(opened: Any, where: str) -> Mapping[str, Any]:
  """Return the rows by our splits, train first."""
  if not isinstance(opened, dict):
    return {"train": opened}
  found = {folder.SPLIT_NAMES[name]: rows for name, rows in opened.items() if name in folder.SPLIT_NAMES}
  if "train" not in found:
    raise DataError(f"{where} has the splits {', '.join(opened)}; it needs train.")
  return {split: found[split] for split in ("train", "valid", "test") if split in found}


def _column(option: str, known: list[str], request: Request, where: str) -> str:
  """Return the column that an option names, or the first of its kind."""
  asked = request.options.get(option, known[0] if known else "")
  if asked not in known:
    raise ConfigError(f"data.name: option {option}={asked} of hf must be a column of {option}s of {where}; "
                      f"{nearest(asked, known) if known else 'it has none.'}")
  return asked


def _short(request: Request) -> str:
  return pathlib.Path(request.argument).name
