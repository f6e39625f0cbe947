"""One table of bijections: what is in it is held against autodiff, inverted, and seen to learn."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from gdm.flows.bijections.autoregressive import MaskedAutoregressive
from gdm.flows.bijections.bijection import Bijection, Chain, Inverse
from gdm.flows.bijections.continuous import Continuous
from gdm.flows.bijections.coupling import (
  Alternate,
  Checkerboard,
  Coupling,
  Halves,
  Partition,
  num_outputs,
)
from gdm.flows.bijections.elementwise import Logit, ScaleShift, Standardize
from gdm.flows.bijections.linear import InvertibleLinear, LULinear
from gdm.flows.bijections.logistic_mixture import LogisticMixtureCDF
from gdm.flows.bijections.normalization import ActNorm, BatchNorm
from gdm.flows.bijections.reshaping import Reshape, Split, Squeeze, multi_scale
from gdm.flows.bijections.residual import Contraction, InvertibleResidual
from gdm.flows.bijections.transforms import Additive, Affine, ElementwiseTransform, RationalQuadratic
from gdm.flows.bijections.whitening import Whiten
from gdm.flows.convolutional_attention import ConvolutionalAttention
from gdm.networks.masked_mlp import AutoregressiveMLP
from gdm.networks.mlp import MLP
from gdm.networks.residual_convolution import PriorConvolution, ResidualConvolution


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
  return rng.normal(size=shape)


def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
  return rng.uniform(size=shape)


@dataclasses.dataclass(frozen=True)
class Case:
  """A bijection to try.

  Attributes:
    build: makes it.
    event: shape of an example; tiny, but large enough to use every weight: all of a 3x3 kernel takes 2x2 pixels.
    context: width of the context, or 0 for none.
    inputs: draws examples of a given shape [num, *event] from its domain; normal by default.
    extremes: values of examples, each filled with one of them, that it maps and inverts, finite.
    learned: whether it has parameters.
    masked: of a parameter's path and shape, which of its entries are behind a mask and never move.
  """

  build: Callable[[], Bijection]
  event: tuple[int, ...]
  context: int = 0
  inputs: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] = normal
  extremes: tuple[float, ...] = (-1e4, -50.0, 0.0, 50.0, 1e4)
  learned: bool = True
  masked: Callable[[tuple[str, ...], tuple[int, ...]], np.ndarray] | None = None


class Dense(nn.Module):
  """One hidden layer: the plainest conditioner of vectors."""

  outputs: int

  @nn.compact
  def __call__(self, x, context=None):
    x = x if context is None else jnp.concatenate([x, context], axis=-1)
    return nn.Dense(self.outputs)(jnp.tanh(nn.Dense(6)(x)))


def vector_coupling(partition: Partition, transform: ElementwiseTransform, event: tuple[int, ...] = (5,)) -> Coupling:
  return Coupling(partition, transform, Dense(num_outputs(partition, transform, event)))


def image_coupling(partition: Partition, event: tuple[int, ...], context: int = 0) -> Coupling:
  transform = Affine()
  outputs = num_outputs(partition, transform, event)
  return Coupling(partition, transform, ResidualConvolution(outputs, 4, 1, context, activation="silu"))


def small_coupling(partition: Partition, event: tuple[int, ...]) -> Coupling:
  """One convolution makes the parameters."""
  return Coupling(partition, Affine(), PriorConvolution(num_outputs(partition, Affine(), event)))


def two_scales(event: tuple[int, int, int]) -> Bijection:
  """A step of Glow at full resolution, and half of a step of what stays."""
  height, width, channels = event
  first, second = (height // 2, width // 2, 4 * channels), (height // 4, width // 4, 8 * channels)
  return multi_scale([Chain([Squeeze(), ActNorm(), LULinear(), small_coupling(Halves(), first)]),
                      Chain([Squeeze(), LULinear()])], [first, second], [PriorConvolution(4 * channels)])


def attending_coupling() -> Coupling:
  """A coupling of Flow++."""
  partition, transform = Halves(), LogisticMixtureCDF(2)
  network = ConvolutionalAttention(num_outputs(partition, transform, (2, 2, 4)), 4, 1, num_heads=2, context=2)
  return Coupling(partition, transform, network)


def spline_coupling() -> Coupling:
  partition, transform = Halves(), RationalQuadratic(2)
  num = transform.num_parameters
  return Coupling(partition, transform, MLP(num_outputs(partition, transform, (5,)), (6, 6), num, context=2,
                                            residual=True, activation="silu"))


# Fields of MaskedAutoregressive; smooth activations, so that no unit is off.
AUTOREGRESSIVE: dict[str, dict] = {
    "maf": {"ordering": "reversed"},
    "maf_context": {"context": 2, "ordering": (2, 0, 3, 1)},
    "maf_additive": {"transform": Additive()},
    "maf_residual": {"residual": True, "hidden": (6, 6, 6)},
    "autoregressive_spline": {"transform": RationalQuadratic(2), "context": 2},  # few enough bins for all to be hit
}


def autoregressive(fields: dict) -> MaskedAutoregressive:
  return MaskedAutoregressive(**{"transform": Affine(), "hidden": (6, 7), "activation": "silu", **fields})


def masked(fields: dict) -> Callable[[tuple[str, ...], tuple[int, ...]], np.ndarray]:
  """Which entries of an autoregressive network on four dimensions its masks leave out."""
  flow = autoregressive(fields)
  masks = AutoregressiveMLP(4, flow.transform.num_parameters, flow.hidden, flow.context).masks()
  return lambda path, shape: ~masks.get(path[-1], np.ones(shape, bool))


CASES: dict[str, Case] = {
    "scale_shift": Case(ScaleShift, (2, 3)),
    "standardize": Case(lambda: Standardize((1.0, -2.0, 0.5), (0.1, 1.0, 7.0)), (3,), learned=False),
    "logit": Case(Logit, (3,), inputs=uniform, extremes=(0.0, 1e-7, 0.5, 1.0 - 1e-7, 1.0), learned=False),
    "logit_sharp": Case(lambda: Logit(1e-6), (3,), inputs=uniform, extremes=(0.0, 1e-7, 1.0), learned=False),
    "linear": Case(InvertibleLinear, (2, 1, 3)),
    "linear_vector": Case(InvertibleLinear, (4,)),
    "lu_linear": Case(LULinear, (2, 1, 3)),
    "lu_linear_vector": Case(lambda: LULinear(seed=2), (4,)),
    "act_norm": Case(ActNorm, (2, 1, 3)),
    "act_norm_inverse": Case(lambda: Inverse(ActNorm()), (3,)),
    "whiten": Case(Whiten, (4,), masked=lambda path, shape: np.triu(np.ones(shape, bool), 1) if len(shape) == 2
                   else np.zeros(shape, bool)),
    "batch_norm": Case(BatchNorm, (2, 1, 3)),
    "batch_norm_plain": Case(lambda: BatchNorm(learned=False), (3,), learned=False),
    "squeeze": Case(Squeeze, (2, 4, 1), learned=False),
    "reshape": Case(lambda: Reshape((2, 2, 1)), (2, 2, 1), learned=False),
    "split": Case(lambda: Split((4, 1, 2), Chain([Reshape((4, 1, 1)), ScaleShift()])), (4, 1, 2)),
    "split_prior": Case(lambda: Split((2, 2, 2), Reshape((2, 2, 1)), conditioner=PriorConvolution(2, context=2)),
                        (2, 2, 2), context=2),
    "two_scales": Case(lambda: two_scales((4, 4, 1)), (4, 4, 1)),
    "additive_halves": Case(lambda: vector_coupling(Halves(), Additive()), (5,), context=2),
    "affine_halves_flip": Case(lambda: vector_coupling(Halves(flip=True), Affine()), (5,)),
    "affine_alternate": Case(lambda: vector_coupling(Alternate(), Affine(None)), (5,), extremes=(-50.0, 0.0, 50.0)),
    "affine_alternate_flip": Case(lambda: vector_coupling(Alternate(flip=True), Affine()), (5,), context=2),
    "checkerboard": Case(lambda: image_coupling(Checkerboard(), (3, 3, 1), 2), (3, 3, 1), context=2),
    "checkerboard_flip": Case(lambda: image_coupling(Checkerboard(flip=True), (2, 3, 2)), (2, 3, 2)),
    "channels": Case(lambda: image_coupling(Halves(), (2, 2, 4), 2), (2, 2, 4), context=2),
    "chain": Case(lambda: Chain([ActNorm(), vector_coupling(Halves(), Affine(), (3,)), LULinear(),
                                 Inverse(vector_coupling(Halves(), Affine(), (3,)))]), (3,)),
    "spline_coupling": Case(spline_coupling, (5,), context=2),
    "logistic_mixture": Case(lambda: vector_coupling(Halves(), LogisticMixtureCDF(3)), (5,), context=2),
    "continuous": Case(lambda: Continuous(MLP(3, (6,), context=3, activation="softplus"), 1e-11), (3,), context=2,
                       extremes=(-50.0, 0.0, 50.0)),
    "residual": Case(lambda: InvertibleResidual(Contraction((6,), 0.8, 2), tolerance=1e-9), (3,), context=2),
    "attending": Case(attending_coupling, (2, 2, 4), context=2),
    **{name: Case(functools.partial(autoregressive, fields), (4,), fields.get("context", 0), masked=masked(fields))
       for name, fields in AUTOREGRESSIVE.items()},
    "iaf": Case(lambda: Inverse(autoregressive({"context": 2})), (4,), context=2, masked=masked({"context": 2})),
}
