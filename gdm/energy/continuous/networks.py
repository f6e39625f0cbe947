"""Networks that give every example one number, its energy, at first zero; and their spectral normalization."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.model import PyTree
from gdm.networks.activations import activation
from gdm.networks.convolution import Convolution
from gdm.networks.from_data import from_data
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage

HIDDEN_KERNELS = ("hidden", "convolution")  # what spectral normalization divides; the last layer sets the scale
POWER_STEPS = 12


class QuadraticEnergy(nn.Module):
  """u' A u / 2 + b' u with a symmetric A: the energy of a Gaussian."""

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    x = x.reshape(x.shape[0], -1)
    matrix = self.param("matrix", jax.nn.initializers.zeros, (x.shape[1], x.shape[1]))
    vector = self.param("vector", jax.nn.initializers.zeros, (x.shape[1],))
    return 0.5 * jnp.sum((x @ (0.5 * (matrix + matrix.T))) * x, axis=1) + x @ vector


class MLPEnergy(nn.Module):
  """A multi-layer perceptron over the flat event.

  Attributes:
    hidden: sizes of the hidden layers.
    activation: smooth, since samplers follow the gradient.
    outputs: numbers of each example; None is one, without an axis of its own.
  """

  hidden: tuple[int, ...] = (128, 128)
  activation: str = "silu"
  outputs: int | None = from_data(None)

  def __post_init__(self) -> None:
    checks.sizes("network.hidden", self.hidden)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *outputs"]:
    # Units that bend at different places, with weights large enough to bend within the data: near zero a smooth
    # rectifier is nearly linear, and an energy that is linear in its features has no slope to begin with.
    x = x.reshape(x.shape[0], -1)
    for i, size in enumerate(self.hidden):
      init = jax.nn.initializers.normal((2.0 / x.shape[1]) ** 0.5)
      kernel = self.param(f"hidden_{i}_kernel", init, (x.shape[1], size))
      bias = self.param(f"hidden_{i}_bias", jax.nn.initializers.normal(1.0), (size,))
      x = end_of_stage(activation(self.activation)(x @ kernel + bias))
    made = Linear(self.outputs or 1, 0.0, use_bias=True, name="last")(x)
    return made[:, 0] if self.outputs is None else made


class ConvolutionalEnergy(nn.Module):
  """3x3 convolutions, each but the first at every second pixel of the one before, and a sum of what they make.

  Attributes:
    widths: channels of each.
    activation: smooth, since samplers follow the gradient.
    outputs: numbers of each example; None is one, without an axis of its own.
  """

  widths: tuple[int, ...] = (32, 64, 64)
  activation: str = "silu"
  outputs: int | None = from_data(None)

  def __post_init__(self) -> None:
    checks.sizes("network.widths", self.widths)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch *outputs"]:
    for i, width in enumerate(self.widths):
      # A smooth rectifier halves the second moment.
      made = Convolution(width, stride=1 + (i > 0), scale=1.0 if i == 0 else 2.0**0.5, name=f"convolution_{i}")(x)
      x = end_of_stage(activation(self.activation)(made))
    made = Linear(self.outputs or 1, 0.0, use_bias=True, name="last")(x.reshape(x.shape[0], -1))
    return made[:, 0] if self.outputs is None else made


def energy_network(network: nn.Module | None, spec: DataSpec, outputs: int | None) -> nn.Module:
  """Return a network made for the data: by default convolutions for images, else a perceptron.

  Args:
    network: an energy network of this file, or any module of one's own; None is the default one.
    spec: the data.
    outputs: numbers of each example; None is one, without an axis of its own.

  Raises:
    ConfigError: it makes something else than energies, or cannot have as many outputs.
    SpecError: convolutions of what are no images.
  """
  if network is None:
    network = ConvolutionalEnergy() if spec.is_image else MLPEnergy()
  if isinstance(network, QuadraticEnergy):
    if outputs is not None:
      raise ConfigError("model.network is 'quadratic', which has no logits; it must be 'mlp' or 'convolutional'.")
    return network
  if not isinstance(network, MLPEnergy | ConvolutionalEnergy):
    return _own_network(network, spec, outputs)
  if isinstance(network, ConvolutionalEnergy) and len(spec.event) != 3:
    raise SpecError(f"model.network is 'convolutional', but spec.event is {spec.event}; it must be images of "
                    "(height, width, channels).")
  return network.clone(outputs=outputs)


def _own_network(network: nn.Module, spec: DataSpec, outputs: int | None) -> nn.Module:
  """Return a module of the user's, which must give [batch] or [batch, outputs]; its field `outputs` is set, if any."""
  if any(field.name == "outputs" for field in dataclasses.fields(network)):
    network = network.clone(outputs=outputs)
  examples = jax.ShapeDtypeStruct((3, *spec.event), jnp.float32)
  found, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), examples)
  right = (3,) if outputs is None else (3, outputs)
  if getattr(found, "shape", None) != right:
    raise ConfigError(f"model.network is a {type(network).__name__}, which makes {getattr(found, 'shape', found)} of 3 "
                      f"examples of shape {spec.event}; an energy's must make {right}.")
  return network


def spectrally_normalized(params: PyTree) -> PyTree:
  """Return the parameters with the kernel of every hidden layer divided by its largest singular value, where that is
  above 1.

  (Miyato et al., arXiv:1802.05957; a convolution's kernel as the matrix [neighbourhood, outputs].) A pure function:
  power iteration starts anew from the matrix itself and needs no state, and its vectors are constants to the gradient.
  What it finds is never above the true norm.
  """

  def normalize(path, leaf):
    name = jax.tree_util.keystr(path)
    if "kernel" not in name or not any(word in name for word in HIDDEN_KERNELS):
      return leaf
    return leaf / jnp.maximum(largest_singular_value(leaf.reshape(-1, leaf.shape[-1])), 1.0)

  return jax.tree_util.tree_map_with_path(normalize, params)


def largest_singular_value(matrix: Float[Array, "rows columns"], num_steps: int = POWER_STEPS) -> Float[Array, ""]:
  """Return the spectral norm by power iteration, from below."""
  fixed = jax.lax.stop_gradient(matrix)
  small = jnp.finfo(matrix.dtype).tiny
  gram = fixed.T @ fixed if matrix.shape[0] >= matrix.shape[1] else fixed @ fixed.T
  # Of a positive matrix, the column of the longest input is never at right angles to the first singular vector's.
  vector = gram[:, jnp.argmax(jnp.diag(gram))]
  for _ in range(num_steps):
    vector = vector / (jnp.linalg.norm(vector) + small)
    vector = gram @ vector
  vector = vector / (jnp.linalg.norm(vector) + small)
  return jnp.linalg.norm(matrix @ vector if matrix.shape[0] >= matrix.shape[1] else vector @ matrix)
