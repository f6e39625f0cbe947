"""Images of a set of TensorFlow Datasets: `tfds:mnist`, `tfds:downsampled_imagenet/32x32`, in memory or on disk.

Sets whose decoded images fit in `MEMORY_LIMIT` are decoded once and cached; larger ones stay on disk. Images of varying
shape, or to be made smaller while they are read, take a size: `tfds:oxford_flowers102#resize=64` crops the central
square and resizes it.
"""

import functools
import hashlib
import io
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gdm.data import cache
from gdm.data.dataset import SPLITS, Dataset
from gdm.data.initial import sample_examples
from gdm.data.sources.request import Request
from gdm.data.sources.tfds_prepared import Part, Prepared, blaming, parts_of
from gdm.data.split import DiskSplit, MemorySplit, Rows, Split
from gdm.dataspec import DataSpec
from gdm.errors import DataError

OPTIONS = ("resize",)
MEMORY_LIMIT = 2 << 30  # bytes of all decoded splits together
_DECODER = 1  # raise it where a change below makes other pixels of the same bytes: cached ones are then not read
_PROBE = 1000  # examples of a set on disk, drawn at random, that are looked at to see whether it is binary


def load(prepared: Prepared, request: Request, memory_limit: int = MEMORY_LIMIT) -> Dataset:
  """Return the set, in memory or on disk. Raise DataError where it is damaged, or its images are not of one kind."""
  import tensorflow_datasets as tfds  # here, since importing it takes a quarter of a second

  directory, where = prepared.directory, prepared.where
  features: Any = prepared.builder.info.features
  image, label = _features(features, tfds.features, where)
  with blaming(where, prepared.hint):
    # images come as encoded bytes: decoding is ours, since that of TFDS differs with the libraries installed
    sources: Any = prepared.builder.as_data_source(decoders={image: tfds.decode.SkipDecoding()})
  shape = _shape(tuple(features[image].shape), request, where)
  parts, rule = parts_of({name: len(source) for name, source in sources.items()}, where)
  read = functools.partial(_read, image=image, label=label, shape=shape, where=where,
                           resize="resize" in request.options)
  readers = {name: functools.partial(read, sources[part.split], part.start) for name, part in parts.items()}
  in_memory = sum(part.num for part in parts.values()) * math.prod(shape) <= memory_limit
  splits: Mapping[str, Split]
  if in_memory:
    splits = {name: MemorySplit(cache.cached(_cache_key(prepared, name, part, shape),
                                             functools.partial(readers[name], np.arange(part.num))))
              for name, part in parts.items()}
  else:
    keys = ("x",) if label is None else ("x", "y")
    content = _content(directory)
    splits = {name: DiskSplit(f"{where}, split {name}", part.num, keys, readers[name], content=f"{content} {part}")
              for name, part in parts.items()}
  probe = sample_examples(parts["train"].num, parts["train"].num if in_memory else _PROBE)
  binary = splits["train"].rows(probe)["x"].max() <= 1
  spec = DataSpec(event=shape, levels=2 if binary else 256,
                  num_classes=None if label is None else features[label].num_classes)
  name = f"tfds:{request.argument}" + (f"#resize={shape[0]}" if "resize" in request.options else "")
  why = f"no pixel of {len(probe)} training images is above 1" if binary else "uint8 images"
  return Dataset(name, spec, {name: splits[name] for name in SPLITS},
                 {**prepared.facts, "in_memory": in_memory, "levels": why, **rule})


def _content(directory: pathlib.Path) -> str:
  """Return the digest of all files of a prepared set; each is read once, then known by its path, size and time."""
  digests = []
  for file in sorted(path for path in directory.iterdir() if path.is_file()):
    facts = repr((str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns))
    key = f"sha256-{hashlib.sha256(facts.encode()).hexdigest()[:32]}"
    digest = cache.cached(key, functools.partial(_file_digest, file))["sha256"]
    digests.append(f"{file.name} {digest.tobytes().hex()}")
  return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _file_digest(file: pathlib.Path) -> dict[str, np.ndarray]:
  with file.open("rb") as opened:
    return {"sha256": np.frombuffer(hashlib.file_digest(opened, "sha256").digest(), np.uint8)}


def _cache_key(prepared: Prepared, name: str, part: Part, shape: tuple[int, ...]) -> str:
  """Name one decoded split: where it came from, which files were there, and what was made of them."""
  facts = repr((_DECODER, *prepared.files, part, shape))
  return f"tfds-{prepared.directory.parent.name}-{name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def _features(features: Any, kinds: Any, where: str) -> tuple[str, str | None]:
  """Return the names of the image and of the class label, or None without one."""
  images = [name for name, feature in features.items() if isinstance(feature, kinds.Image)]
  labels = [name for name, feature in features.items() if isinstance(feature, kinds.ClassLabel)]
  image = "image" if "image" in images else images[0]
  if features[image].np_dtype != np.uint8:
    raise DataError(f"{where}: {image!r} has dtype {np.dtype(features[image].np_dtype)}; only uint8 images are read.")
  return image, "label" if "label" in labels else (labels[0] if labels else None)


def _shape(shape: tuple[int | None, ...], request: Request, where: str) -> tuple[int, ...]:
  """(height, width, channels) as served."""
  height, width, channels = shape
  if channels not in (1, 3):
    raise DataError(f"{where}: its images have {channels} channels; 1 or 3 are read.")
  if "resize" in request.options:
    size = request.integer("resize", minimum=1)
    return (size, size, channels)
  if height is None or width is None:
    raise DataError(f"{where}: its images vary in shape; ask for one, as tfds:{request.argument}#resize=64.")
  return (height, width, channels)


def _read(source: Any, start: int, examples: np.ndarray, *, image: str, label: str | None,
          shape: tuple[int, ...], resize: bool, where: str) -> Rows:
  """Return the decoded rows of these examples of a TFDS data source, counted from `start`."""
  x = np.empty((len(examples), *shape), np.uint8)
  try:
    records = source.__getitems__([start + int(i) for i in examples])
    for row, record in zip(x, records, strict=True):
      row[...] = _decode(record[image] or b"", shape, resize)  # of an empty record, which is no image either
  except (ValueError, RuntimeError, OSError, IndexError, SyntaxError) as error:  # PIL tells of a broken PNG by the last
    raise DataError(f"{where} is damaged: {error}") from error
  return {"x": x} if label is None else {"x": x, "y": np.array([record[label] for record in records], np.int32)}


def _decode(encoded: bytes, shape: tuple[int, ...], resize: bool) -> np.ndarray:
  """One image of this shape [height, width, channels] from its PNG or JPEG bytes."""
  from PIL import Image

  height, width, channels = shape
  with Image.open(io.BytesIO(encoded)) as image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
      image = image.convert(mode)
    if resize:
      side = min(image.size)
      left, top = (image.width - side) // 2, (image.height - side) // 2
      image = image.resize((width, height), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return np.asarray(image).reshape(shape)
