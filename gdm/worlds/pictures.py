"""Small grey pictures of an environment: what gymnasium renders, cropped, shrunk and cut into few levels."""

import dataclasses

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gdm import checks
from gdm.errors import ConfigError

SIDE = 24  # of pictures of environments without a view of their own


@dataclasses.dataclass(frozen=True)
class Camera:
  """How a rendered picture becomes a small one: a part of it, in grey, shrunk by means over areas.

  Grey is the darkest of red, green and blue: what has any colour stands out from a white ground.

  Small, since a model of frames is to be trained in minutes; few levels still tell where an edge lies within a pixel,
  since a pixel that an edge crosses is grey.

  Example:
    camera = Camera(height=16, width=40, levels=8, part=(165, 325, 0, 600))
    camera.picture(rendered)  # uint8 [400, 600, 3] -> uint8 [16, 40, 1], 7 where all is white

  Attributes:
    height, width: of the small picture, in pixels.
    levels: of grey, at least 2; 0 is black.
    part: what of the rendered picture is seen: first row, row after the last, first column, column after the last;
      () sees all.
  """

  height: int = SIDE
  width: int = SIDE
  levels: int = 8
  part: tuple[int, ...] = ()

  def __post_init__(self) -> None:
    for name, least, most in (("height", 2, 256), ("width", 2, 256), ("levels", 2, 256)):
      value = getattr(self, name)
      checks.at_least(name, value, least)
      if value > most:
        raise ConfigError(f"{name} is {value}; it must be at most {most}.")

  @property
  def shape(self) -> tuple[int, int, int]:
    """Height, width and the one channel."""
    return (self.height, self.width, 1)

  def picture(self, rendered: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "_ _ 1"]:
    """Return a rendered picture [height, width, 3] as a small one. Raise ConfigError where it is smaller than that."""
    top, bottom, left, right = self.part or (0, len(rendered), 0, rendered.shape[1])
    seen = rendered[top:bottom, left:right]
    if seen.shape[0] < self.height or seen.shape[1] < self.width:
      raise ConfigError(f"the rendered picture has {seen.shape[0]} rows and {seen.shape[1]} columns in view, but the "
                        f"small one {self.height} and {self.width}; make it smaller.")
    darkest = np.minimum(np.minimum(seen[..., 0], seen[..., 1]), seen[..., 2])  # many times as fast as seen.min(axis=2)
    grey = np.asarray(Image.fromarray(darkest).resize((self.width, self.height), Image.Resampling.BOX))
    return (grey.astype(np.uint16) * self.levels // 256).astype(np.uint8)[..., None]


# Of the 400 rows of CartPole those in which the cart, its track and the pole move: the rest is white. A pixel is then
# 10 rows by 15 columns, and a cart at 1 m/s moves by a sixth of a pixel, more than a level of its edge.
VIEWS = {"CartPole-v1": Camera(16, 40, 8, (165, 325, 0, 600)),
         "Pendulum-v1": Camera(SIDE, SIDE, 8, (110, 390, 110, 390))}


def camera_of(name: str, size: str = "", levels: int = 8) -> Camera:
  """Return the camera of an environment; `size`, such as "16x40", and levels are other ones than those of its view.

  Raise ConfigError where the size is none.
  """
  view = dataclasses.replace(VIEWS.get(name, Camera()), levels=levels)
  if not size:
    return view
  parts = size.split("x")
  if len(parts) != 2 or not all(part.isdecimal() for part in parts):
    raise ConfigError(f"--size is {size!r}; it must be height and width, such as 16x40.")
  height, width = map(int, parts)
  return dataclasses.replace(view, height=height, width=width)
