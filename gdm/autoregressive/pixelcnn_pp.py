"""PixelCNN++: mixtures of discretized logistics over whole pixels (Salimans et al., arXiv:1701.05517)."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gdm.autoregressive.images import ImageModel
from gdm.distributions import discretized_logistic
from gdm.distributions.discretized_logistic import Mixture
from gdm.errors import ConfigError
from gdm.networks import pixelcnn_pp_steps
from gdm.networks.pixelcnn_pp import PixelCNNPPNetwork

# As in the authors' code. Levels lie in [-1, 1]: a logistic so narrow has 97 % in one bin of 256 levels, and more with
# fewer levels. What lies far from its mean still has a finite log-probability, and gradient, in float32.
MIN_LOG_SCALE = -7.0


@dataclasses.dataclass(frozen=True)
class PixelCNNPP(ImageModel):
  """PixelCNN++: the network sees whole pixels; the order of a pixel's channels is the mixture's alone.

  Attributes:
    width: units of the down and of the right stream.
    num_blocks: residual blocks of the encoder at each resolution. The decoder has as many, and one more where there is
      a coarser one, so that every state of the encoder has a short cut.
    num_scales: resolutions; each but the first has half as many rows and columns as the one before.
    mixture_size: logistics that are mixed.
    first_size: kernel size of the first layer.
    kernel_size: of the others; with 3 they are 2 x 3 and 2 x 2 as in the paper.
    located: whether the first layer has a bias of its own for each pixel, for images that are aligned.
    input_dropout: rate on pixels as inputs: all of a pixel is dropped together.
    dropout: rate within the blocks.
  """

  width: int = 64
  num_blocks: int = 2
  num_scales: int = 2
  mixture_size: int = 10
  first_size: int = 5
  kernel_size: int = 3
  located: bool = False
  input_dropout: float = 0.0
  dropout: float = 0.0

  positive: ClassVar[tuple[str, ...]] = ("width", "num_blocks", "num_scales", "mixture_size")
  rates: ClassVar[tuple[str, ...]] = ("input_dropout", "dropout")
  kernels: ClassVar[tuple[str, ...]] = ("first_size", "kernel_size")

  def __post_init__(self) -> None:
    super().__post_init__()
    height, columns, _ = self.spec.event
    coarsest = 2**(self.num_scales - 1)
    if height % coarsest or columns % coarsest:
      raise ConfigError(f"num_scales is {self.num_scales}, for which both sides of images must be multiples of "
                        f"{coarsest}; images of {height} x {columns} are not.")

  @property
  def network(self) -> PixelCNNPPNetwork:
    height, columns, channels = self.spec.event
    outputs = discretized_logistic.num_parameters(channels, self.mixture_size)
    return PixelCNNPPNetwork((height, columns, channels), self.levels, outputs, self.width, self.num_blocks,
                             self.num_scales, self.first_size, self.kernel_size, self.located, self.input_dropout,
                             self.dropout)

  def log_probs(self, params, batch, key=None):
    real = self.real(batch)
    x = jnp.where(real, self._flatten(batch["x"]).astype(jnp.int32), 0)
    images = x.reshape(-1, *self.spec.event)
    log_probs = discretized_logistic.chain_log_probs(self.mixture(params, images, key), images, self.levels)
    log_probs = jnp.where((x >= 0) & (x < self.levels), log_probs.reshape(x.shape), jnp.nan)
    return jnp.where(real, log_probs, 0.0)

  def logits(self, params, previous, key=None):
    """As in the base; they are log-probabilities. `log_probs` has no need of all levels, which are many."""
    x = previous.reshape(-1, *self.spec.event)
    mixture = self.mixture(params, x, key)
    each = [discretized_logistic.level_log_probs(mixture, x, channel, self.levels) for channel in range(x.shape[-1])]
    return jnp.stack(each, axis=-2).reshape(*previous.shape, self.levels)

  def mixture(self, params, x, key=None) -> Mixture:
    """Each pixel's mixture given the pixels before it, of images [batch, height, width, channels] in one pass."""
    outputs: Any = self.network.apply({"params": params["model"]}, x, key)
    return self._mixture(outputs)

  def init_cache(self, params, num):
    return pixelcnn_pp_steps.init_cache(self.network, num, jax.tree.leaves(params["model"])[0].dtype)

  def conditional_step(self, params, cache, x_previous, index):
    """As in the base; the network rests while a pixel's later channels are drawn from its mixture."""
    cache = pixelcnn_pp_steps.step(self.network, {"params": params["model"]}, cache, x_previous, index)
    channel = index % self.spec.event[-1]
    mixture = self._mixture(cache.outputs)
    return cache, discretized_logistic.level_log_probs(mixture, cache.values, channel, self.levels)

  def _mixture(self, outputs):
    mixture = discretized_logistic.from_outputs(outputs, self.spec.event[-1])
    return mixture._replace(log_scales=jnp.maximum(mixture.log_scales, MIN_LOG_SCALE))
