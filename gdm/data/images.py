"""Resizing and cropping of image arrays, in numpy."""

import numpy as np
from jaxtyping import Float, Num


def resize_weights(old: int, new: int) -> Float[np.ndarray, "{new} {old}"]:
  """Return the matrix of bilinear interpolation along one axis, antialiased (a triangle as wide as the shrinking asks).

  Rows sum to one; pixels are squares, so that pixel i of `new` is centred at (i + 1/2) old / new.
  """
  scale = old / new
  support = max(scale, 1.0)
  center = (np.arange(new)[:, None] + 0.5) * scale
  weights = np.maximum(0.0, 1 - np.abs(np.arange(old) + 0.5 - center) / support)
  return weights / weights.sum(axis=1, keepdims=True)


def resize(x: Num[np.ndarray, "batch height width channels"],
           size: int) -> Float[np.ndarray, "batch {size} {size} channels"]:
  """Images resized to size x size, in floating point; a side ratio other than one is not kept."""
  _, height, width, _ = x.shape
  rows, columns = (resize_weights(n, size).astype(np.float32) for n in (height, width))
  return np.einsum("ih,bhwc,jw->bijc", rows, x.astype(np.float32), columns, optimize=True)


def center_crop(x: Num[np.ndarray, "batch height width channels"],
                size: int) -> Num[np.ndarray, "batch {size} {size} channels"]:
  """Return the central size x size of the images."""
  _, height, width, _ = x.shape
  top, left = (height - size) // 2, (width - size) // 2
  return x[:, top:top + size, left:left + size]
