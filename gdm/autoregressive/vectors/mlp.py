"""One network per variable, untied: each conditional has weights of its own (Bengio and Bengio, 1999, without sharing).

The baseline against which tied weights are measured; with n variables its first layers together hold O(n² hidden)
weights, so it suits up to a few hundred variables.
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdm import checks
from gdm.autoregressive.vectors.vector_model import OneOrderModel
from gdm.networks.activations import activation, initializer
from gdm.networks.dropout import dropout
from gdm.networks.masked import MaskedDense, dense_kernel, staircase, tile_masks
from gdm.stages import end_of_stage


@dataclasses.dataclass(frozen=True)
class UntiedMLP(OneOrderModel):
  """A multilayer perceptron per variable, of the variables before it, on binary or categorical data.

  Attributes:
    hidden: sizes of each network's hidden layers.
    activation: of the hidden units.
    dropout: rate on hidden units.
    weight_init: name of an initializer, see gdm/networks/activations.py.
  """

  hidden: tuple[int, ...] = (16,)
  activation: str = "relu"
  dropout: float = 0.0
  weight_init: str = "glorot_uniform"

  def __post_init__(self) -> None:
    super().__post_init__()
    activation(self.activation)
    initializer(self.weight_init)
    checks.sizes("hidden", self.hidden)
    checks.rate("dropout", self.dropout)

  @property
  def head(self):
    return self.make_head()

  def init_parameters(self, key):
    first_key, *keys = jax.random.split(key, len(self.hidden) + 1)
    n, columns = self.head.num_variables, self.head.num_columns
    dense, limits = self._first()
    init = initializer(self.weight_init)
    first = dense.init(first_key, jnp.zeros((1, columns)), jnp.asarray(self.layout.positions), jnp.asarray(limits))
    params = {"first": first["params"], "bias": jnp.zeros(columns)}
    sizes = (*self.hidden, self.head.width)
    for layer, layer_key in enumerate(keys):
      shape = sizes[layer:layer + 2]
      params[f"hidden_bias_{layer}"] = jnp.zeros((n, sizes[layer]))
      params[f"kernel_{layer + 1}"] = jax.vmap(lambda k, shape=shape: init(k, shape))(jax.random.split(layer_key, n))
    return params

  def output_masks(self):
    n, sizes = self.head.num_variables, (*self.hidden, self.head.width)
    dense, limits = self._first()
    masks = {"first": tile_masks(dense.tiles, self.layout.positions, limits),
             "bias": np.ones(self.head.num_columns, bool)}
    for layer, shape in enumerate(itertools.pairwise(sizes)):
      masks[f"hidden_bias_{layer}"] = np.ones((n, sizes[layer]), bool)
      masks[f"kernel_{layer + 1}"] = np.ones((n, *shape), bool)
    # A variable with fewer columns than the widest leaves its other outputs unused.
    masks[f"kernel_{len(self.hidden)}"] &= (self.layout.slots < self.head.num_columns)[:, None, :]
    return masks

  def _first(self) -> tuple[MaskedDense, np.ndarray]:
    """Return all networks' first layers side by side, and the limits of their units."""
    limits = np.repeat(np.arange(self.head.num_variables) - 1, self.hidden[0])
    return MaskedDense(self.head.num_columns, staircase(self.layout.positions, limits), self.weight_init), limits

  def outputs(self, params, inputs, key=None):
    keys = [None] * len(self.hidden) if key is None else jax.random.split(key, len(self.hidden))
    dense, limits = self._first()
    positions, limits = jax.lax.optimization_barrier((jnp.asarray(self.layout.positions), jnp.asarray(limits)))
    h: Any = dense.apply({"params": params["first"]}, inputs, positions, limits)
    h = h.reshape(-1, self.head.num_variables, self.hidden[0])
    for layer, layer_key in enumerate(keys):
      h = end_of_stage(activation(self.activation)(h + params[f"hidden_bias_{layer}"]))
      h = jnp.einsum("bvi,vio->bvo", dropout(layer_key, h, self.dropout), params[f"kernel_{layer + 1}"])
    return self.layout.flatten(jnp.moveaxis(h, 0, 2)).T + params["bias"]

  def init_cache(self, params, num):
    dense, _ = self._first()
    kernel = dense_kernel(params["model"]["first"], dense.tiles)
    kernel = jnp.moveaxis(kernel.reshape(-1, self.head.num_variables, self.hidden[0]), 1, 0)
    return {"inputs": jnp.zeros((num, self.head.num_columns)), "kernel": kernel}

  def conditional_step(self, params, cache, x_previous, index):
    """As in the base, in O(n hidden): run one network on the inputs known so far; it shares nothing with the last."""
    model = params["model"]
    rows = jnp.asarray(self.layout.previous_slots)[index]
    slots = jnp.asarray(self.layout.slots)[index]
    inputs = cache["inputs"].at[:, rows].set(self.encode_previous(model, x_previous, rows), mode="drop")
    # Inputs not known yet are zero, so the kernel needs no mask.
    h = inputs[:, :cache["kernel"].shape[1]] @ cache["kernel"][index]
    for layer in range(len(self.hidden)):
      h = activation(self.activation)(h + model[f"hidden_bias_{layer}"][index])
      h = h @ model[f"kernel_{layer + 1}"][index]
    return {**cache, "inputs": inputs}, h + model["bias"][slots]
