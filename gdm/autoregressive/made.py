"""MADE, the masked autoencoder for distribution estimation (Germain et al., arXiv:1502.03509).

One pass of a masked network gives all conditionals. With several orderings or masks (sections 4.2 and 4.3) one network
holds an ensemble of models, its *components*: each training minibatch draws one, and the model is their uniform
mixture, p(x) = 1/C sum_c p_c(x), which is a distribution. So scores are the logsumexp of the components' joint
log-probabilities, and a sample first draws its component.
"""

import dataclasses
import itertools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from gdm.autoregressive.base import Autoregressive, units_of
from gdm.autoregressive.components import DEGREES, Components, components
from gdm.autoregressive.heads import MixtureSettings
from gdm.autoregressive.layout import Layout
from gdm.errors import ConfigError, SpecError, nearest
from gdm.model import Carry, Params, Samples
from gdm.networks.activations import activation, initializer
from gdm.networks.masked import MaskedMLP, dense_kernel, staircase, tile_masks, whole


@dataclasses.dataclass(frozen=True)
class MADE(Autoregressive):
  """A masked autoencoder on binary, categorical or real data.

  Component c has ordering c mod num_orderings and mask c mod num_masks, so there are as many components as the larger
  of the two, which the smaller must divide: (32, 1) is agnostic to order, (1, 32) to connectivity, (32, 32) to both.

  Attributes:
    hidden: sizes of the hidden layers.
    activation: of the hidden units.
    direct: direct connections from inputs to outputs.
    num_orderings: orderings of the ensemble; with "natural" the first one is the data's own.
    num_masks: connectivities of the hidden units.
    degrees: "even" spreads the hidden units' degrees evenly, "random" draws them as the paper does.
    mask_seed: makes the masks.
    dropout: rate on hidden units.
    weight_init: name of an initializer, see gdm/networks/activations.py.
    mixture_size, mixture_weights, scale_floor: of the mixtures that are the outputs for real data; see
      gdm.autoregressive.heads.MixtureSettings.
  """

  hidden: tuple[int, ...] = (500,)
  activation: str = "relu"
  direct: bool = False
  num_orderings: int = 1
  num_masks: int = 1
  degrees: str = "even"
  mask_seed: int = 0
  dropout: float = 0.0
  weight_init: str = "glorot_uniform"
  mixture_size: int = 10
  mixture_weights: str = "free"
  scale_floor: float = 1.0

  rates: ClassVar[tuple[str, ...]] = ("dropout", "input_dropout")

  def __post_init__(self) -> None:
    counts = sorted((self.num_orderings, self.num_masks))
    if counts[0] < 1 or counts[1] % counts[0]:
      raise ConfigError(f"num_orderings is {self.num_orderings} and num_masks {self.num_masks}; both must be at least "
                        "1, and the smaller must divide the larger.")
    if not self.hidden or min(self.hidden) < 1:
      raise ConfigError(f"hidden is {self.hidden}; it needs one or more sizes of at least 1 (fvsbn has no hidden "
                        "layer).")
    if self.degrees not in DEGREES:
      raise ConfigError(f"degrees is {self.degrees!r}; {nearest(self.degrees, DEGREES)}")
    if self.mask_seed < 0:
      raise ConfigError(f"mask_seed is {self.mask_seed}; it must be at least 0.")
    super().__post_init__()
    activation(self.activation)
    initializer(self.weight_init)

  @property
  def mixture(self) -> MixtureSettings:
    return MixtureSettings(self.mixture_size, self.mixture_weights, self.scale_floor)

  @property
  def components(self) -> Components:
    """The orderings and masks."""
    return components(self.head, self.ordering, self.ordering_seed, self.num_orderings, self.hidden, self.degrees,
                      self.mask_seed, self.num_masks)

  @property
  def num_components(self) -> int:
    return max(self.num_orderings, self.num_masks)

  @property
  def layout(self) -> Layout:
    return self.components.layout

  @property
  def input_layout(self) -> Layout:
    return self.components.input_layout

  def init_network(self, key):
    inputs = jnp.zeros((1, self.head.num_inputs))
    return dict(self._network().init(key, inputs, *self.components.traced_degrees_of(0))["params"])

  def network_masks(self):
    """Entries that take part in at least one component."""
    network = self._network()
    names = [*(f"layers_{layer}" for layer in range(len(self.hidden))), "output"]
    masks: dict[str, Any] = {}
    for component in range(self.num_components):
      degrees, limits = self.components.degrees_of(component)
      pairs = itertools.pairwise([*degrees, limits])
      kernels = {name: tile_masks(tiles, *pair) for name, tiles, pair in zip(names, network.tiles, pairs, strict=True)}
      if self.direct:
        kernels["direct"] = tile_masks(network.direct_tiles, degrees[0], limits)
      masks = jax.tree.map(np.logical_or, masks, kernels) if masks else kernels
    biases = {f"hidden_bias_{layer}": np.ones(size, bool) for layer, size in enumerate(self.hidden)}
    return {**masks, **biases, "bias": np.ones(network.num_out, bool)}

  def inputs_in_use(self):
    return np.ones(self.head.num_inputs, bool) if self.num_orderings > 1 else super().inputs_in_use()

  def network(self, params, inputs, key=None, component: int | Int[Array, ""] = 0):
    """Outputs by slot of all variables in one component."""
    degrees, limits = self.components.traced_degrees_of(component)
    logits: Any = self._network().apply({"params": params}, inputs, degrees, limits, key)
    return logits

  def _network(self) -> MaskedMLP:
    inputs, columns = self.head.num_inputs, self.head.num_columns
    tiles = [whole(*shape) for shape in itertools.pairwise((inputs, *self.hidden, columns))]
    direct_tiles = whole(inputs, columns)
    if self.num_components == 1:
      degrees, limits = self.components.degrees_of(0)
      tiles = [staircase(*pair) for pair in itertools.pairwise([*degrees, limits])]
      direct_tiles = staircase(degrees[0], limits)
    return MaskedMLP(inputs, columns, self.hidden, tuple(tiles), direct_tiles if self.direct else (), self.activation,
                     self.dropout, self.weight_init)

  # The mixture over components.

  def log_prob(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
               key: Key[Array, ""] | None = None) -> Float[Array, " batch"]:
    """log p(x) in nats of the mixture; with a key, in training, that of one component drawn by it."""
    if key is not None:
      component_key, key = jax.random.split(key)
      component = jax.random.randint(component_key, (), 0, self.num_components)
      return jnp.sum(self.variable_log_probs(params, x, component, key), axis=1)
    joint = self._by_component(lambda component: jnp.sum(self.variable_log_probs(params, x, component), axis=1))
    return jax.nn.logsumexp(joint, axis=0) - math.log(self.num_components)

  def variable_log_probs(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
                         component: int | Int[Array, ""] = 0,
                         key: Key[Array, ""] | None = None) -> Float[Array, "batch variables"]:
    """Log-probability in nats of each variable given those before it, in one component."""
    head, x = self.head, self._flatten(x)
    arguments = self.prepare(params["model"], self.encode(params, x), key)
    return head.log_prob(self.in_units(params, self.network(*arguments, component)), x)

  def _by_component(self, function):
    """The results of all components, stacked; one after another, so that memory does not grow with their number."""
    if self.num_components == 1:
      return function(0)[None]
    return jax.lax.map(function, jnp.arange(self.num_components))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draws x [num, *event], each from a component of its own; `temperature` divides the logits of the variables.

    Raises:
      ConfigError: the temperature is not above 0.
      SpecError: a condition is given; these models have none.
    """
    if self.num_components == 1:
      return super().sample(params, carry, key, num, condition, temperature)
    self._check_sampling(temperature, condition)
    key, component_key = jax.random.split(key)
    chosen = jax.random.randint(component_key, (num,), 0, self.num_components)
    x, known = jnp.zeros((num, self.spec.num_dims), self.head.dtype), np.zeros(self.head.num_variables, bool)
    return self._samples(self._generate_mixture(params, key, chosen, x, known, temperature))

  def complete(self, params, carry, key, x, known, temperature=1.0):
    """Keeps x where `known` and draws the rest given it, exactly; `known` must be a concrete array.

    Several masks under one ordering are a mixture whose weights, given what is known, follow from its probability under
    each of them.

    Raises:
      ConfigError: the temperature is not above 0.
      SpecError: there are several orderings, or `known` is not a beginning of the one.
    """
    if self.num_orderings > 1:
      raise SpecError(f"an ensemble over several orderings (num_orderings is {self.num_orderings}) cannot complete: "
                      "what is known would have to come first in each of them; use a model with num_orderings=1.")
    if self.num_components == 1:
      return super().complete(params, carry, key, x, known, temperature)
    self._check_sampling(temperature)
    given = self.head.known_variables(np.asarray(known))
    self._check_prefix(given)
    key, component_key = jax.random.split(key)
    weights = self._by_component(lambda component: self.variable_log_probs(params, x, component)[:, given].sum(axis=1))
    chosen = jax.random.categorical(component_key, weights, axis=0)
    return self._samples(self._generate_mixture(params, key, chosen, self._flatten(x), given, temperature))

  def _generate_mixture(self, params, key, chosen, x, known, temperature):
    """Draws each example by the component chosen for it, keeping the known variables."""
    orders, known = jnp.asarray(self.components.orders), jnp.asarray(known)

    def one(component, key, x):
      order = orders[component]
      cache = self.init_cache(params, 1, component)
      return self._generate(params, cache, key, order, self.head.split(x[None])[order], known[order], temperature)[0]

    return jax.vmap(one)(chosen, jax.random.split(key, x.shape[0]), x)

  # One step at a time. A hidden unit that sees positions up to k is final once they are known: step k + 1 computes the
  # units of degree k and no others, so that a whole sample costs one pass of the network, however deep. Everything
  # not known yet is zero, so that the kernels need no masks.

  def init_cache(self, params, num, component: int | Int[Array, ""] = 0):
    """The state of `conditional_step` before the first variable, for `num` examples of one component."""
    model, network = params["model"], self._network()
    # Kernels with a row per unit: each step reads a few rows.
    kernels = [dense_kernel(model[f"layers_{layer}"], tiles).T for layer, tiles in enumerate(network.tiles[:-1])]
    direct = [dense_kernel(model["direct"], network.direct_tiles).T] if self.direct else []
    return {"component": jnp.asarray(component), "inputs": jnp.zeros((num, network.num_in)),
            "hidden": [jnp.zeros((num, size)) for size in self.hidden], "kernels": kernels,
            "output": dense_kernel(model["output"], network.tiles[-1]).T, "direct": direct}

  def conditional_step(self, params, cache, x_previous, index):
    """O(hidden): the units that become final at this step, and the logits."""
    model, tables, component = params["model"], self.components, cache["component"]
    previous = jnp.asarray(tables.previous_slots)[component, index]
    slots = jnp.asarray(tables.slots)[component, index]
    order = jnp.asarray(tables.orders)[component]
    x_previous = self.head.standardize(units_of(params), x_previous, order[index - 1])
    inputs = below = cache["inputs"].at[:, previous].set(self.encode_previous(model, x_previous, previous), mode="drop")
    hidden = []
    for layer, (kernel, values) in enumerate(zip(cache["kernels"], cache["hidden"], strict=True)):
      units = jnp.asarray(tables.units[layer])[component, index]
      new = below[:, :kernel.shape[1]] @ kernel[units].T + model[f"hidden_bias_{layer}"][units]
      below = values.at[:, units].set(activation(self.activation)(new), mode="drop")
      hidden.append(below)
    logits = below[:, :cache["output"].shape[1]] @ cache["output"][slots].T + model["bias"][slots]
    for direct in cache["direct"]:
      logits = logits + inputs[:, :direct.shape[1]] @ direct[slots].T
    logits = self.head.in_units(units_of(params), logits, order[index])
    return {**cache, "inputs": inputs, "hidden": hidden}, logits
