"""The chain rule over the variables of a vector in some order: what FVSBN, NADE, RNADE, MADE and untied networks share.

log p(x) = sum_i log p(x_{o_i} | x_{o_1}, …, x_{o_{i-1}}), exactly and in one pass. A model supplies that pass
(`outputs`) and an incremental form of it (`init_cache`, `conditional_step`), through which sampling and completion go.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm import checks
from gdm.autoregressive.vectors import heads as heads_lib
from gdm.autoregressive.vectors.layout import SlotLayout, input_layout, layout, orderings
from gdm.batches import checked, condition_context, given, given_context
from gdm.dataspec import DataSpec
from gdm.docstrings import DocumentsFields
from gdm.errors import SpecError
from gdm.inference.ancestral import ancestral
from gdm.likelihood import LogLikelihood, bits_per_dim
from gdm.model import Batch, Carry, Condition, LossOutput, Mean, Objective, Params, PyTree, Samples
from gdm.networks.dropout import dropout_scale

OUTPUT_BIASES = ("marginals", "zeros")


@dataclasses.dataclass(frozen=True)
class VectorModel(DocumentsFields, abc.ABC):
  """An autoregressive model of binary or categorical data, or, with a head of mixtures, of real data.

  Parameters: the group "model"; for real data also "units", which nothing moves: each dimension's mean, standard
  deviation and recording step in the first batch. Inputs and outputs of a model's network are standardized numbers;
  outside, everything is in the data's units.

  Attributes:
    spec: the data.
    ordering: "natural" (the data's own) or "random".
    ordering_seed: makes the random ordering.
    heads: "auto", "binary", "categorical", "blocks", "gaussian" or "logistic"; see gdm/autoregressive/vectors/heads.py.
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

  def __post_init__(self) -> None:
    self.spec.require_whole(type(self).__name__)
    _ = self.layout
    checks.one_of("output_bias", self.output_bias, OUTPUT_BIASES)
    checks.rate("input_dropout", self.input_dropout)

  # What a model supplies.

  @property
  @abc.abstractmethod
  def head(self) -> heads_lib.Head:
    """The variables and their distributions by logits: by `make_head`."""

  @property
  @abc.abstractmethod
  def slot_order(self) -> tuple[int, ...]:
    """The order of the variables in which inputs and outputs lie in slots."""

  @abc.abstractmethod
  def inputs_in_use(self) -> Bool[np.ndarray, " inputs"]:
    """Return which inputs, by slot, some output depends on."""

  @abc.abstractmethod
  def init_parameters(self, key: Key[Array, ""]) -> dict[str, Any]:
    """Return fresh parameters; "bias" [columns] are the output biases by slot."""

  @abc.abstractmethod
  def outputs(self, params: PyTree, inputs: Float[Array, "batch inputs"],
              key: Key[Array, ""] | None = None) -> Float[Array, "batch columns"]:
    """Return outputs by slot of all variables, from inputs by slot, centred and dropped out; a key means training."""

  @abc.abstractmethod
  def output_masks(self) -> dict[str, Any]:
    """Return for every parameter of `init_parameters` which of its entries some output may depend on."""

  @abc.abstractmethod
  def log_prob(self, params: Params, x: Num[Array | np.ndarray, "batch *event"], key: Key[Array, ""] | None = None,
               context: Float[Array, "batch width"] | None = None) -> Float[Array, " batch"]:
    """Return log p(x), or of a model given a context log p(x | context), in nats; a key means training."""

  @abc.abstractmethod
  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw x [num, *event]; `temperature` divides the logits, so that towards 0 each draw is its argmax.

    For real data it divides the logits of a mixture's components and multiplies their scales.

    Raises:
      ConfigError: the temperature is not above 0.
      SpecError: a condition is given to a model without one, or missing.
    """

  @abc.abstractmethod
  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
               known: Bool[Array | np.ndarray, "..."], temperature: float = 1.0) -> Samples:
    """Keep x where `known` and draw the rest given it, exactly; `known` must be a concrete array.

    Raises:
      ConfigError: the temperature is not above 0.
      SpecError: `known` is not a beginning of the ordering.
    """

  @abc.abstractmethod
  def init_cache(self, params: Params, num: int) -> PyTree:
    """Return the state of `conditional_step` before the first variable, for `num` examples."""

  @abc.abstractmethod
  def conditional_step(self, params: Params, cache: PyTree, x_previous: Num[Array, "batch span"],
                       index: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch width"]]:
    """Return the next cache, and logits of the variable at position `index` of the ordering, given those before it.

    Args:
      params: the parameters.
      cache: from `init_cache` or the step before.
      x_previous: value of the variable at position index - 1, as `head.split` gives it; ignored at index 0.
      index: steps come in order, 0 to num_variables - 1.
    """

  # What follows from it.

  def make_head(self, mixture: heads_lib.MixtureSettings | None = None) -> heads_lib.Head:
    """Return the head called `heads`; real data needs a mixture."""
    return heads_lib.make_head(self.spec, self.heads, self.fallback, self.ordered, mixture)

  @property
  def layout(self) -> SlotLayout:
    """The outputs' columns in slots."""
    return layout(self.head, self.slot_order)

  @property
  def input_layout(self) -> SlotLayout:
    """The inputs' columns in slots."""
    return input_layout(self.head, self.slot_order)

  @property
  def num_parameters(self) -> int:
    """The number of parameters, without entries that a mask makes void."""
    return sum(int(np.sum(mask)) for mask in jax.tree.leaves(self.parameter_masks()))

  def parameter_masks(self) -> dict[str, Any]:
    """Return for every parameter which of its entries some output may depend on."""
    return {**self.output_masks(), **({"offset": self.inputs_in_use()} if self.center else {})}

  def all_but_last(self) -> Bool[np.ndarray, " inputs"]:
    """Return which inputs, by slot, belong to a variable before the last of the ordering."""
    return self.input_layout.positions < self.head.num_variables - 1

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(groups=("model",), loss=self.loss, unit="nats per example"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    params, x = self.init_parameters(key), self.flatten(batch["x"])
    units = self.head.measure(x)
    fixed = {"units": units} if units else {}
    if self.center:
      params["offset"] = jnp.mean(self.input_layout.sort(self.encode(fixed, x)), axis=0)
    if self.output_bias == "marginals":
      standard = self.head.standardize(units, x, jnp.arange(self.head.num_variables))
      params["bias"] = self.head.marginal_logits(standard)[self.layout.columns]
    return {"model": params, **fixed}, {}

  def encode(self, params: Params, x: Num[Array, "batch dims"]) -> Float[Array, "batch inputs"]:
    """Return all input columns of x, in the head's order."""
    head = self.head
    return head.encode(head.standardize(data_units(params), x, jnp.arange(head.num_variables)))

  def in_units(self, params: Params, outputs: Float[Array, "batch columns"]) -> Float[Array, "batch columns"]:
    """Return outputs by slot as logits in the head's order, in the data's units."""
    head = self.head
    by_variable = self.layout.unsort(outputs)
    if not data_units(params):
      return by_variable
    by_variable = by_variable.reshape(-1, head.num_variables, head.width)
    return head.in_units(params["units"], by_variable, jnp.arange(head.num_variables)).reshape(outputs.shape)

  def logits(self, params: Params, inputs: Float[Array, "batch inputs"], key: Key[Array, ""] | None = None,
             context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch columns"]:
    """Return logits of all variables, from `encode(params, x)`; both in the data's own order."""
    given = {} if context is None else {"context": context}
    return self.in_units(params, self.outputs(*self.prepare(params["model"], inputs, key), **given))

  def prepare(self, model: PyTree, inputs: Float[Array, "batch inputs"],
              key: Key[Array, ""] | None = None) -> tuple[PyTree, Float[Array, "batch inputs"], Key[Array, ""] | None]:
    """Return arguments of `outputs`: inputs from the head's order to slots, centred, dropped out; half of the key."""
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
    """Return the centred inputs of the variable before, which lie at `slots`, for `conditional_step`."""
    encoded = self.head.encode_value(value)
    return encoded - jnp.take(model["offset"], slots, mode="fill", fill_value=0.0) if self.center else encoded

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the batch's mean negative log-likelihood, in nats per example."""
    nll = -self.log_prob(params, batch["x"], key, given_context(self, batch))
    metrics = {"nll": Mean.of(nll), "bits_per_dim": Mean.of(jnp.asarray(bits_per_dim(-nll, self.spec.num_dims)))}
    return LossOutput(jnp.mean(nll), metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    nats = self.log_prob(params, batch["x"], None, given_context(self, batch))
    return checked(self.spec, batch, LogLikelihood.of(nats, self.spec.num_dims, given=given(self)))

  def sample_by_steps(self, params: Params, key: Key[Array, ""], num: int, temperature: float,
                      context: Float[Array, "num width"] | None = None) -> Samples:
    """Draw x [num, *event], all in one ordering."""
    shift = {} if context is None else {"context": context}
    head = self.head
    forced = jnp.zeros((head.num_variables, num, head.dims.shape[1]), head.dtype)
    known = np.zeros(head.num_variables, bool)
    order = self.layout.order
    return self.samples(self.draw(params, self.init_cache(params, num, **shift), key, order, forced, known,
                                  temperature))

  def complete_by_steps(self, params: Params, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
                        known: Bool[Array | np.ndarray, "..."], temperature: float) -> Samples:
    """Keep x where `known`, a beginning of the one ordering, and draw the rest."""
    given, order = self.known_prefix(known), self.layout.order
    forced, cache = self.head.split(self.flatten(x))[order], self.init_cache(params, x.shape[0])
    return self.samples(self.draw(params, cache, key, order, forced, given[order], temperature))

  def draw(self, params: Params, cache: PyTree, key: Key[Array, ""], order: Int[Array | np.ndarray, " variables"],
           forced: Num[Array, "variables batch span"], known: Bool[Array | np.ndarray, " variables"],
           temperature: float) -> Num[Array, "batch dims"]:
    """Draw examples by steps in `order`, which may be traced; where `known`, values are those of `forced`."""
    head, order = self.head, jnp.asarray(order)

    def step(cache, previous, index):
      return self.conditional_step(params, cache, previous, index)

    def draw(key, logits, index):
      return head.draw(key, logits, order[index], temperature)

    return head.join(ancestral(step, draw, cache, key, forced, known), order)

  def known_prefix(self, known: Bool[Array | np.ndarray, "..."]) -> Bool[np.ndarray, " variables"]:
    """Return which variables are known, or raise SpecError where they are no beginning of the ordering."""
    given, order = self.head.known_variables(np.asarray(known)), self.layout.order
    missing = int(np.argmin(np.append(given[order], False)))
    for late in np.flatnonzero(given[order][missing:])[:1] + missing:
      raise SpecError(f"known must be a beginning of the ordering ({self.ordering}, seed {self.ordering_seed}): "
                      f"variable {order[late]} at position {late} is known, but variable {order[missing]} at position "
                      f"{missing} is not.")
    return given

  def check_sampling(self, temperature: float) -> None:
    """Raise an error where the options of `sample` cannot be."""
    if isinstance(temperature, int | float):
      checks.positive("temperature", temperature, "(near 0 gives the argmax)")

  def flatten(self, x: Num[Array | np.ndarray, "batch *event"]) -> Num[Array, "batch dims"]:
    return jnp.asarray(x).reshape(x.shape[0], -1)

  def samples(self, x: Num[Array, "batch dims"]) -> Samples:
    return Samples(x.reshape(-1, *self.spec.event), {"nfe": self.head.num_variables})


@dataclasses.dataclass(frozen=True)
class OneOrderModel(VectorModel):
  """A model whose variables have one order."""

  @property
  def slot_order(self) -> tuple[int, ...]:
    (order,) = orderings(self.ordering, self.ordering_seed, self.head.num_variables)
    return tuple(order.tolist())

  def inputs_in_use(self):
    return self.all_but_last()

  def log_prob(self, params, x, key=None, context=None):
    head, x = self.head, self.flatten(x)
    return jnp.sum(head.log_prob(self.logits(params, self.encode(params, x), key, context), x), axis=1)

  def sample(self, params, carry, key, num, condition=None, temperature=1.0):
    self.check_sampling(temperature)
    return self.sample_by_steps(params, key, num, temperature, condition_context(self, condition, num))

  def complete(self, params, carry, key, x, known, temperature=1.0):
    self.check_sampling(temperature)
    require_no_context(self)
    return self.complete_by_steps(params, key, x, known, temperature)


def require_no_context(model: Any) -> None:
  """Raise SpecError where a model given a context is asked for what knows of none."""
  if given(model):
    raise SpecError(f"{type(model).__name__} is conditional on {' and '.join(given(model))}, which completing and "
                    "coding do not take; score it, or draw from it.")


def data_units(params: Params) -> PyTree:
  """Return the constants of real data; {} for discrete data, which has none."""
  return params.get("units", {})


def output_shift(params: PyTree, context: Float[Array, "batch width"] | None) -> Float[Array, "_ columns"]:
  """Return what a context adds to the outputs by slot, [batch, columns]; zeros [1, columns] without one."""
  return jnp.zeros((1, params["bias"].shape[0])) if context is None else context @ params["context_outputs"]
