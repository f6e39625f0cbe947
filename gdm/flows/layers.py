"""Layers of flow models: couplings of vectors and of images, with the networks that condition them."""

from collections.abc import Callable, Sequence

import flax.linen as nn

from gdm import checks
from gdm.flows.bijections.bijection import Bijection, Chain
from gdm.flows.bijections.coupling import Coupling, Partition
from gdm.flows.bijections.normalization import ActNorm, BatchNorm
from gdm.flows.bijections.reshaping import Squeeze, multi_scale, squeezed
from gdm.flows.bijections.transforms import ElementwiseTransform
from gdm.networks.mlp import MLP
from gdm.networks.residual_convolution import PriorConvolution, ResidualConvolution

# Fields that give the sizes of conditioning networks, by the names that models have for them.
NETWORK_FIELDS = ("width", "num_blocks", "hidden")

NORMALIZATIONS: dict[str, Callable[[], Sequence[Bijection]]] = {
    "none": tuple, "act": lambda: (ActNorm(),), "batch": lambda: (BatchNorm(),)}


def normalization(name: str) -> Sequence[Bijection]:
  """Return a fresh normalization, or none; a ConfigError names the nearest known one."""
  checks.one_of("normalization", name, NORMALIZATIONS)
  return NORMALIZATIONS[name]()


def vector_coupling(partition: Partition, transform: ElementwiseTransform, dims: int,
                    hidden: tuple[int, ...] = (64, 64), context: int = 0, residual: bool = False,
                    activation: str = "relu", dropout: float = 0.0) -> Coupling:
  """Return a coupling of vectors whose parameters an MLP makes.

  Args:
    partition: what is seen and what moves.
    transform: of what moves.
    dims: of the vectors.
    hidden: sizes of the MLP's hidden layers.
    context: width of the context; 0 for none.
    residual: whether each hidden layer but the first adds to the one below.
    activation: of hidden units.
    dropout: rate on hidden units.

  Example:
    layer, x = vector_coupling(Halves(), RationalQuadratic(), dims=4), jax.random.normal(key, (16, 4))
    variables = layer.init(key, x)
    y, log_det = layer.apply(variables, x)
    x = layer.apply(variables, y, method="inverse").value
  """
  outputs = partition.moved((dims,))[-1] * transform.num_parameters
  return Coupling(partition, transform, MLP(outputs, hidden, transform.num_parameters, context, residual,
                                            activation, dropout))


def image_coupling(partition: Partition, transform: ElementwiseTransform, event: tuple[int, ...], width: int = 64,
                   num_blocks: int = 1, context: int = 0, activation: str = "relu", dropout: float = 0.0) -> Coupling:
  """Return a coupling of images whose parameters residual convolutions make.

  Args:
    partition: what is seen and what moves.
    transform: of what moves.
    event: of the images.
    width: channels inside of the network.
    num_blocks: its residual blocks.
    context: width of the context; 0 for none.
    activation: of hidden units.
    dropout: rate on hidden units.

  Example:
    layer = image_coupling(Checkerboard(), Affine(), event=(4, 4, 1), width=8)
    x = jax.random.normal(key, (16, 4, 4, 1))
    y, log_det = layer.apply(layer.init(key, x), x)
  """
  outputs = partition.moved(event)[-1] * transform.num_parameters
  return Coupling(partition, transform, ResidualConvolution(outputs, width, num_blocks, context, activation, dropout))


def squeezed_scales(event: tuple[int, ...], num_scales: int, before: Callable[[tuple[int, ...]], Sequence[Bijection]],
                    after: Callable[[tuple[int, ...]], Sequence[Bijection]], prior: Callable[[int], nn.Module | None]
                    ) -> Bijection:
  """Scales of images: each works on an event, squeezes it, works on that, and lets half of the channels go.

  Args:
    event: of the data.
    num_scales: how often that happens; of the last one all goes on to the base.
    before: the steps at a scale's first event.
    after: the steps at its squeezed event.
    prior: the conditioner of what leaves, for so many channels; see `Split`.
  """
  scales, events, priors = [], [], []
  for scale in range(num_scales):
    wide = squeezed(event)
    scales.append(Chain([*before(event), Squeeze(), *after(wide)]))
    events.append(wide)
    event = (*wide[:-1], wide[-1] // 2)
    if scale < num_scales - 1:
      priors.append(prior(event[-1]))
  return multi_scale(scales, events, priors)


def learned_prior(transform: ElementwiseTransform, context: int) -> Callable[[int], nn.Module]:
  """Glow's prior of what leaves, given what stays."""
  return lambda channels: PriorConvolution(channels * transform.num_parameters, context)
