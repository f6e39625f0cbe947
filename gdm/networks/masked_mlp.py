"""The autoregressive conditioner of flows: a masked network with several outputs for each dimension, and a context.

MADE (Germain et al., arXiv:1502.03509) of reals, as MAF (Papamakarios et al., arXiv:1705.07057) and neural spline
flows (Durkan et al., arXiv:1906.04032) use it; the rule of the masks is that of gdm/networks/masked.py. Dimensions come
in the order of the chain rule: the outputs at position p see the context and the inputs before p.

Inside, the examples lie along the last axis. The outputs then come parameter by parameter, each one block of memory
[dimensions, batch], which is how an elementwise transform with many parameters wants them; products cost the same.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gdm import checks
from gdm.errors import SpecError
from gdm.networks.activations import activation, initializer
from gdm.networks.dropout import dropout_scale
from gdm.networks.masked import Tile, connections, dense_kernel, even_degrees, staircase
from gdm.stages import end_of_stage


class MaskedWeights(NamedTuple):
  """All that a network computes with; kernels masked, in tiles."""

  kernels: list[dict[str, Array]]  # of the hidden layers and the output; the output's parameter by parameter
  biases: list[Array]  # [units, 1 or batch] of the hidden layers; of the first with the context's part
  bias: Array  # [num_parameters, dims, 1]
  scales: list[Array]  # of dropout, [units, batch] or 1


class StepUnits(NamedTuple):
  """The units of each hidden layer that become final at one step of `AutoregressiveMLP.steps`, in a window."""

  starts: list[Array]  # of the windows
  kernels: list[Array]  # [below, window]
  output: Array  # [below, num_parameters]
  bias: Array  # [num_parameters, 1]


class MaskedWalk(NamedTuple):
  """A network one position after another. `advance(values, step) -> (values, parameters [num_parameters, batch])`.

  Values are those of the inputs [dims, batch], zero where not known yet, and of each hidden layer [units, batch].
  """

  values: list[Array]
  steps: StepUnits  # each array with a leading axis of positions, to be scanned over
  advance: Callable[[list[Array], StepUnits], tuple[list[Array], Array]]


class AutoregressiveMLP(nn.Module):
  """A masked network of `dims` dimensions in order; at first all its outputs are zero.

  Attributes:
    dims: dimensions of an example.
    num_parameters: outputs for each dimension.
    hidden: sizes of the hidden layers; one at least.
    context: width of the context, which all units see; 0 for none.
    residual: each hidden layer but the first adds to the one below; all must be of one size.
    activation: of the hidden units.
    dropout: rate on hidden units, where an rng named "dropout" is given.
    weight_init: name of an initializer of the hidden layers.
    output_scale: of the initial weights of the last layer, drawn as the others are; 0 starts at zero.
  """

  dims: int
  num_parameters: int
  hidden: tuple[int, ...] = (64, 64)
  context: int = 0
  residual: bool = False
  activation: str = "relu"
  dropout: float = 0.0
  weight_init: str = "glorot_uniform"
  output_scale: float = 0.0

  def __post_init__(self) -> None:
    checks.sizes("hidden", self.hidden)
    checks.equal_sizes("hidden", self.hidden, self.residual)
    checks.rate("dropout", self.dropout)
    activation(self.activation)
    initializer(self.weight_init)
    super().__post_init__()

  def __call__(self, x: Float[Array, "batch dims"], context: Float[Array, "batch width"] | None = None
               ) -> Float[Array, "batch dims num_parameters"]:
    """Return the parameters of every dimension."""
    weights, tiles, h = self._weights(context, x.shape[0]), self._tiles(), x.T
    for layer, bias in enumerate(weights.biases):
      h = self._hidden(layer, _products(weights.kernels[layer], tiles[layer], h) + bias, h, weights.scales[layer])
      h = end_of_stage(h.T).T
    outputs = self._outputs(weights, h) if tiles else jnp.broadcast_to(weights.bias, (*weights.bias.shape[:2], len(x)))
    return outputs.T

  def _outputs(self, weights: MaskedWeights, h: Array) -> Array:
    """Return the last layer, [num_parameters, dims, batch]; its bias is a row of the kernel.

    There are many outputs: adding to all of them, and summing their gradients, would each be a pass over memory.
    """
    parts, ones = [], jnp.ones_like(h[:1])
    for tile, kernel in zip(self._tiles()[-1], weights.kernels[-1].values(), strict=True):
      bias = weights.bias[:, tile.start // self.num_parameters:tile.stop // self.num_parameters].reshape(1, -1)
      product = _product(jnp.concatenate([kernel, bias]), jnp.concatenate([h[:tile.rows], ones]))
      parts.append(product.reshape(self.num_parameters, -1, h.shape[1]))
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)

  def steps(self, batch: int, context: Float[Array, "batch width"] | None = None) -> MaskedWalk:
    """Return the network position by position: all steps together multiply as much as one call does.

    A hidden unit that sees positions up to k is final once they are known, so that step k + 1 computes the units of
    degree k and no others: a window of the sorted units, as wide as there are units of a degree. Units of other degrees
    that fall into it are either final, and come out the same, or not yet used.
    """
    weights = self._weights(context, batch)
    dtype, sizes = weights.bias.dtype, [self.dims, *(len(degrees) for degrees in self._degrees()[1:])]
    tiles, starts, kernels = self._tiles(), [], []
    for layer, degrees in enumerate(self._degrees()[1:]):
      window = int(np.bincount(degrees + 1).max())
      first = np.minimum(np.searchsorted(degrees, np.arange(self.dims) - 1), len(degrees) - window)
      dense = _full(weights.kernels[layer], tiles[layer], sizes[layer])
      starts.append(jnp.asarray(first))
      kernels.append(jnp.moveaxis(dense[:, first[:, None] + np.arange(window)], 1, 0))
    output = jnp.zeros((self.dims, sizes[-1], self.num_parameters), dtype)
    if tiles:
      by_tile = [_full({"kernel_0": kernel}, (tile,), sizes[-1]).reshape(sizes[-1], self.num_parameters, -1)
                 for kernel, tile in zip(weights.kernels[-1].values(), tiles[-1], strict=True)]
      output = jnp.moveaxis(jnp.concatenate(by_tile, axis=-1), -1, 0)
    values = [jnp.zeros((size, batch), dtype) for size in sizes]
    steps = StepUnits(starts, kernels, output, jnp.moveaxis(weights.bias, 1, 0))

    def advance(values, step):
      new = [values[0]]
      for layer, (start, kernel) in enumerate(zip(step.starts, step.kernels, strict=True)):
        def window(rows, start=start, width=kernel.shape[1]):
          return jax.lax.dynamic_slice_in_dim(rows, start, width) if rows.ndim else rows

        made = kernel.T @ new[layer] + window(weights.biases[layer])
        below = window(new[layer]) if self.residual and layer else new[layer]
        made = self._hidden(layer, made, below, window(weights.scales[layer]))
        new.append(jax.lax.dynamic_update_slice_in_dim(values[layer + 1], made, start, axis=0))
      return new, step.output.T @ new[-1] + step.bias

    return MaskedWalk(values, steps, advance)

  def masks(self) -> dict[str, Bool[np.ndarray, "..."]]:
    """Return for each parameter under a mask the entries that the mask leaves."""
    names = [*(f"hidden_{layer}" for layer in range(len(self.hidden))), "output"]
    tiles, pairs = self._tiles(), self._pairs()
    return {f"{name}_kernel_{i}": np.asarray(connections(below[:tile.rows], limits[tile.start:tile.stop]))
            for name, layer_tiles, (below, limits) in zip(names, tiles, pairs, strict=bool(tiles))
            for i, tile in enumerate(layer_tiles)}

  def _hidden(self, layer: int, sums: Array, below: Array, scale: Array) -> Array:
    h = activation(self.activation)(sums) * scale
    return h + below if self.residual and layer else h

  def _degrees(self) -> list[np.ndarray]:
    """Return degrees of the inputs and of each hidden layer; with a context, units of degree -1 see it alone."""
    alone = 1 if self.context else 0
    num = self.dims - 1 + alone
    # One dimension without a context depends on nothing: it has no use for hidden units.
    hidden = [even_degrees(size, num) - alone for size in self.hidden] if num else []
    return [np.arange(self.dims), *hidden]

  def _pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
    """Degrees and limits of each kernel, columns as they lie; none where there are no hidden units."""
    degrees = self._degrees()
    if len(degrees) == 1:
      return []
    edges = [0, *(tile.stop // self.num_parameters for tile in self._tiles()[-1])]
    limits = [np.tile(np.arange(start, stop) - 1, self.num_parameters) for start, stop in itertools.pairwise(edges)]
    return [*itertools.pairwise(degrees), (degrees[-1], np.concatenate(limits))]

  def _tiles(self) -> list[tuple[Tile, ...]]:
    """Return the tiles of each hidden layer's kernel, then of the output's: whole dimensions each, parameter by
    parameter."""
    degrees, num = self._degrees(), self.num_parameters
    if len(degrees) == 1:
      return []
    by_dimension = staircase(degrees[-1], np.repeat(np.arange(self.dims) - 1, num))
    edges = sorted({round(tile.stop / num) for tile in by_dimension} | {0})
    rows = [max(int(np.searchsorted(degrees[-1], stop - 2, side="right")), 1) for stop in edges[1:]]
    output = tuple(Tile(row, num * start, num * stop)
                   for row, (start, stop) in zip(rows, itertools.pairwise(edges), strict=True))
    return [*(staircase(*pair) for pair in itertools.pairwise(degrees)), output]

  @nn.compact
  def _weights(self, context: Float[Array, "batch width"] | None, batch: int) -> MaskedWeights:
    width = 0 if context is None else context.shape[-1]
    if width != self.context:
      raise SpecError(f"the context has width {width}, but the network takes one of {self.context} (0 is none).")
    degrees, tiles, kernels = self._degrees(), self._tiles(), []
    for layer, (layer_tiles, (below, limits)) in enumerate(zip(tiles, self._pairs(), strict=True)):
      is_output = layer == len(tiles) - 1
      name, scale = ("output", self.output_scale) if is_output else (f"hidden_{layer}", 1.0)
      shape = (len(below), layer_tiles[-1].stop)

      def init(key, tile, shape=shape, scale=scale):
        kernel = initializer(self.weight_init)(key, shape)[:tile.rows, tile.start:tile.stop]
        return scale * kernel if scale else jnp.zeros_like(kernel)

      # The barrier keeps the compiler from folding masks it knows into constants of the kernels' size.
      seen, limits = jax.lax.optimization_barrier((jnp.asarray(below), jnp.asarray(limits)))
      masked = {}
      for i, tile in enumerate(layer_tiles):
        kernel = self.param(f"{name}_kernel_{i}", init, tile)
        mask = connections(seen[:tile.rows], limits[tile.start:tile.stop])
        masked[f"kernel_{i}"] = jnp.where(mask, kernel, 0.0)
      kernels.append(masked)
    zeros = jax.nn.initializers.zeros
    biases = [self.param(f"hidden_bias_{layer}", zeros, (len(units),))[:, None]
              for layer, units in enumerate(degrees[1:])]
    if context is not None:
      kernel = self.param("context", initializer(self.weight_init), (width, self.hidden[0]))
      biases[0] = biases[0] + kernel.T @ context.T
    bias = self.param("bias", zeros, (self.dims, self.num_parameters)).T[:, :, None]
    scales = [jnp.ones(())] * len(biases)
    if self.dropout > 0.0 and self.has_rng("dropout"):
      scales = [dropout_scale(self.make_rng("dropout"), (len(units), batch), self.dropout) for units in degrees[1:]]
    return MaskedWeights(kernels, biases, bias, scales)


def _product(kernel: Array, x: Array) -> Array:
  """kernel^T x, of x [in, batch]."""
  return jnp.einsum("ib,io->ob", x, kernel)


def _products(kernels: dict[str, Array], tiles: tuple[Tile, ...], x: Array) -> Array:
  products = [_product(kernel, x[:tile.rows]) for tile, kernel in zip(tiles, kernels.values(), strict=True)]
  return products[0] if len(products) == 1 else jnp.concatenate(products)


def _full(kernels: dict[str, Array], tiles: tuple[Tile, ...], rows: int) -> Array:
  """Return the kernel of all tiles, and of all rows below."""
  dense = dense_kernel(kernels, tiles)
  return jnp.pad(dense, ((0, rows - len(dense)), (0, 0)))
