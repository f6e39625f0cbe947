"""MADE, the masked autoencoder for distribution estimation (Germain et al., arXiv:1502.03509).

One pass of a masked network gives all conditionals. With several orderings or masks (sections 4.2 and 4.3) one network
holds an ensemble of models, its *components*: each training minibatch draws one, and the model is their uniform
mixture, p(x) = 1/C sum_c p_c(x), which is a distribution. So scores are the logsumexp of the components' joint
log-probabilities, and a sample first draws its component.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from gdm import checks
from gdm.autoregressive.vectors.components import DEGREES, Components, components, slot_order
from gdm.autoregressive.vectors.heads import MixtureSettings
from gdm.autoregressive.vectors.vector_model import VectorModel, data_units, require_no_context
from gdm.batches import condition_context, context_width
from gdm.errors import ConfigError, SpecError
from gdm.model import Carry, Condition, Params, Samples
from gdm.networks.activations import activation, initializer
from gdm.networks.dropout import dropout
from gdm.networks.from_data import from_data
from gdm.networks.masked import MaskedDense, Tile, dense_kernel, staircase, tile_masks, whole
from gdm.stages import end_of_stage


class MaskedMLP(nn.Module):
  """A masked network with any number of hidden layers (section 4.2) and, on request, direct connections.

  Attributes:
    hidden: sizes of the hidden layers.
    activation: name of the hidden units' activation.
    direct: whether there are direct connections from inputs to outputs.
    dropout: rate on hidden units, in [0, 1).
    weight_init: name of an initializer, see gdm/networks/activations.py.
    num_in: number of inputs.
    num_out: number of outputs.
    tiles: tiles of each hidden layer's kernel, then of the output's.
    direct_tiles: tiles of the direct connections.
    context: width of a context that every hidden unit and output sees; 0 for none.
  """

  hidden: tuple[int, ...] = (500,)
  activation: str = "relu"
  direct: bool = False
  dropout: float = 0.0
  weight_init: str = "glorot_uniform"
  num_in: int = from_data(0)
  num_out: int = from_data(0)
  tiles: tuple[tuple[Tile, ...], ...] = from_data(())
  direct_tiles: tuple[Tile, ...] = from_data(())
  context: int = from_data(0)

  def __post_init__(self) -> None:
    checks.sizes("network.hidden", self.hidden)
    checks.rate("network.dropout", self.dropout)
    activation(self.activation)
    initializer(self.weight_init)
    super().__post_init__()

  def setup(self):
    sizes = (self.num_in, *self.hidden)
    self.layers = [MaskedDense(size, tiles, self.weight_init)
                   for size, tiles in zip(sizes[:-1], self.tiles[:-1], strict=True)]
    self.hidden_biases = [self.param(f"hidden_bias_{layer}", nn.initializers.zeros, (size,))
                          for layer, size in enumerate(self.hidden)]
    self.output = MaskedDense(sizes[-1], self.tiles[-1], self.weight_init)
    if self.direct:
      self.shortcut = MaskedDense(self.num_in, self.direct_tiles, self.weight_init, name="direct")
    self.bias = self.param("bias", nn.initializers.zeros, (self.num_out,))
    if self.context:  # outputs begin without it
      inits = [*(initializer(self.weight_init) for _ in self.hidden), nn.initializers.zeros]
      pairs = zip(inits, (*self.hidden, self.num_out), strict=True)
      self.context_kernels = [self.param(f"context_{layer}", init, (self.context, size))
                              for layer, (init, size) in enumerate(pairs)]

  def shifts(self, context: Float[Array, "batch width"] | None) -> list[Float[Array, "batch _"]]:
    """Return what a context adds to each hidden layer, and to the outputs."""
    if context is None:
      return [jnp.zeros((1, size)) for size in (*self.hidden, self.num_out)]
    return [context @ kernel for kernel in self.context_kernels]

  def __call__(self, x: Float[Array, "batch in"], degrees: Sequence[Int[Array, "_"]], limits: Int[Array, " out"],
               key: Key[Array, ""] | None = None, context: Float[Array, "batch width"] | None = None
               ) -> Float[Array, "batch out"]:
    """Return outputs, given the degrees of the inputs and of each hidden layer, the outputs' limits, and any context.

    With a key the network is in training: dropout draws from it.
    """
    keys = [None] * len(self.hidden) if key is None else jax.random.split(key, len(self.hidden))
    # The barrier keeps the compiler from folding known masks into constants of the kernels' size.
    degrees, limits = jax.lax.optimization_barrier((tuple(degrees), limits))
    h, shifts = x, self.shifts(context)
    for layer, layer_key in enumerate(keys):
      h = self.layers[layer](h, degrees[layer], degrees[layer + 1]) + self.hidden_biases[layer] + shifts[layer]
      h = end_of_stage(dropout(layer_key, activation(self.activation)(h), self.dropout))
    y = self.output(h, degrees[-1], limits) + self.bias + shifts[-1]
    return y + self.shortcut(x, degrees[0], limits) if self.direct else y


@dataclasses.dataclass(frozen=True)
class MADE(VectorModel):
  """A masked autoencoder on binary, categorical or real data.

  Component c has ordering c mod num_orderings and mask c mod num_masks, so there are as many components as the larger
  of the two, which the smaller must divide: (32, 1) is agnostic to order, (1, 32) to connectivity, (32, 32) to both.

  Attributes:
    network: the masked network.
    mixture: the mixtures that are the outputs for real data.
    num_orderings: orderings of the ensemble; with "natural" the first one is the data's own.
    num_masks: connectivities of the hidden units.
    degrees: "even" spreads the hidden units' degrees evenly, "random" draws them as the paper does.
    mask_seed: makes the masks.

  Example:
    model = MADE(DataSpec((784,), 2), network=MaskedMLP(hidden=(500, 500)), num_orderings=8)
  """

  network: MaskedMLP = MaskedMLP()
  mixture: MixtureSettings = MixtureSettings()
  num_orderings: int = 1
  num_masks: int = 1
  degrees: str = "even"
  mask_seed: int = 0

  def __post_init__(self) -> None:
    counts = sorted((self.num_orderings, self.num_masks))
    if counts[0] < 1 or counts[1] % counts[0]:
      raise ConfigError(f"num_orderings is {self.num_orderings} and num_masks {self.num_masks}; both must be at least "
                        "1, and the smaller must divide the larger.")
    checks.one_of("degrees", self.degrees, DEGREES)
    checks.at_least("mask_seed", self.mask_seed, 0)
    super().__post_init__()
    inputs, columns = self.head.num_inputs, self.head.num_columns
    tiles = [whole(*shape) for shape in itertools.pairwise((inputs, *self.network.hidden, columns))]
    direct_tiles = whole(inputs, columns)
    if self.num_components == 1:  # its mask never changes
      degrees, limits = self.components.component_degrees(0)
      tiles = [staircase(*pair) for pair in itertools.pairwise([*degrees, limits])]
      direct_tiles = staircase(degrees[0], limits)
    _ = self.components  # checks the orderings
    object.__setattr__(self, "network", self.network.clone(
        num_in=inputs, num_out=columns, tiles=tuple(tiles), direct_tiles=direct_tiles, context=context_width(self)))

  @property
  def head(self):
    return self.make_head(self.mixture)

  @property
  def context_conditional(self) -> bool:
    """Whether it is p(x | context), as where the data have a context."""
    return self.spec.context_dims > 0

  @property
  def components(self) -> Components:
    """The orderings and masks."""
    return components(self.head, self.ordering, self.ordering_seed, self.num_orderings, self.network.hidden,
                      self.degrees, self.mask_seed, self.num_masks)

  @property
  def num_components(self) -> int:
    return max(self.num_orderings, self.num_masks)

  @property
  def slot_order(self) -> tuple[int, ...]:
    """The one ordering there is, else the data's own."""
    return slot_order(self.head, self.ordering, self.ordering_seed, self.num_orderings)

  def init_parameters(self, key):
    inputs = jnp.zeros((1, self.head.num_inputs))
    context = jnp.zeros((1, self.network.context)) if self.network.context else None
    return dict(self.network.init(key, inputs, *self.components.traced_component_degrees(0), context=context)["params"])

  def output_masks(self):
    """Return the entries that take part in at least one component."""
    network = self.network
    names = [*(f"layers_{layer}" for layer in range(len(network.hidden))), "output"]
    masks: dict[str, Any] = {}
    for component in range(self.num_components):
      degrees, limits = self.components.component_degrees(component)
      pairs = itertools.pairwise([*degrees, limits])
      kernels = {name: tile_masks(tiles, *pair) for name, tiles, pair in zip(names, network.tiles, pairs, strict=True)}
      if network.direct:
        kernels["direct"] = tile_masks(network.direct_tiles, degrees[0], limits)
      masks = jax.tree.map(np.logical_or, masks, kernels) if masks else kernels
    biases = {f"hidden_bias_{layer}": np.ones(size, bool) for layer, size in enumerate(network.hidden)}
    if network.context:
      biases |= {f"context_{layer}": np.ones((network.context, size), bool)
                 for layer, size in enumerate((*network.hidden, network.num_out))}
    return {**masks, **biases, "bias": np.ones(network.num_out, bool)}

  def inputs_in_use(self):
    return np.ones(self.head.num_inputs, bool) if self.num_orderings > 1 else self.all_but_last()

  def outputs(self, params, inputs, key=None, component: int | Int[Array, ""] = 0, context=None):
    """Return outputs by slot of all variables in one component."""
    degrees, limits = self.components.traced_component_degrees(component)
    logits: Any = self.network.apply({"params": params}, inputs, degrees, limits, key, context)
    return logits

  # The mixture over components.

  def log_prob(self, params: Params, x: Num[Array | np.ndarray, "batch *event"], key: Key[Array, ""] | None = None,
               context: Float[Array, "batch width"] | None = None) -> Float[Array, " batch"]:
    """Return log p(x) in nats of the mixture; with a key, in training, of one component drawn by it."""
    if key is not None:
      component_key, key = jax.random.split(key)
      component = jax.random.randint(component_key, (), 0, self.num_components)
      return jnp.sum(self.variable_log_probs(params, x, component, key, context), axis=1)
    joint = self._by_component(
        lambda component: jnp.sum(self.variable_log_probs(params, x, component, None, context), axis=1))
    return jax.nn.logsumexp(joint, axis=0) - math.log(self.num_components)

  def variable_log_probs(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
                         component: int | Int[Array, ""] = 0,
                         key: Key[Array, ""] | None = None, context: Float[Array, "batch width"] | None = None
                         ) -> Float[Array, "batch variables"]:
    """Return the log-probability in nats of each variable given those before it, in one component."""
    head, x = self.head, self.flatten(x)
    arguments = self.prepare(params["model"], self.encode(params, x), key)
    return head.log_prob(self.in_units(params, self.outputs(*arguments, component, context)), x)

  def _by_component(self, function):
    """Return the results of all components, one after another, so that memory does not grow with their number."""
    if self.num_components == 1:
      return function(0)[None]
    return jax.lax.map(function, jnp.arange(self.num_components))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw x [num, *event], each from one component; `temperature` divides the logits of the variables.

    Raises:
      ConfigError: the temperature is not above 0.
      SpecError: a condition is given to a model without one, or missing.
    """
    self.check_sampling(temperature)
    context = condition_context(self, condition, num)
    if self.num_components == 1:
      return self.sample_by_steps(params, key, num, temperature, context)
    key, component_key = jax.random.split(key)
    chosen = jax.random.randint(component_key, (num,), 0, self.num_components)
    x, known = jnp.zeros((num, self.spec.num_dims), self.head.dtype), np.zeros(self.head.num_variables, bool)
    return self.samples(self._draw_mixture(params, key, chosen, x, known, temperature, context))

  def complete(self, params, carry, key, x, known, temperature=1.0):
    """Keep x where `known` and draw the rest given it, exactly; `known` must be a concrete array.

    Several masks under one ordering are a mixture whose weights, given what is known, follow from its probability under
    each of them.

    Raises:
      ConfigError: the temperature is not above 0.
      SpecError: there are several orderings, or `known` is not a beginning of the one.
    """
    if self.num_orderings > 1:
      raise SpecError(f"an ensemble over several orderings (num_orderings is {self.num_orderings}) cannot complete: "
                      "what is known would have to come first in each of them; use a model with num_orderings=1.")
    self.check_sampling(temperature)
    require_no_context(self)
    if self.num_components == 1:
      return self.complete_by_steps(params, key, x, known, temperature)
    given = self.known_prefix(known)
    key, component_key = jax.random.split(key)
    weights = self._by_component(lambda component: self.variable_log_probs(params, x, component)[:, given].sum(axis=1))
    chosen = jax.random.categorical(component_key, weights, axis=0)
    return self.samples(self._draw_mixture(params, key, chosen, self.flatten(x), given, temperature))

  def _draw_mixture(self, params, key, chosen, x, known, temperature, context=None):
    """Draw each example by the component chosen for it, keeping the known variables."""
    orders, known = jnp.asarray(self.components.orders), jnp.asarray(known)

    def one(component, key, x, context):
      order = orders[component]
      cache = self.init_cache(params, 1, component, context[0][None] if context else None)
      return self.draw(params, cache, key, order, self.head.split(x[None])[order], known[order], temperature)[0]

    return jax.vmap(one)(chosen, jax.random.split(key, x.shape[0]), x, () if context is None else (context,))

  # One step at a time. A hidden unit that depends on positions up to k is final once they are known: step k + 1
  # computes the units of degree k and no others, so that a whole sample costs one pass of the network, however deep.
  # Everything not known yet is zero, so that the kernels need no masks.

  def init_cache(self, params, num, component: int | Int[Array, ""] = 0, context=None):
    """Return the state of `conditional_step` before the first variable, for `num` examples of one component."""
    model, network = params["model"], self.network
    if context is None:
      require_no_context(self)
    shifts: Any = network.apply({"params": model}, context, method="shifts")
    # Kernels with a row per unit: each step reads a few rows.
    kernels = [dense_kernel(model[f"layers_{layer}"], tiles).T for layer, tiles in enumerate(network.tiles[:-1])]
    direct = [dense_kernel(model["direct"], network.direct_tiles).T] if network.direct else []
    return {"component": jnp.asarray(component), "inputs": jnp.zeros((num, network.num_in)),
            "hidden": [jnp.zeros((num, size)) for size in network.hidden], "kernels": kernels,
            "output": dense_kernel(model["output"], network.tiles[-1]).T, "direct": direct, "shifts": shifts}

  def conditional_step(self, params, cache, x_previous, index):
    """As in the base, in O(hidden): only the units that become final at this step are computed."""
    # The variable before joins the inputs.
    model, tables, component = params["model"], self.components, cache["component"]
    previous = jnp.asarray(tables.previous_slots)[component, index]
    slots = jnp.asarray(tables.slots)[component, index]
    order = jnp.asarray(tables.orders)[component]
    x_previous = self.head.standardize(data_units(params), x_previous, order[index - 1])
    inputs = below = cache["inputs"].at[:, previous].set(self.encode_previous(model, x_previous, previous), mode="drop")
    # The units that depend on no later variable are computed, layer by layer.
    hidden = []
    for layer, (kernel, values) in enumerate(zip(cache["kernels"], cache["hidden"], strict=True)):
      units = jnp.asarray(tables.units[layer])[component, index]
      shift = cache["shifts"][layer][:, units]
      new = below[:, :kernel.shape[1]] @ kernel[units].T + model[f"hidden_bias_{layer}"][units] + shift
      below = values.at[:, units].set(activation(self.network.activation)(new), mode="drop")
      hidden.append(below)
    # So are the logits, in the data's units.
    logits = below[:, :cache["output"].shape[1]] @ cache["output"][slots].T + model["bias"][slots]
    logits = logits + cache["shifts"][-1][:, slots]
    for direct in cache["direct"]:
      logits = logits + inputs[:, :direct.shape[1]] @ direct[slots].T
    logits = self.head.in_units(data_units(params), logits, order[index])
    return {**cache, "inputs": inputs, "hidden": hidden}, logits
