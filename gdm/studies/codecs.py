"""Sizes of the same examples in general-purpose formats: all of them in one file, headers included."""

import bz2
import importlib
import io
import lzma
import math
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from gdm.dataspec import DataSpec
from gdm.evaluation.coding.files import Examples


def coded_sizes(examples: Examples, spec: DataSpec) -> dict[str, int]:
  """Bytes by format: zlib, bz2 and xz of the values in order, and of images PNG and WebP of one sheet.

  Binary data is packed into bits where the format knows no smaller unit than a byte: the better of both counts. JPEG XL
  is tried where the extra "jpegxl" is installed. WebP is left out of sheets that are larger than it can hold.
  """
  values = _values(examples)
  raw = [values.astype(np.uint8 if (spec.levels or 0) <= 256 else "<u4").tobytes()]
  if spec.levels == 2:
    raw.append(np.packbits(values.astype(np.uint8)).tobytes())
  sizes = {name: min(len(compress(data)) for data in raw) for name, compress in _GENERAL.items()}
  if spec.is_image and (spec.levels or 0) <= 256:
    sheet = _sheet(examples.x.astype(np.uint8), spec.levels == 2)
    sizes |= {name: _saved(sheet, **options) for name, options in _PICTURES.items()
              if max(sheet.size) <= _MOST_PIXELS.get(name, max(sheet.size))}
    if has_jpeg_xl():
      sizes["JPEG XL lossless"] = _saved(sheet.convert("RGB" if sheet.mode == "RGB" else "L"), format="JXL",
                                         lossless=True, effort=9)
  return sizes


def has_jpeg_xl() -> bool:
  """Return whether pictures can be saved as JPEG XL: by a plug-in of Pillow, which registers itself when imported."""
  try:
    importlib.import_module("pillow_jxl")
  except ImportError:
    return False
  return True


_GENERAL: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda data: zlib.compress(data, 9),
    "bz2": lambda data: bz2.compress(data, 9),
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}

_PICTURES = {
    "PNG": {"format": "PNG", "optimize": True},
    "WebP lossless": {"format": "WebP", "lossless": True, "quality": 100, "method": 6},
}

# Of a side of a picture that a format can hold. A larger sheet is left out of it: parts of one are no file of its own.
_MOST_PIXELS = {"WebP lossless": 16383}


def _values(examples: Examples) -> np.ndarray:
  """Return all real values, one example after another."""
  flat = examples.x.reshape(len(examples.x), -1)
  if examples.length is None:
    return flat.ravel()
  per_step = math.prod(examples.x.shape[2:])
  return flat[np.arange(flat.shape[1]) < per_step * examples.length[:, None]]


def _sheet(x: np.ndarray, binary: bool) -> Image.Image:
  """Return all images side by side in as good as a square, which is what formats for pictures are made for."""
  num, height, width, channels = x.shape
  columns = math.isqrt(num - 1) + 1
  rows = -(-num // columns)
  blank = np.zeros((rows * columns - num, height, width, channels), np.uint8)
  grid = np.concatenate([x, blank]).reshape(rows, columns, height, width, channels)
  sheet = grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
  if channels == 3:
    return Image.fromarray(sheet)
  return Image.fromarray(sheet[..., 0].astype(bool) if binary else sheet[..., 0])


def _saved(sheet: Image.Image, **options) -> int:
  file = io.BytesIO()
  sheet.save(file, **options)
  return len(file.getvalue())
