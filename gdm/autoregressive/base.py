"""What FVSBN, NADE, RNADE, MADE and the untied networks share: the chain rule over a head's variables in some order.

log p(x) = sum_i log p(x_{o_i} | x_{o_1}, …, x_{o_{i-1}}), exactly and in one pass. A model supplies that pass
(`network`) and an incremental form of it (`init_cache`, `conditional_step`), through which sampling and completion go.
"""

import abc
import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.autoregressive import heads as heads_lib
from gdm.autoregressive.layout import Layout, input_layout, layout, orderings
from gdm.batches import checked
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError, nearest
from gdm.inference.ancestral import ancestral
from gdm.likelihood import LogLikelihood, bits_per_dim
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params, PyTree, Samples
from gdm.networks.dropout import dropout_scale

OUTPUT_BIASES = ("marginals", "zeros")


@dataclasses.dataclass(frozen=True)
class Autoregressive(abc.ABC):
  """An autoregressive model of binary or categorical data, or, where `mixture` is there, of real data.

  Parameters: the group "model"; for real data also "units", which nothing moves: each dimension's mean, standard
  deviation and recording step in the first batch. Networks see and speak standardized numbers; outside, everything is
  in the data's own units.

  Attributes:
    spec: the data.
    ordering: "natural" (the data's own) or "random".
    ordering_seed: makes the random ordering.
    heads: "auto", "binary", "categorical", "blocks", "gaussian" or "logistic"; see gdm/autoregressive/heads.py.
    fallback: weight of patterns that are no state of a block.
    center: measure inputs from an offset that starts at the first batch's mean, so that a dropped input is an average
      one; one more parameter per input.
    input_dropout: rate on the variables as inputs: a variable's columns are dropped together.
    ordered: whether levels are a scale (grey values), coded as thermometers, or mere names (characters), one-hot.
    output_bias: output biases start at the logits of the first batch's "marginals", or at "zeros".
  """

  spec: DataSpec
  ordering: str = "natural"
  ordering_seed: int = 0
  heads: str = "auto"
  fallback: float = 1e-5
  center: bool = False
  input_dropout: float = 0.0
  ordered: bool = True
  output_bias: str = "marginals"

  rates: ClassVar[tuple[str, ...]] = ("input_dropout",)  # names of the fields that are dropout rates

  def __post_init__(self) -> None:
    self.spec.require_whole(type(self).__name__)
    _ = self.layout
    if self.output_bias not in OUTPUT_BIASES:
      raise ConfigError(f"output_bias is {self.output_bias!r}; {nearest(self.output_bias, OUTPUT_BIASES)}")
    for name in self.rates:
      if not 0.0 <= getattr(self, name) < 1.0:
        raise ConfigError(f"{name} is {getattr(self, name)}; a dropout rate lies in [0, 1).")

  # What a model supplies.

  @abc.abstractmethod
  def init_network(self, key: Key[Array, ""]) -> dict[str, Any]:
    """Fresh parameters; "bias" [columns] are the output biases by slot."""

  @abc.abstractmethod
  def network(self, params: PyTree, inputs: Float[Array, "batch inputs"],
              key: Key[Array, ""] | None = None) -> Float[Array, "batch columns"]:
    """Outputs by slot of all variables, from inputs by slot, centred and dropped out; a key means training."""

  @abc.abstractmethod
  def network_masks(self) -> dict[str, Any]:
    """For every parameter of `init_network`, which of its entries some output may depend on."""

  @abc.abstractmethod
  def init_cache(self, params: Params, num: int) -> PyTree:
    """The state of `conditional_step` before the first variable, for `num` examples."""

  @abc.abstractmethod
  def conditional_step(self, params: Params, cache: PyTree, x_previous: Num[Array, "batch span"],
                       index: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch width"]]:
    """Logits, as the head scores and draws by, of the variable at position `index` of the ordering, given those before.

    Args:
      params: the parameters.
      cache: from `init_cache` or the step before.
      x_previous: value of the variable at position index - 1, as `head.split` gives it; ignored at index 0.
      index: steps come in order, 0 to num_variables - 1.
    """

  # What follows from it.

  @property
  def head(self) -> heads_lib.Head:
    return heads_lib.make_head(self.spec, self.heads, self.fallback, self.ordered, self.mixture)

  @property
  def mixture(self) -> heads_lib.MixtureSettings | None:
    """The mixtures that are the outputs for real data; None in models of discrete data alone."""
    return None

  @property
  def layout(self) -> Layout:
    """The outputs' columns in the model's ordering."""
    return layout(self.head, self._order)

  @property
  def input_layout(self) -> Layout:
    """The inputs' columns in the model's ordering."""
    return input_layout(self.head, self._order)

  @property
  def _order(self) -> tuple[int, ...]:
    (order,) = orderings(self.ordering, self.ordering_seed, self.head.num_variables)
    return tuple(order.tolist())

  @property
  def num_parameters(self) -> int:
    """The number of parameters, entries that a mask makes void apart."""
    return sum(int(np.sum(mask)) for mask in jax.tree.leaves(self.parameter_masks()))

  def parameter_masks(self) -> dict[str, Any]:
    """For every parameter, which of its entries some output may depend on."""
    return {**self.network_masks(), **({"offset": self.inputs_in_use()} if self.center else {})}

  def inputs_in_use(self) -> Bool[np.ndarray, " inputs"]:
    """Which inputs, by slot, some output sees: all but the last variable's."""
    return self.input_layout.positions < self.head.num_variables - 1

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(groups=("model",), loss=self.loss, unit="nats per example"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    params, x = self.init_network(key), self._flatten(batch["x"])
    units = self.head.measure(x)
    fixed = {"units": units} if units else {}
    if self.center:
      params["offset"] = jnp.mean(self.input_layout.sort(self.encode(fixed, x)), axis=0)
    if self.output_bias == "marginals":
      standard = self.head.standardize(units, x, jnp.arange(self.head.num_variables))
      params["bias"] = self.head.marginal_logits(standard)[self.layout.columns]
    return {"model": params, **fixed}, {}

  def encode(self, params: Params, x: Num[Array, "batch dims"]) -> Float[Array, "batch inputs"]:
    """All input columns of x, in the head's order."""
    head = self.head
    return head.encode(head.standardize(units_of(params), x, jnp.arange(head.num_variables)))

  def in_units(self, params: Params, outputs: Float[Array, "batch columns"]) -> Float[Array, "batch columns"]:
    """Outputs by slot as logits in the head's order, in the data's units."""
    head = self.head
    by_variable = self.layout.unsort(outputs)
    if not units_of(params):
      return by_variable
    by_variable = by_variable.reshape(-1, head.num_variables, head.width)
    return head.in_units(params["units"], by_variable, jnp.arange(head.num_variables)).reshape(outputs.shape)

  def logits(self, params: Params, inputs: Float[Array, "batch inputs"],
             key: Key[Array, ""] | None = None) -> Float[Array, "batch columns"]:
    """Logits of all variables, from `encode(params, x)`; both in the data's own order."""
    return self.in_units(params, self.network(*self.prepare(params["model"], inputs, key)))

  def prepare(self, model: PyTree, inputs: Float[Array, "batch inputs"],
              key: Key[Array, ""] | None = None) -> tuple[PyTree, Float[Array, "batch inputs"], Key[Array, ""] | None]:
    """The arguments of `network`: inputs from the head's order to slots, centred, dropped out; the key's other half."""
    inputs = self.input_layout.sort(inputs)
    if self.center:
      inputs = inputs - model["offset"]
    if key is not None:
      dropout_key, key = jax.random.split(key)
      scale = dropout_scale(dropout_key, (inputs.shape[0], self.head.num_variables), self.input_dropout)
      if scale.ndim:
        inputs = inputs * scale[:, self.input_layout.order[self.input_layout.positions]]
    return model, inputs, key

  def encode_previous(self, model: PyTree, value: Num[Array, "batch span"],
                      slots: Int[Array, " width"]) -> Float[Array, "batch width"]:
    """The inputs of the variable before, which lie at `slots`, centred: what `conditional_step` feeds on."""
    encoded = self.head.encode_value(value)
    return encoded - jnp.take(model["offset"], slots, mode="fill", fill_value=0.0) if self.center else encoded

  def log_prob(self, params: Params, x: Num[Array | np.ndarray, "batch *event"],
               key: Key[Array, ""] | None = None) -> Float[Array, " batch"]:
    """log p(x) in nats; a key means training."""
    head, x = self.head, self._flatten(x)
    return jnp.sum(head.log_prob(self.logits(params, self.encode(params, x), key), x), axis=1)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """The batch's mean negative log-likelihood, in nats per example."""
    nll = -self.log_prob(params, batch["x"], key)
    metrics = {"nll": Mean.of(nll), "bits_per_dim": Mean.of(jnp.asarray(bits_per_dim(-nll, self.spec.num_dims)))}
    return LossOutput(jnp.mean(nll), metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    return checked(self.spec, batch, LogLikelihood.of(self.log_prob(params, batch["x"]), self.spec.num_dims))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draws x [num, *event]; `temperature` divides the logits, so that towards 0 each draw is its argmax.

    For real data it divides the logits of a mixture's components and multiplies their scales.

    Raises:
      ConfigError: the temperature is not above 0.
      SpecError: a condition is given; these models have none.
    """
    self._check_sampling(temperature, condition)
    head = self.head
    forced = jnp.zeros((head.num_variables, num, head.dims.shape[1]), head.dtype)
    known = np.zeros(head.num_variables, bool)
    x = self._generate(params, self.init_cache(params, num), key, self.layout.order, forced, known, temperature)
    return self._samples(x)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
               known: Bool[Array | np.ndarray, "..."], temperature: float = 1.0) -> Samples:
    """Keeps x where `known` and draws the rest given it, exactly; `known` must be a concrete array.

    Raises:
      ConfigError: the temperature is not above 0.
      SpecError: `known` is not a beginning of the ordering.
    """
    self._check_sampling(temperature)
    order = self.layout.order
    given = self.head.known_variables(np.asarray(known))
    self._check_prefix(given)
    forced, cache = self.head.split(self._flatten(x))[order], self.init_cache(params, x.shape[0])
    return self._samples(self._generate(params, cache, key, order, forced, given[order], temperature))

  def _generate(self, params, cache, key, order, forced, known, temperature):
    """Runs the steps in `order`, which may be traced; examples [batch, dims]."""
    head, order = self.head, jnp.asarray(order)

    def step(cache, previous, index):
      return self.conditional_step(params, cache, previous, index)

    def draw(key, logits, index):
      return head.draw(key, logits, order[index], temperature)

    return head.join(ancestral(step, draw, cache, key, forced, known), order)

  def _check_prefix(self, known: Bool[np.ndarray, " variables"]) -> None:
    order = self.layout.order
    missing = int(np.argmin(np.append(known[order], False)))
    for late in np.flatnonzero(known[order][missing:])[:1] + missing:
      raise SpecError(f"known must be a beginning of the ordering ({self.ordering}, seed {self.ordering_seed}): "
                      f"variable {order[late]} at position {late} is known, but variable {order[missing]} at position "
                      f"{missing} is not.")

  def _check_sampling(self, temperature, condition=None) -> None:
    if condition is not None:
      raise SpecError(f"{type(self).__name__} is not conditional; condition must be None.")
    if isinstance(temperature, int | float) and not (temperature > 0 and math.isfinite(temperature)):
      raise ConfigError(f"temperature is {temperature}; it must be finite and above 0 (near 0 gives the argmax).")

  def _flatten(self, x: Num[Array | np.ndarray, "batch *event"]) -> Num[Array, "batch dims"]:
    return jnp.asarray(x).reshape(x.shape[0], -1)

  def _samples(self, x: Num[Array, "batch dims"]) -> Samples:
    return Samples(x.reshape(-1, *self.spec.event), {"nfe": self.head.num_variables})


def units_of(params: Params) -> PyTree:
  """The constants of real data; {} for discrete data, which has none."""
  return params.get("units", {})
