"""The network of a hierarchical VAE: a residual pass from images up, and one down through all layers of latents.

The pass up is deterministic. The pass down is shared by prior and posterior, as in ladder networks (Sønderby et al.,
arXiv:1602.02282) and in the top-down models of arXiv:1606.04934 and arXiv:2011.10650: a state h carries all latents so
far; each layer's prior is a function of h, its posterior of h and of the features of the same size.

A layer's latents are z = m(h) + s(h) zeta. Under the prior, zeta is standard normal whatever h is; the posterior is a
Gaussian of zeta, by its distance from the prior in the prior's own units, as in NVAE (arXiv:2007.03898, section 3.2).
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.errors import ConfigError
from gdm.latent.posteriors import LEAST_LOG_SCALE
from gdm.networks.activations import activation
from gdm.networks.convolution import Convolution
from gdm.networks.from_data import from_data
from gdm.networks.linear import Linear
from gdm.networks.upsampling import TransposedConvolution, depth_to_space
from gdm.stages import end_of_stage

HALF_GAIN = 2.0**0.5  # activations halve the second moment, about
MOST_LOG_SCALE = 2.0  # of a posterior, in the prior's units
UP = "up"  # prefix of the parameters of the pass up


class LatentLayer(NamedTuple):
  """A layer of latents, from the top down.

  Attributes:
    level: 0 for images of half the size, 1 for a quarter, and so on; the last is the vector at the top.
    rows, columns, channels: shape of its latents.
  """

  level: int
  rows: int
  columns: int
  channels: int

  @property
  def size(self) -> int:
    return self.rows * self.columns * self.channels


class Hierarchy(nn.Module):
  """Latents at several sizes of an image, and a vector of them at the top.

  Attributes:
    layers: layers of latents at half the image's size, at a quarter, and so on; 0 is none at that size.
    widths: channels of the state and the features at each of these sizes.
    latents: channels of the latents at each of these sizes.
    top_layers: layers of a vector of latents, above the images.
    top_latents: dimensions of each.
    top_width: units of the state and the features at the top.
    num_blocks: residual blocks at each size of the pass up, and after each layer of the pass down.
    activation: of all layers.
    places: height and width of the images.
    outputs: numbers that the pass down makes at each pixel.
  """

  layers: tuple[int, ...] = (1, 2)
  widths: tuple[int, ...] = (32, 48)
  latents: tuple[int, ...] = (2, 4)
  top_layers: int = 1
  top_latents: int = 32
  top_width: int = 256
  num_blocks: int = 1
  activation: str = "silu"
  places: tuple[int, ...] = from_data((2, 2))
  outputs: int = from_data(1)

  def __post_init__(self) -> None:
    checks.sizes("network.layers", self.layers, 0)
    checks.sizes("network.widths", self.widths)
    checks.sizes("network.latents", self.latents)
    if not len(self.layers) == len(self.widths) == len(self.latents):
      raise ConfigError(f"network.layers is {self.layers}, widths {self.widths} and latents {self.latents}; they must "
                        "be equally many, one for each size of the image.")
    checks.at_least("network.top_layers", self.top_layers, 0)
    for name in ("top_latents", "top_width", "num_blocks"):
      checks.at_least(f"network.{name}", getattr(self, name), 1)
    if not self.top_layers + sum(self.layers):
      raise ConfigError(f"network.layers is {self.layers} and top_layers 0; there must be at least one layer of "
                        "latents.")
    activation(self.activation)
    super().__post_init__()

  @property
  def hierarchy(self) -> tuple[LatentLayer, ...]:
    """The layers of latents, from the top down."""
    top = len(self.layers)
    found = [LatentLayer(top, 1, 1, self.top_latents)] * self.top_layers
    for level in reversed(range(top)):
      found += [LatentLayer(level, *self._sides(level), self.latents[level])] * self.layers[level]
    return tuple(found)

  def setup(self) -> None:
    levels, depth = len(self.layers), len(self.hierarchy)
    self.up_first = Convolution(self.widths[0], stride=2, size=5, name="up_first")
    self.up_blocks = [[self._block(level, f"up_block_{level}_{i}") for i in range(self.num_blocks)]
                      for level in range(levels)]
    self.up_strided = [Convolution(self.widths[level], stride=2, scale=HALF_GAIN, name=f"up_strided_{level}")
                       for level in range(1, levels)]
    if self.top_layers:
      self.up_top = Linear(self.top_width, (2.0 / self._flat)**0.5, use_bias=True, name="up_top")
    self.constant = self.param("start", nn.initializers.normal(1.0), (self.top_width,))
    self.from_context = Linear(self.top_width, use_bias=False, name="context")
    self.from_top = Linear(self._flat, (2.0 / self.top_width)**0.5, use_bias=True, name="down_top")
    self.down = [TransposedConvolution(self.widths[level], scale=HALF_GAIN, name=f"down_{level}")
                 for level in range(levels - 1)]
    places = list(enumerate(self.hierarchy))
    # Latents, and what their distributions are made of, are products within pixels: on a CPU a 3x3 convolution that
    # makes few channels, or takes few, costs nearly as much as one of many.
    self.from_state = [self._local(self._width(place.level), place.level, f"posterior_state_{i}")
                       for i, place in places]
    self.from_features = [Pointwise(self._width(place.level), name=f"posterior_features_{i}") for i, place in places]
    # At first the posterior is nearly the prior.
    self.posteriors = [Pointwise(2 * place.channels, 0.1, name=f"posterior_{i}") for i, place in places]
    self.priors = [Pointwise(2 * place.channels, 0.1, name=f"prior_{i}") for i, place in places]
    self.from_latents = [Pointwise(self._width(place.level), depth**-0.5, name=f"latents_{i}") for i, place in places]
    self.down_blocks = [[self._block(place.level, f"down_block_{i}_{j}") for j in range(self.num_blocks)]
                        for i, place in places]
    self.last = Convolution(4 * self.outputs, scale=0.1, name="last")

  def __call__(self, inputs: Float[Array, "batch height width channels"],
               context: Float[Array, "batch classes"] | None = None) -> Float[Array, "batch height width outputs"]:
    """Return what the pass down makes of posterior means: for initialization, which meets all parameters."""
    features = self.up(inputs, context)
    h = self.start(inputs.shape[0], context)
    for index in range(len(self.hierarchy)):
      h = self.enter(index, h)
      h = self.advance(index, h, self.posterior(index, h, features)[0])
    return self.finish(h)

  def up(self, inputs: Float[Array, "batch height width channels"],
         context: Float[Array, "batch classes"] | None = None) -> tuple[Float[Array, "batch _ _ _"], ...]:
    """Return the features of every size, half the image's first, and where the top has latents its own [batch, 1, 1,
    top_width]."""
    if context is not None:
      spread = jnp.broadcast_to(context[:, None, None], (*inputs.shape[:3], context.shape[-1]))
      inputs = jnp.concatenate([inputs, spread], axis=-1)
    h, features = self.up_first(inputs), []
    for level, blocks in enumerate(self.up_blocks):
      h = h if level == 0 else self.up_strided[level - 1](self._act(h))
      for block in blocks:
        h = block(h)
      features.append(h)
    if not self.top_layers:
      return tuple(features)
    top = self.up_top(self._act(h).reshape(h.shape[0], -1))
    return (*features, top[:, None, None])

  def start(self, num: int, context: Float[Array, "batch classes"] | None = None) -> Float[Array, "batch 1 1 width"]:
    """Return the state above all layers, for `num` examples."""
    h = jnp.broadcast_to(self.constant, (num, self.top_width))
    return (h if context is None else h + self.from_context(context))[:, None, None]

  def enter(self, index: int, h: Float[Array, "batch _ _ _"]) -> Float[Array, "batch _ _ _"]:
    """Return the state at the size of layer `index`; it comes from the layer above."""
    above = len(self.layers) if index == 0 else self.hierarchy[index - 1].level
    return self._descend(h, above, self.hierarchy[index].level)

  def posterior(self, index: int, h: Float[Array, "batch _ _ _"], features: tuple[Float[Array, "batch _ _ _"], ...]
                ) -> tuple[Float[Array, "batch _ _ _"], Float[Array, "batch _ _ _"]]:
    """Return mean and log-scale of zeta of layer `index`; log-scales have a smooth floor, and a smooth ceiling: a
    posterior far wider than the prior is of no use, and one step there ends in infinity."""
    told = features[self.hierarchy[index].level]
    hidden = self.from_state[index](self._act(h)) + self.from_features[index](self._act(told))
    mean, raw = jnp.split(self.posteriors[index](self._act(hidden)), 2, axis=-1)
    above_floor = LEAST_LOG_SCALE + jax.nn.softplus(raw - LEAST_LOG_SCALE)
    return mean, MOST_LOG_SCALE - jax.nn.softplus(MOST_LOG_SCALE - above_floor)

  def prior(self, index: int, h: Float[Array, "batch _ _ _"]
            ) -> tuple[Float[Array, "batch _ _ _"], Float[Array, "batch _ _ _"]]:
    """Return mean and log-scale, within 3, of z of layer `index`."""
    mean, raw = jnp.split(self.priors[index](self._act(h)), 2, axis=-1)
    return mean, 3.0 * jnp.tanh(raw / 3.0)

  def advance(self, index: int, h: Float[Array, "batch _ _ _"], zeta: Float[Array, "batch _ _ _"]
              ) -> Float[Array, "batch _ _ _"]:
    """Return the state that knows of the latents of layer `index`."""
    mean, log_scale = self.prior(index, h)
    h = h + self.from_latents[index](mean + jnp.exp(log_scale) * zeta)
    for block in self.down_blocks[index]:
      h = block(h)
    return h

  def finish(self, h: Float[Array, "batch _ _ _"]) -> Float[Array, "batch height width outputs"]:
    """Return the numbers at every pixel, from the state after the last layer."""
    h = self._descend(h, self.hierarchy[-1].level, 0)
    return depth_to_space(self.last(self._act(h)))[:, :self.places[0], :self.places[1]]

  @property
  def _flat(self) -> int:
    """Numbers of the smallest image."""
    rows, columns = self._sides(len(self.layers) - 1)
    return rows * columns * self.widths[-1]

  def _sides(self, level: int) -> tuple[int, int]:
    rows, columns = (-(-side // 2**(level + 1)) for side in self.places)
    return rows, columns

  def _width(self, level: int) -> int:
    return self.widths[level] if level < len(self.layers) else self.top_width

  def _descend(self, h: Float[Array, "batch _ _ _"], above: int, level: int) -> Float[Array, "batch _ _ _"]:
    """Return the state of one level at another, below it or the same."""
    for current in range(above, level, -1):
      rows, columns = self._sides(current - 1)
      if current == len(self.layers):
        h = self.from_top(self._act(h).reshape(h.shape[0], -1)).reshape(-1, rows, columns, self.widths[-1])
      else:
        h = self.down[current - 1](self._act(h))[:, :rows, :columns]
    return h

  def _local(self, outputs: int, level: int, name: str) -> nn.Module:
    """A 3x3 convolution, or at the top a product with a matrix."""
    kind = Pointwise if level == len(self.layers) else Convolution
    return kind(outputs, name=name)

  def _block(self, level: int, name: str) -> "ResidualLayers":
    return ResidualLayers(self._width(level), level == len(self.layers), self.activation, name=name)

  def _act(self, x: Float[Array, "batch _ _ _"]) -> Float[Array, "batch _ _ _"]:
    return activation(self.activation)(x)


class Pointwise(nn.Module):
  """A product of each pixel's channels with a matrix, and a bias.

  Attributes:
    outputs: channels it makes.
    scale: of the initial weights, normal with this over the root of what is summed.
  """

  outputs: int
  scale: float = 1.0

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch height width outputs"]:
    return Linear(self.outputs, self.scale * x.shape[-1]**-0.5, use_bias=True, name="linear")(x)


class ResidualLayers(nn.Module):
  """x and what two layers make of it, each after the activation: 3x3 convolutions, or products with matrices.

  Attributes:
    width: channels.
    pointwise: whether the layers are products.
    activation: its name.
  """

  width: int
  pointwise: bool = False
  activation: str = "silu"

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    act = activation(self.activation)
    kind = Pointwise if self.pointwise else Convolution
    h = kind(self.width, scale=HALF_GAIN, name="first")(act(x))
    return end_of_stage(x + kind(self.width, scale=0.3, name="second")(act(h)))
