"""Small sets as TensorFlow Datasets would have prepared them, written without TensorFlow."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from array_record.python.array_record_module import ArrayRecordWriter


def write_set(root: pathlib.Path, features: Any, splits: Mapping[str, Sequence[Mapping[str, Any]]],
              num_bytes: int = 1) -> pathlib.Path:
  """Write the set "toy" and return its folder.

  Args:
    root: the folder of sets.
    features: a `tfds.features.FeaturesDict`.
    splits: examples by split of TFDS.
    num_bytes: size of each split, as the set claims it.
  """
  folder = root / "toy" / "1.0.0"
  folder.mkdir(parents=True)
  features.save_config(str(folder))
  for split, examples in splits.items():
    writer = ArrayRecordWriter(str(folder / f"toy-{split}.array_record-00000-of-00001"), "group_size:1")
    for example in examples:
      writer.write(features.serialize_example(example))
    writer.close()
  infos = [{"name": split, "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "numBytes": str(num_bytes), "shardLengths": [str(len(examples))]} for split, examples in splits.items()]
  (folder / "dataset_info.json").write_text(json.dumps({
      "name": "toy", "version": "1.0.0", "fileFormat": "array_record", "splits": infos, "moduleName": "none"}))
  return folder
