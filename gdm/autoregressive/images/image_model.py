"""Autoregressive models of images: the chain rule over pixels in raster order, channels innermost.

A pixel's red comes before its green, its green before its blue.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from gdm import checks
from gdm.autoregressive.images.image_network import ImageNetwork
from gdm.autoregressive.images.pixels import CategoricalPixels, PixelDistribution
from gdm.autoregressive.token_model import TokenModel
from gdm.batches import condition_labels, require_no_lengths
from gdm.errors import SpecError


class ImageCache(NamedTuple):
  """The state of `ImageModel.conditional_step`.

  Attributes:
    network: of the network, for the values before the present one.
    pixel: values of the present pixel; those not known yet may be anything.
  """

  network: PyTree
  pixel: Int[Array, "batch channels"]


@dataclasses.dataclass(frozen=True)
class ImageModel(TokenModel):
  """A model of images by a network whose outputs for a pixel depend on the pixels before it.

  With `class_conditional` it is a model of images given their labels: `log_likelihood` is log p(x | y), exactly, and
  `sample` takes the labels as its condition.

  Attributes:
    spec: images of one or three channels.
    network: maps images to outputs for each pixel.
    pixels: the distribution of a pixel by these outputs.
    class_conditional: whether the model is conditional on the labels "y".

  Raises:
    ConfigError: a field of the network is out of range for such images.
    SpecError: the data is not images of integers, or has no labels where they are needed; or the network takes none.

  Example:
    model = ImageModel(DataSpec((28, 28, 1), 2), GatedPixelCNN(width=32))
    params, carry = model.init(jax.random.key(0), {"x": x})
  """

  network: ImageNetwork
  pixels: PixelDistribution = CategoricalPixels()
  class_conditional: bool = False

  def __post_init__(self) -> None:
    name = type(self.network).__name__
    levels = self.spec.require_discrete(name)
    self.spec.require_whole(name)
    if not self.spec.is_image:
      raise SpecError(f"{name} needs images (height, width, channels) of one or three channels; spec.event is "
                      f"{self.spec.event}.")
    if self.pixels.masked_channels != self.network.masked_channels:
      raise SpecError(f"{name} makes no outputs for {type(self.pixels).__name__}: channels of a pixel are "
                      f"{'masked' if self.network.masked_channels else 'not masked'} in it.")
    checks.classes(self.spec, self.class_conditional)
    from_data: dict[str, Any] = {"event": self.spec.event, "levels": levels,
                                 "outputs": self.pixels.num_outputs(self.spec.event[-1], levels)}
    if hasattr(self.network, "num_classes"):
      from_data["num_classes"] = (self.spec.num_classes or 0) if self.class_conditional else 0
    elif self.class_conditional:
      raise SpecError(f"class_conditional is True, but {name} takes no labels; set it to False, or choose "
                      "gated_pixelcnn.")
    object.__setattr__(self, "network", self.network.clone(**from_data))

  @property
  def context(self) -> int:
    return self.num_steps

  @property
  def given(self) -> tuple[str, ...]:
    return ("y",) if self.class_conditional else ()

  def init(self, key, batch):
    del batch  # initialization needs no data
    y = jnp.zeros(1, jnp.int32) if self.class_conditional else None
    return {"model": self.network.init(key, jnp.zeros((1, *self.spec.event), jnp.int32), None, y)["params"]}, {}

  def logits(self, params, x, key=None, y=None):
    images = x.reshape(-1, *self.spec.event)
    outputs: Any = self.network.apply({"params": params["model"]}, images, key, y)
    return self.pixels.logits(outputs, images, self.levels).reshape(*x.shape, self.levels)

  def log_probs(self, params, batch, key=None):
    require_no_lengths(self.spec, batch)
    real, x = self.real_tokens(batch)
    images = x.reshape(-1, *self.spec.event)
    outputs: Any = self.network.apply({"params": params["model"]}, images, key, self._labels(batch))
    return jnp.where(real, self.pixels.log_probs(outputs, images, self.levels).reshape(x.shape), 0.0)

  def conditional_cache(self, params, num, condition):
    if not self.class_conditional:
      checks.unconditional(self.network, condition)
      return self.init_cache(params, num)
    return self.init_cache(params, num, condition_labels(self, condition, num))

  def init_cache(self, params, num, y=None):
    """Return the state before the first value of `num` images; a class-conditional model needs labels y [num]."""
    if self.class_conditional and y is None:
      raise SpecError(f"{type(self.network).__name__} is class-conditional: steps need labels, which only `sample` "
                      "takes. Set class_conditional to False to complete, generate or code.")
    dtype = jax.tree.leaves(params["model"])[0].dtype
    cache = self.network.apply({"params": params["model"]}, num, dtype, y, method="init_cache")
    return ImageCache(cache, jnp.zeros((num, self.spec.event[-1]), jnp.int32))

  def conditional_step(self, params, cache, x_previous, index):
    channels = self.spec.event[-1]
    outputs, network = self.network.advance({"params": params["model"]}, cache.network, x_previous, index)
    pixel = jax.lax.dynamic_update_index_in_dim(cache.pixel, x_previous.astype(jnp.int32), (index - 1) % channels, 1)
    return ImageCache(network, pixel), self.pixels.channel_logits(outputs, pixel, index % channels, self.levels)

  def _labels(self, batch) -> Int[Array, " batch"] | None:
    if not self.class_conditional:
      return None
    checks.has_labels(batch, self.network)
    return jnp.asarray(batch["y"], jnp.int32)
