"""Gated PixelCNN: two stacks of gated convolutions, and no blind spot (van den Oord et al., arXiv:1606.05328)."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gdm.autoregressive.images import ImageModel
from gdm.autoregressive.sequence import log_prob_of
from gdm.batches import checked, require_labels
from gdm.errors import SpecError
from gdm.inference.ancestral import ancestral
from gdm.inference.generation import Choice
from gdm.model import Samples
from gdm.networks.gated_pixelcnn import GatedPixelCNNNetwork


@dataclasses.dataclass(frozen=True)
class GatedPixelCNN(ImageModel):
  """Gated PixelCNN with a categorical distribution of each value.

  With `class_conditional` it is a model of images given their labels (section 2.3): `log_likelihood` is log p(x | y)
  and `sample` takes the labels as its condition.

  Attributes:
    width: units of the vertical and of the horizontal stack.
    skip_width: units of the sum that all layers add to, and of the layer after it.
    num_layers: layers.
    first_size: kernel size of the first layer, which has mask A.
    kernel_size: of the others, which have mask B.
    located: whether the first layer has a bias of its own for each pixel, for images that are aligned.
    class_conditional: whether it is conditional on the labels "y".
    input_dropout: rate on pixels as inputs: all of a pixel is dropped together.
    dropout: rate on what the gates let through.
  """

  width: int = 64
  skip_width: int = 128
  num_layers: int = 8
  first_size: int = 7
  kernel_size: int = 3
  located: bool = False
  class_conditional: bool = False
  input_dropout: float = 0.0
  dropout: float = 0.0

  positive: ClassVar[tuple[str, ...]] = ("num_layers",)
  widths: ClassVar[tuple[str, ...]] = ("width", "skip_width")
  rates: ClassVar[tuple[str, ...]] = ("input_dropout", "dropout")
  kernels: ClassVar[tuple[str, ...]] = ("first_size", "kernel_size")

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.class_conditional and not self.spec.num_classes:
      raise SpecError("class_conditional is True, but the data has no labels (spec.num_classes is None); set it to "
                      "False, or choose data with labels.")

  @property
  def network(self) -> GatedPixelCNNNetwork:
    height, columns, channels = self.spec.event
    num_classes = (self.spec.num_classes or 0) if self.class_conditional else 0
    return GatedPixelCNNNetwork((height, columns, channels), self.levels, self.width, self.skip_width, self.num_layers,
                                self.first_size, self.kernel_size, self.located, num_classes, self.input_dropout,
                                self.dropout)

  def init(self, key, batch):
    y = jnp.zeros(1, jnp.int32) if self.class_conditional else None
    return {"model": self.network.init(key, jnp.zeros((1, *self.spec.event), jnp.int32), None, y)["params"]}, {}

  def log_probs(self, params, batch, key=None):
    if not self.class_conditional:
      return super().log_probs(params, batch, key)
    x = jnp.asarray(batch["x"], jnp.int32)
    logits: Any = self.network.apply({"params": params["model"]}, x, key, self._labels(batch))
    return log_prob_of(logits, x).reshape(len(x), -1)

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    """Exact: log p(x), or log p(x | y) where the model is class-conditional."""
    likelihood = super().log_likelihood(params, carry, batch, key, num_samples)
    given = ("y",) if self.class_conditional else ()
    return checked(self.spec, batch, dataclasses.replace(likelihood, given=given))

  def sample(self, params, carry, key, num, condition=None, temperature=1.0, top_k=None, top_p=1.0):
    """As in the base; the condition of a class-conditional model is labels [num], or one label for all.

    Raises:
      ConfigError: an option outside its range.
      SpecError: a condition is given or missing against `class_conditional`, or is no label.
    """
    if not self.class_conditional:
      return super().sample(params, carry, key, num, condition, temperature, top_k, top_p)
    if condition is None:
      raise SpecError(f"{type(self).__name__} is class-conditional; condition must be labels [{num}].")
    require_labels(self.spec, condition)
    choice, y = Choice(temperature, top_k, top_p), self._labels({"y": jnp.broadcast_to(condition, (num,))})

    def step(cache, previous, index):
      return self.conditional_step(params, cache, previous, index)

    forced = jnp.zeros((self.num_steps, num), jnp.int32)
    x = ancestral(step, lambda key, logits, index: choice.draw(key, logits), self.init_cache(params, num, y), key,
                  forced, np.zeros(self.num_steps, bool)).T
    return Samples(x.reshape(-1, *self.spec.event), {"nfe": self.num_steps})

  def init_cache(self, params, num, y=None):
    """As in the base; a class-conditional model needs labels y [num]."""
    if self.class_conditional and y is None:
      raise SpecError(f"{type(self).__name__} is class-conditional: steps need labels, which only `sample` takes. Set "
                      "class_conditional to False to complete, generate or code.")
    dtype = jax.tree.leaves(params["model"])[0].dtype
    return self.network.apply({"params": params["model"]}, num, dtype, y, method="init_cache")

  def conditional_step(self, params, cache, x_previous, index):
    """As in the base; the vertical stack takes a whole row at its first value, and rests until the next."""
    _, columns, channels = self.spec.event
    variables, network = {"params": params["model"]}, self.network
    known: Any = network.apply(variables, x_previous, cache, index, method="put")
    rows, above = jax.lax.cond(
        index % (columns * channels) == 0,
        lambda cache: network.apply(variables, cache, index, method="begin_row"),
        lambda cache: (cache.rows, cache.above), known)
    logits, cache = network.apply(variables, known._replace(rows=rows, above=above), index, method="step")
    return cache, logits

  def _labels(self, batch):
    if "y" not in batch:
      raise SpecError(f"{type(self).__name__} is class-conditional; the batch must have labels y.")
    return jnp.asarray(batch["y"], jnp.int32)
