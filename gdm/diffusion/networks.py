"""The networks that a diffusion model chooses among, by name.

Each is a module `(x [batch, *event], time [batch], context [batch, classes] or None) -> [batch, *event]`, whose last
axis is as many times as wide as there are outputs of each number.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError, nearest
from gdm.networks.denoising_mlp import DenoisingMLP
from gdm.networks.diffusion_transformer import DiffusionTransformer
from gdm.networks.unet import UNet


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What networks are made of; each takes what it has use for. They are fields of `gdm.diffusion.diffusion.Diffusion`.
  """

  width: int
  multipliers: tuple[int, ...]
  num_blocks: int
  attention: tuple[int, ...]
  num_heads: int
  patch: int
  hidden: tuple[int, ...]
  embedding: str
  dropout: float


# (spec, outputs of each number, width of the context, sizes) -> module
Builder = Callable[[DataSpec, int, int, Sizes], nn.Module]


def _unet(spec: DataSpec, outputs: int, context: int, sizes: Sizes) -> nn.Module:
  return UNet(outputs=outputs * _channels(spec, "unet"), width=sizes.width, multipliers=sizes.multipliers,
              num_blocks=sizes.num_blocks, attention=sizes.attention, num_heads=sizes.num_heads, context=context,
              embedding=sizes.embedding, dropout=sizes.dropout)


def _transformer(spec: DataSpec, outputs: int, context: int, sizes: Sizes) -> nn.Module:
  return DiffusionTransformer(outputs=outputs * _channels(spec, "transformer"), patch=sizes.patch, width=sizes.width,
                              num_layers=sizes.num_blocks, num_heads=sizes.num_heads, context=context,
                              embedding=sizes.embedding, dropout=sizes.dropout)


def _mlp(spec: DataSpec, outputs: int, context: int, sizes: Sizes) -> nn.Module:
  return DenoisingMLP(outputs=outputs * spec.event[-1], hidden=sizes.hidden, context=context,
                      embedding=sizes.embedding, dropout=sizes.dropout)


NETWORKS: dict[str, Builder] = {"unet": _unet, "transformer": _transformer, "mlp": _mlp}


def network(name: str, spec: DataSpec, outputs: int, context: int, sizes: Sizes) -> nn.Module:
  """The network called `name`; "auto" is a U-Net for images and a perceptron for everything else.

  Raises:
    ConfigError: the name is unknown; the nearest known one is named.
    SpecError: the network is of images and the data is not.
  """
  chosen = ("unet" if spec.is_image else "mlp") if name == "auto" else name
  if chosen not in NETWORKS:
    raise ConfigError(f"network is {name!r}; {nearest(name, (*NETWORKS, 'auto'))}")
  return NETWORKS[chosen](spec, outputs, context, sizes)


def _channels(spec: DataSpec, name: str) -> int:
  if len(spec.event) != 3:
    raise SpecError(f"network is {name!r}, which is one of images, but the data has events {spec.event}; use 'mlp'.")
  return spec.event[-1]
