"""Which arrays of a file are the label: "#label=speaker", or several as one number, "#label=label*speaker"."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gdm.data.dataset import SPLITS
from gdm.errors import ConfigError, DataError

OPTIONS = ("label",)

Arrays = Mapping[str, np.ndarray]


def chosen(arrays: Arrays, text: str, where: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Return the arrays with those labels as train_label and so on, and their names and numbers for the record.

  Args:
    arrays: of a file; train_speaker, valid_speaker and test_speaker are the label "speaker".
    text: name of a label, or several joined by "*": (y_1 n_2 + y_2) n_3 + y_3 is the label then, where n_i labels of
      name i are in the training split.
    where: the file, as the subject of messages.

  Raise DataError where one is missing, is no array of integers, or has more values in another split; ConfigError where
  a name comes twice.
  """
  names = text.split("*")
  if len(set(names)) < len(names) or not all(names):
    raise ConfigError(f"data.name: option label={text!r} must name a label, or several once, as label*speaker.")
  for name in names:
    array = arrays.get(f"train_{name}")
    if array is None or array.ndim != 1 or array.dtype.kind not in "bui" or not array.size or int(array.min()) < 0:
      known = sorted(key.removeprefix("train_") for key, value in arrays.items()
                     if key.startswith("train_") and value.ndim == 1 and value.dtype.kind in "ui")
      raise DataError(f"{where} has no whole numbers from 0 on as 'train_{name}', which #label={text} asks for; it has "
                      f"{', '.join(known) or 'no labels'}.")
  sizes = [1 + int(arrays[f"train_{name}"].max()) for name in names]
  found = {key: array for key, array in arrays.items()
           if key != "num_classes" and key not in {f"{split}_label" for split in SPLITS}}
  for split in (split for split in SPLITS if split in arrays):
    label = np.zeros((), np.int64)
    for name, size in zip(names, sizes, strict=True):
      if (part := arrays.get(f"{split}_{name}")) is None:
        raise DataError(f"{where} has no array '{split}_{name}', which #label={text} asks for.")
      if part.size and not 0 <= int(part.min()) <= int(part.max()) < size:
        raise DataError(f"{where}, array '{split}_{name}' holds {part.min()} to {part.max()}, but the training split "
                        f"has 0 to {size - 1}.")
      label = label * size + part
    found[f"{split}_label"] = label
  found["num_classes"] = np.asarray(np.prod(sizes))
  return found, {"label": {"names": names, "sizes": sizes}}


def parts_of(y: np.ndarray, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Return each label of its own, by name, where labels are several as one number; {} where they are not.

  Example: `parts_of(np.array([13]), {"label": {"names": ["digit", "speaker"], "sizes": [10, 6]}})` has digit 2 and
  speaker 1.
  """
  record = info.get("label", {})
  if len(record.get("names", ())) < 2:
    return {}
  return dict(zip(record["names"], np.unravel_index(y, tuple(record["sizes"])), strict=True))
