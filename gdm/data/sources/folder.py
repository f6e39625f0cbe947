"""Folders of images: `folder:<path>`, with all its sub-folders, PNG, JPEG, GIF and WebP; and after "#", joined by "&":

  crop=64          the central 64 x 64 pixels of each image, as it is in the file
  resize=32        the central square of each image (of what crop leaves), made 32 x 32, bilinear and antialiased
  channels=1 | 3   grey or colour; by default colour where any file has colours
  valid, test, split    see gdm/data/partition.py

`images:<path>` is the same for images that differ in size: where they do and neither option is given, the central
square of each is made as small as the smallest side of all. `folder` takes no such decision; there it is an error.

Sub-folders named train, valid (or val, validation) and test are the splits, where train and one of the others are
there; a split that is missing is made by the rule. Sub-folders below (or of a folder without splits) are the labels,
in the order of their names: `Dataset.info["labels"]`. Files and folders whose names begin with a point are left out.

Pixels are 0 to 255. Transparent ones are blended with white, 16-bit grey is rounded to 8 bits, palettes become colours,
and an image is turned as its camera says (EXIF). Black and white images of 1 bit, where all are, have two levels.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import io
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from gdm.data import cache, partition
from gdm.data.dataset import SPLITS, Dataset
from gdm.data.sources.request import Request
from gdm.data.split import DiskSplit, Indices, MemorySplit, Rows, Split
from gdm.dataspec import DataSpec
from gdm.errors import DataError

OPTIONS = ("resize", "crop", "channels", *partition.OPTIONS)
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
MEMORY_LIMIT = 4 << 30  # bytes of all decoded images; more are left on disk, and decoded as they are read
CACHED_FROM = 2000  # files from which on decoded images are kept between runs

_DECODER = 1  # raise it where a change below makes other pixels of the same files: cached ones are then not read
_THREADS = 8  # Pillow decodes outside of Python's lock
_ORIENTATION, _SIDEWAYS = 274, (5, 6, 7, 8)  # EXIF's tag, and its values that exchange height and width
_GREY = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I")
_MODES = (*_GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


@dataclasses.dataclass(frozen=True)
class Picture:
  """An image that is not decoded yet.

  Attributes:
    name: its file, for messages.
    content: where to read it from.
    split: "train", "valid" or "test".
    label: the name of its class; None without one.
    size: height and width as it is shown, by its header.
    mode: Pillow's name for its kind of pixels.
  """

  name: str
  content: pathlib.Path | bytes
  split: str
  label: str | None
  size: tuple[int, int]
  mode: str


@dataclasses.dataclass(frozen=True)
class Form:
  """What every image is made into.

  Attributes:
    channels: 1 or 3.
    crop: side of the central square that is cut from each file; 0 for none.
    resize: side of the square that the central square of the rest becomes; 0 where sizes stay.
  """

  channels: int
  crop: int = 0
  resize: int = 0


def load(request: Request) -> Dataset:
  """Return the images of the folder, in memory or on disk, with labels where there are sub-folders.

  Raise DataError for a folder without images, a file that cannot be read, images of several sizes, files that are in no
  class or no split; each names the files.
  """
  root = pathlib.Path(request.argument)
  where = f"{request.kind}:{root}"
  pictures = _find(root, where)
  labels = sorted({picture.label for picture in pictures if picture.label is not None})
  if labels and set(labels) <= set(request.labels[1]):  # some of the classes that a trained model knows
    labels = list(request.labels[1])
  return from_pictures(pictures, labels, request, where, root.resolve().name)


def from_pictures(pictures: Sequence[Picture], labels: Sequence[str], request: Request, where: str,
                  name: str) -> Dataset:
  """Return the set of images, decoded.

  Args:
    pictures: the images, each with its split; of "train" alone the rule makes the others.
    labels: names of the classes in order; of a single one there are no labels.
    request: with the options `OPTIONS`.
    where: the subject of messages.
    name: of the set, in results.

  Raise DataError naming an image that cannot be read, or two of different sizes.
  """
  form, event, why = _form(pictures, request, where)
  is_binary = all(picture.mode == "1" for picture in pictures) and not form.resize
  in_memory = len(pictures) * int(np.prod(event)) <= MEMORY_LIMIT
  info: dict[str, Any] = {"source": request.argument, "files": len(pictures),
                          "levels": "images of 1 bit" if is_binary else why}
  y = {}
  if len(labels) > 1:
    places = {label: i for i, label in enumerate(labels)}
    y["y"] = np.array([places[str(picture.label)] for picture in pictures], np.int32)
    info["labels"] = list(labels)
  of_split = np.array([picture.split for picture in pictures])
  if in_memory:
    x = _pixels(pictures, form, event)
    rows = {"x": x // 255 if is_binary else x, **y}
    parts = {split: {entry: values[of_split == split] for entry, values in rows.items()}
             for split in SPLITS if split in of_split}
    found, info["split"] = partition.complete(parts, request, where)
    splits: Mapping[str, Split] = {split: MemorySplit(rows) for split, rows in found.items()}
  else:
    splits, info["split"] = _on_disk(pictures, functools.partial(_read, form=form, event=event, divisor=254 * is_binary
                                                                 + 1), of_split, y, request, where)
  spec = DataSpec(event, 2 if is_binary else 256, num_classes=len(labels) if len(labels) > 1 else None)
  return Dataset(f"{request.kind}:{name}{request.shown}", spec, splits, info)


def _on_disk(pictures: Sequence[Picture], read: Callable[[Sequence[Picture]], np.ndarray],
             of_split: Shaped[np.ndarray, " pictures"], y: Mapping[str, np.ndarray], request: Request,
             where: str) -> tuple[dict[str, Split], str]:
  """Return splits that decode their images as they are read, and the rule by which they were made.

  All are decoded once for their hashes, which say the split of each; the hashes are kept between runs.
  """
  def hashes() -> dict[str, np.ndarray]:
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      found = pool.map(lambda picture: partition.digests_of(read([picture]))[0], pictures)
      return {"sha256": np.frombuffer(b"".join(found), np.uint8).reshape(-1, 32)}

  facts = repr((_DECODER, read.keywords if isinstance(read, functools.partial) else "",
                [_facts(picture) for picture in pictures]))
  digests = cache.cached(f"hashes-{hashlib.sha256(facts.encode()).hexdigest()[:32]}", hashes)["sha256"]
  names, rule = partition.complete_names(of_split, digests, request, where)
  splits: dict[str, Split] = {}
  for split in (split for split in SPLITS if (names == split).any()):
    rows = np.flatnonzero(names == split)

    def serve(examples: Indices, rows: np.ndarray = rows) -> Rows:
      mine = rows[examples]
      return {"x": read([pictures[i] for i in mine]), **{key: values[mine] for key, values in y.items()}}

    content = hashlib.sha256(digests[rows].tobytes()).hexdigest()
    splits[split] = DiskSplit(f"{where}, split {split}", len(rows), ("x", *y), serve, content=content)
  return splits, rule


def _read(pictures: Sequence[Picture], form: Form, event: tuple[int, int, int],
          divisor: int) -> UInt8[np.ndarray, "pictures height width channels"]:
  """Return images, decoded; pixels of 1 bit are divided by 255."""
  x = np.empty((len(pictures), *event), np.uint8)
  for i, picture in enumerate(pictures):
    with _opened(picture.name, picture.content) as image:
      x[i] = to_pixels(image, form)
  return x // divisor if divisor > 1 else x


def to_pixels(image: Image.Image, form: Form) -> UInt8[np.ndarray, "height width channels"]:
  """Return an image as pixels, in the size that crop and resize leave.

  Raise ValueError for what is no still image of a known kind, or smaller than the crop.
  """
  image = _flat(ImageOps.exif_transpose(image), form.channels)
  if form.crop:
    if form.crop > min(image.size):
      raise ValueError(f"it has {_words((image.height, image.width))} pixels, less than crop={form.crop}")
    image = image.crop(_central(image, form.crop))
  if form.resize and image.size != (form.resize, form.resize):
    image = image.crop(_central(image, min(image.size)))  # resize's own box lets what is outside of it in
    image = image.resize((form.resize, form.resize), Image.Resampling.BILINEAR)
  return np.asarray(image).reshape(image.height, image.width, form.channels)


def _find(root: pathlib.Path, where: str) -> list[Picture]:
  """Return all images below the root in the order of their paths, each with its split and label."""
  if not root.is_dir():
    fault = "is a file, where a folder is wanted" if root.is_file() else "does not exist"
    raise DataError(f"{where}: folder {str(root)!r} {fault}; name it by data.path or folder:<path>.")
  inside = sorted((path.relative_to(root) for path in root.rglob("*") if path.is_file()), key=lambda path: path.parts)
  inside = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
  paths = [path for path in inside if path.suffix.lower() in SUFFIXES]
  if not paths:
    others = collections.Counter(path.suffix or path.name for path in inside).most_common(3)
    have = ", ".join(f"{num} {suffix}" for suffix, num in others) or "no files"
    raise DataError(f"{where} holds no images; they end in {', '.join(SUFFIXES)}, and there is: {have}.")
  splits = _splits_of(paths, where)
  places = [(path, splits.get(path.parts[0], "train"), path.parts[1:] if path.parts[0] in splits else path.parts)
            for path in paths]
  labels = [rest[0] if len(rest) > 1 else None for _, _, rest in places]
  if None in labels and any(labels):
    lone, labelled = paths[labels.index(None)], next(path for path, label in zip(paths, labels, strict=True) if label)
    raise DataError(f"{where}: {lone} is in no sub-folder, but {labelled} is; the names of sub-folders are the labels, "
                    "and all images need one, or none.")
  return with_headers([(str(root / path), root / path, split, label)
                       for (path, split, _), label in zip(places, labels, strict=True)])


def with_headers(found: Sequence[tuple[str, pathlib.Path | bytes, str, str | None]]) -> list[Picture]:
  """Return pictures of (name, content, split, label), whose headers are read. Raise DataError where one cannot be."""
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    headers = list(pool.map(lambda each: _header(*each[:2]), found))
  return [Picture(*each, *header) for each, header in zip(found, headers, strict=True)]


def _splits_of(paths: Sequence[pathlib.Path], where: str) -> Mapping[str, str]:
  """Return the split of each sub-folder that is one; {} where there are none."""
  folders = {path.parts[0] if len(path.parts) > 1 else "" for path in paths}
  found = {folder: SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in SPLIT_NAMES}
  if "train" not in found.values() or len(found) < 2:
    return {}
  if len(set(found.values())) < len(found):
    raise DataError(f"{where} has the sub-folders {', '.join(sorted(found))}, two of which are one split; keep one.")
  if others := sorted(folders - found.keys()):
    raise DataError(f"{where} has the splits {', '.join(sorted(found))}, and beside them images in "
                    f"{others[0] or 'no sub-folder'!r}; put all images into the splits.")
  return found


def _header(name: str, content: pathlib.Path | bytes) -> tuple[tuple[int, int], str]:
  """Return height and width, and the mode, of an image."""
  with _opened(name, content) as image:
    if getattr(image, "is_animated", False) and image.format not in ("JPEG", "MPO"):
      raise ValueError(f"it is an animation of {getattr(image, 'n_frames', 0)} frames; save the one that you mean")
    if image.mode not in _MODES:
      raise ValueError(f"its pixels are of kind {image.mode!r}; save it as grey or RGB of 8 bits")
    width, height = image.size
    sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    return ((width, height) if sideways else (height, width)), image.mode


@contextlib.contextmanager
def _opened(name: str, content: pathlib.Path | bytes) -> Iterator[Image.Image]:
  """Open an image; whatever goes wrong becomes a DataError that names it."""
  try:
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
      yield image
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
    raise DataError(f"image {name} cannot be read: {error}; mend it or take it out of the set.") from error


def _form(pictures: Sequence[Picture], request: Request, where: str) -> tuple[Form, tuple[int, int, int], str]:
  """Return what images are made into, their shape then, and where their 256 levels come from."""
  grey = all(picture.mode in _GREY for picture in pictures)
  channels = int(request.choice("channels", ("1", "3"), "1" if grey else "3"))
  crop, resize = request.integer("crop", minimum=1), request.integer("resize", minimum=1)
  deep = sum(picture.mode.startswith("I") for picture in pictures)
  why = f"8-bit images, {deep} of them rounded from 16 bits" if deep else "8-bit images"
  sizes = [(crop, crop) if crop else picture.size for picture in pictures]
  first = sizes[0]
  other = next((i for i, size in enumerate(sizes) if size != first), None)
  if other is not None and not resize:
    if request.kind != "images":
      raise DataError(f"{where}: {pictures[0].name} has {_words(first)} pixels, {pictures[other].name} has "
                      f"{_words(sizes[other])}; #resize=32 makes all of them 32 x 32, #crop=32 takes their central "
                      "32 x 32 pixels.")
    resize = min(min(size) for size in sizes)
    why += f", of several sizes, resized to the smallest side of all, {resize}"
  height, width = (resize, resize) if resize else first
  return Form(channels, crop, resize), (height, width, channels), why


def _pixels(pictures: Sequence[Picture], form: Form,
            event: tuple[int, int, int]) -> UInt8[np.ndarray, "pictures *event"]:
  """Return all images, decoded once and kept between runs where they are many."""
  if len(pictures) < CACHED_FROM:
    return _decoded(pictures, form, event)["x"]
  facts = repr((_DECODER, form, [_facts(picture) for picture in pictures]))
  key = f"folder-{hashlib.sha256(facts.encode()).hexdigest()[:32]}"
  return cache.cached(key, functools.partial(_decoded, pictures, form, event))["x"]


def _decoded(pictures: Sequence[Picture], form: Form, event: tuple[int, int, int]) -> dict[str, np.ndarray]:
  x = np.empty((len(pictures), *event), np.uint8)

  def read(i: int) -> None:
    with _opened(pictures[i].name, pictures[i].content) as image:
      x[i] = to_pixels(image, form)

  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    list(pool.map(read, range(len(pictures))))
  return {"x": x}


def _flat(image: Image.Image, channels: int) -> Image.Image:
  """Return an image of 8 bits in grey or colours, blended with white where it is transparent."""
  mode = "L" if channels == 1 else "RGB"
  if image.mode.startswith("I"):
    levels = np.clip(np.asarray(image).astype(np.float64), 0, 65535)
    image = Image.fromarray(np.rint(levels / 257.0).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
  return image if image.mode == mode else image.convert(mode)


def _central(image: Image.Image, side: int) -> tuple[int, int, int, int]:
  left, top = (image.width - side) // 2, (image.height - side) // 2
  return left, top, left + side, top + side


def _facts(picture: Picture) -> tuple[str, int | str, int]:
  """Return what tells one content from another: a path with its size and time, or a hash."""
  if isinstance(picture.content, bytes):
    return picture.name, hashlib.sha256(picture.content).hexdigest(), 0
  stat = picture.content.stat()
  return str(picture.content.resolve()), stat.st_size, stat.st_mtime_ns


def _words(size: tuple[int, int]) -> str:
  """Return height and width in words."""
  return f"{size[0]} x {size[1]}"
