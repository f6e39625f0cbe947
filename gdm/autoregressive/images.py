"""What autoregressive models of images share: the chain rule over pixels in raster order, channels innermost.

A pixel's red comes before its green, its green before its blue.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gdm.autoregressive.sequence import SequenceModel
from gdm.errors import ConfigError, SpecError


@dataclasses.dataclass(frozen=True)
class ImageModel(SequenceModel):
  """A sequence model whose network sees an image as a whole and looks before each pixel by itself.

  Its network maps images [batch, height, width, channels] and a key or None to logits [batch, height, width, channels,
  levels], and has `init_cache(num, dtype)` and `step(previous, cache, index) -> (logits, cache)`.
  """

  positive: ClassVar[tuple[str, ...]] = ()  # names of the fields that are at least 1
  widths: ClassVar[tuple[str, ...]] = ()  # those that the image's channels divide
  kernels: ClassVar[tuple[str, ...]] = ()  # those that are sizes of kernels
  rates: ClassVar[tuple[str, ...]] = ("dropout",)  # those that are dropout rates

  def __post_init__(self) -> None:
    super().__post_init__()
    self.spec.require_whole(type(self).__name__)
    if not self.spec.is_image:
      raise SpecError(f"{type(self).__name__} needs images (height, width, channels) of one or three channels; "
                      f"spec.event is {self.spec.event}.")
    height, width, channels = self.spec.event
    for name in (*self.positive, *self.widths):
      if getattr(self, name) < 1:
        raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
    for name in self.widths:
      if getattr(self, name) % channels:
        raise ConfigError(f"{name} is {getattr(self, name)}; it must be a multiple of the image's {channels} channels.")
    most = 2 * min(height, width) - 1  # the farthest taps of a larger one never see a pixel
    for name in self.kernels:
      size = getattr(self, name)
      if size < 3 or size % 2 == 0:
        raise ConfigError(f"{name} is {size}; it must be odd and at least 3.")
      if size > most:
        raise ConfigError(f"{name} is {size}, which reaches beyond images of {height} x {width}; it must be at most "
                          f"{most}.")
    for name in self.rates:
      if not 0.0 <= getattr(self, name) < 1.0:
        raise ConfigError(f"{name} is {getattr(self, name)}; a dropout rate lies in [0, 1).")

  def previous(self, x):
    """x itself: no image is shifted, the network's masks leave out what comes later."""
    return x

  def init(self, key, batch):
    del batch  # initialization sees no data
    return {"model": self.network.init(key, jnp.zeros((1, *self.spec.event), jnp.int32))["params"]}, {}

  def logits(self, params, previous, key=None):
    x = previous.reshape(-1, *self.spec.event)
    logits: Any = self.network.apply({"params": params["model"]}, x, key)
    return logits.reshape(*previous.shape, self.levels)

  def init_cache(self, params, num):
    dtype = jax.tree.leaves(params["model"])[0].dtype
    return self.network.apply({"params": params["model"]}, num, dtype, method="init_cache")

  def conditional_step(self, params, cache, x_previous, index):
    variables = {"params": params["model"]}
    logits, cache = self.network.apply(variables, x_previous, cache, index, method="step")
    return cache, logits
