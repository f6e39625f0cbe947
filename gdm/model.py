"""The contract: a model is a frozen dataclass of pure functions, and one train step trains them all.

A model holds sizes and choices, no arrays. Parameters live in named groups, other state in a carry, and each objective
says which groups it moves. Everything beyond `init` and `objectives` is a capability: a method that is there or not.
Callers ask by protocol (`isinstance(model, HasSample)`), never by family or name.

In this order: batches, parameters, objectives and `Model`; then the capabilities, by subject: training otherwise,
scores, what a model may be given, labels, draws, noise paths, latents, chains of conditionals, lossless coding.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, Num

from gdm.dataspec import DataSpec
from gdm.likelihood import LogLikelihood, LogNormalizer

PyTree = Any
# "x": [batch, *event]; "y": [batch, ...] labels; "context": [batch, context_dims] a real-valued condition; "prefix":
# [batch, prefix_steps] tokens as a condition; "length": [batch] of sequences; "mask": [batch], 1 for a real example, in
# evaluation only (training batches are full).
Batch = Mapping[str, Array | np.ndarray]
# What is drawn given: labels [num] or one, contexts [num, width] or one, prefixes [num, steps] or one, or several by
# name, {"y": ..., "context": ..., "prefix": ...}.
Condition = Array | np.ndarray | int | Mapping[str, Any]
# Parameter group -> parameters: {"generator": ..., "critic": ...}; most models have the one group "model".
Params = Mapping[str, PyTree]
# Non-parameter state: "statistics" (replicated, averaged with the parameters, and over devices and micro-batches),
# "chains" ([shards, n, *event]).
Carry = Mapping[str, PyTree]


class Mean(NamedTuple):
  """A mean kept as its sum and its weight, so that means of batches, devices and repeats merge exactly."""

  total: Float[Array, ""]
  weight: Float[Array, ""]

  @classmethod
  def of(cls, values: Num[Array, "*shape"]) -> "Mean":
    """Return the mean of all entries of `values`."""
    values = jnp.asarray(values, jnp.float32)
    return cls(jnp.sum(values), jnp.asarray(values.size, jnp.float32))

  def merge(self, other: "Mean") -> "Mean":
    return Mean(self.total + other.total, self.weight + other.weight)

  @property
  def value(self):
    return self.total / self.weight


class LossOutput(NamedTuple):
  """The result of an objective's loss: a scalar to differentiate, metrics, and the carry the next step needs."""

  loss: Float[Array, ""]
  metrics: Mapping[str, Mean]
  carry: Carry


# loss(params, carry, batch, key, step): pure; its loss is the mean over the batch, so that equal micro-batches average.
LossFn = Callable[[Params, Carry, Batch, Key[Array, ""], Array], LossOutput]
# prepare(params, carry, batch, key): pure; the minibatch with more entries [batch, ...].
PrepareFn = Callable[[Params, Carry, Batch, Key[Array, ""]], Batch]


@dataclasses.dataclass(frozen=True)
class Objective:
  """One loss and the parameter groups it moves; every other group is a constant to it.

  Attributes:
    groups: the groups it moves, each by its own optimizer.
    loss: the loss, see `LossFn`.
    repeats: how often it is applied per step, each time on a minibatch of its own.
    prepare: adds random draws to a minibatch before it is split into micro-batches, so that the micro-batches together
      use the draws of the whole minibatch. Its key is the one that the loss of the first micro-batch gets: the two must
      use different splits of it.
    whole_batch: why the loss of a minibatch is not the mean of the losses of its parts, as the subject and verb of an
      error message; "" where it is that mean, in expectation over the loss's own draws.
    unit: of the loss, for the axis of a plot; "" where it has none.
    project: brings the parameters of a moved group back into the set that is allowed, after each update; None where all
      are.
  """

  groups: tuple[str, ...]
  loss: LossFn
  repeats: int = 1
  prepare: PrepareFn | None = None
  whole_batch: str = ""
  unit: str = ""
  project: Callable[[PyTree], PyTree] | None = None

  @property
  def name(self) -> str:
    return "+".join(self.groups)


@runtime_checkable
class Model(Protocol):
  """A model as training needs it. `objectives`, in order, is the schedule of one step; () for models that `solve`."""

  @property
  def spec(self) -> DataSpec: ...

  @property
  def objectives(self) -> tuple[Objective, ...]: ...

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Fresh parameters and carry; the batch serves data-dependent initialization."""
    ...


class Samples(NamedTuple):
  """Samples [num, *event] in the data's own values, and what the sampler spent: NFE, acceptance, a trajectory."""

  x: Array
  info: Mapping[str, Any]


# Training otherwise, and its state told in words.


@runtime_checkable
class HasSolve(Protocol):
  """Is fitted in closed form or by EM instead of gradient steps."""

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch],
            report: Callable[[int, Mapping[str, float]], None] | None = None) -> tuple[Params, Carry]:
    """Fit to `batches`, which can be iterated again and again: each pass serves every training example once.

    `report(iteration, metrics)` is told of the progress of iterative solvers.
    """
    ...


@runtime_checkable
class HasDiagnosis(Protocol):
  """Can say more of a state in which a metric is no longer finite."""

  def diagnose(self, params: Params, carry: Carry) -> str:
    """Return what is wrong, in words that follow the metric's; "" where nothing is seen."""
    ...


@runtime_checkable
class HasVerdict(Protocol):
  """Can tell from its last training metrics that it has not learned what it should: a collapse, say."""

  def verdict(self, metrics: Mapping[str, float]) -> str:
    """Return words for the user, given the last of each training metric by name; "" where nothing is wrong."""
    ...


@runtime_checkable
class KeepsNewest(Protocol):
  """Is validated by a number that is too coarse to choose among states of one run: the newest is kept as the best."""

  @property
  def keeps_newest(self) -> bool: ...


# Scores.


@runtime_checkable
class HasLogLikelihood(Protocol):
  """Can score data: exactly, by a bound or by an estimate."""

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Log-likelihood of batch["x"]. `num_samples` tightens a bound (importance weighting); exact models ignore it."""
    ...


@runtime_checkable
class HasLikelihoods(Protocol):
  """Can score data in more than one way."""

  def scored_by(self, name: str, **settings: Any) -> "Model":
    """Return the same model, whose likelihood is found in the way called `name`; a ConfigError names what it knows."""
    ...


@runtime_checkable
class HasUnnormalized(Protocol):
  """Can score data up to a constant, which `log_normalizer` estimates once per split."""

  def unnormalized_log_prob(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, " batch"]: ...

  def log_normalizer(self, params: Params, carry: Carry, key: Key[Array, ""],
                     examples: Num[Array | np.ndarray, "examples *event"] | None = None) -> tuple[LogNormalizer, ...]:
    """Return log Z in nats, by one or several ways. At examples, in the data's values, mass is looked for too: a
    model may have a narrow peak or a mode there that nothing else shows."""
    ...


@runtime_checkable
class HasSimulatedBracket(Protocol):
  """Can bound log p(x) from both sides, of examples that it draws itself."""

  def simulated_bracket(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, num_temperatures: int
                        ) -> tuple[Float[Array, " num"], Float[Array, " num"]]:
    """Return a stochastic lower and upper bound of log p(x), in nats, of `num` simulated examples; they meet as
    temperatures are added."""
    ...


@runtime_checkable
class HasValidation(Protocol):
  """Has no likelihood, and is judged on held-out data by other numbers."""

  @property
  def criterion(self) -> str:
    """Name of the number of `validate` that chooses the best state: the lower its mean over examples, the better."""
    ...

  def validate(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]
               ) -> Mapping[str, Float[Array, " batch"]]:
    """Return numbers of each example, by name."""
    ...


@runtime_checkable
class HasAnomalyScore(Protocol):
  """Has no likelihood, and can order examples by how unlike its data they are."""

  def anomaly_score(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, " batch"]:
    """Return a number of each example: the higher, the less it is like the data."""
    ...


@runtime_checkable
class HasFeatures(Protocol):
  """Can describe examples by numbers that samples and data are compared on."""

  def features(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch features"]:
    """Return features of batch["x"], the same for the same example whatever else is in the batch."""
    ...


# What a model may be given.


@runtime_checkable
class HasClasses(Protocol):
  """May be a model of examples given their labels: where it is, `sample` takes labels [num] as its condition."""

  @property
  def class_conditional(self) -> bool: ...


@runtime_checkable
class HasContextCondition(Protocol):
  """May be a model of examples given a real-valued context: where it is, `sample` takes contexts as its condition."""

  @property
  def context_conditional(self) -> bool: ...


@runtime_checkable
class HasPrefixCondition(Protocol):
  """May be a model of examples given tokens: where it is, `sample` takes prefixes as its condition."""

  @property
  def prefix_conditional(self) -> bool: ...

  @property
  def prefix_optional(self) -> bool:
    """Whether it is a model of examples without a prefix too, given zeros: training withheld some."""
    ...


# Labels.


@runtime_checkable
class HasLabelProbs(Protocol):
  """Can tell which label an example has."""

  def log_label_probs(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label y in nats, given batch["x"]."""
    ...


@runtime_checkable
class HasRelaxedLabelProbs(HasLabelProbs, Protocol):
  """Can tell labels between the levels of integers too, with gradients in x: what attacks climb."""

  def relaxed_log_label_probs(self, params: Params, carry: Carry, x: Float[Array, "batch *event"]
                              ) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label y in nats, a differentiable function of x in the data's units; at examples
    that are valid it is `log_label_probs`."""
    ...


@runtime_checkable
class HasNoisedLabelProbs(HasLabelProbs, Protocol):
  """Can tell labels of noised examples: what guides a diffusion model."""

  def noised_log_label_probs(self, params: Params, carry: Carry, x: Float[Array, "batch *event"],
                             deviation: Float[Array, "..."]) -> Float[Array, "batch classes"]:
    """Return log p(y | x) of every label y in nats, differentiable in x: an example in the data's units plus normal
    noise of a deviation that broadcasts over x. Raise ConfigError where it was not trained on noise."""
    ...


@runtime_checkable
class HasLabelLogits(HasLabelProbs, Protocol):
  """Tells labels by logits whose size means something too: their logsumexp is minus an energy."""

  def label_logits(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch classes"]:
    """Return logits, in nats, of which `log_label_probs` is the log-softmax."""
    ...


# Draws, alone and given a part, a measurement or actions.


@runtime_checkable
class HasSample(Protocol):
  """Can draw from its distribution."""

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             **options: Any) -> Samples: ...


@runtime_checkable
class HasComplete(Protocol):
  """Can draw the unknown part of examples given the known part."""

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Keep x where `known`, draws the rest. Raise SpecError where the model cannot condition on that region."""
    ...


# (examples [n, *event] in the data's units, rows [n]) -> [n] in nats: the log-likelihood of each example by the
# measurement whose row is given; a pytree, so that compiled code takes other measurements without being compiled again.
MeasurementLikelihood = Callable[[Array, Array], Array]


@runtime_checkable
class HasPosterior(Protocol):
  """Can draw examples given noisy measurements of them."""

  def sample_posterior(self, params: Params, carry: Carry, key: Key[Array, ""],
                       log_likelihood: MeasurementLikelihood, batch: int, num: int,
                       condition: Condition | None = None) -> Samples:
    """Draw x [num, batch, *event] from p(x) times the likelihood of each of `batch` measurements; a condition has a row
    for each. Info: "nfe", and what tells whether chains did their work."""
    ...


@runtime_checkable
class HasDenoise(Protocol):
  """Can draw clean examples given noised ones."""

  def denoise(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
              deviation: float) -> Samples:
    """x is clean plus Gaussian noise of `deviation`, in the data's units."""
    ...


@runtime_checkable
class HasClosedLoop(Protocol):
  """Is a model of sequences of frames given what is done at each step, and can be lived in: a dream."""

  def closed_loop(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
                  act: Callable[[Float[Array, "num frames"], Array], Float[Array, "num action"]], num_steps: int = 0,
                  memory: int = 1, **options: Any
                  ) -> tuple[Float[Array, "num steps frame"], Float[Array, "num steps action"]]:
    """Draw frames, each given an action that follows from the frames before it.

    `act(frames, step)` is given the last `memory` frames, flat, the newest first, where before the first frame there
    was that frame already; it returns actions [num, width]. Nothing is done before the first frame: actions are zeros
    there. `num_steps` is how many frames to draw, 0 for as many as examples have; options are of sampling, such as
    temperature. A model of pictures by latents draws latents, which its `decode` turns into pictures.
    """
    ...


# Noise paths.


@dataclasses.dataclass(frozen=True)
class Denoiser:
  """The mean of clean data given noised data, along a noise path x_t = alpha(t) x_0 + sigma(t) noise, as functions.

  x_0 are values, (x - centre) / scale of data x: of about variance one. Times fall from noise to data.

  Attributes:
    mean: (x_t [batch, *event], t [batch]) -> E[x_0 | x_t], in values, differentiable in x_t.
    alpha, sigma: factor of the data and of the noise, functions of t of any shape.
    log_snr: log(alpha^2 / sigma^2), a function of t; it falls in t.
    time: log-SNR -> t, the inverse of `log_snr`.
    ends: the times next to the data and next to the noise.
    centre, scale: broadcast over an event, in the data's units.
    limits: lowest and highest value of the data, where it has limits.
    cost: network evaluations of one call of `mean`.
  """

  mean: Callable[[Array, Array], Array]
  alpha: Callable[[Array], Array]
  sigma: Callable[[Array], Array]
  log_snr: Callable[[Array], Array]
  time: Callable[[Array], Array]
  ends: tuple[float | Array, float | Array]
  centre: Float[ArrayLike, "..."] = 0.0
  scale: Float[ArrayLike, "..."] = 1.0
  limits: tuple[float, float] | None = None
  cost: int = 1

  def values(self, x: Num[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Return data as values."""
    return jnp.asarray((jnp.asarray(x, jnp.float32) - self.centre) / self.scale)

  def data(self, values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return values in the data's units; integers are not rounded."""
    return jnp.asarray(self.centre + self.scale * values)


@runtime_checkable
class HasDenoiser(Protocol):
  """Can give the mean of clean data given noised data, along a noise path: what restoring and editing run on."""

  def denoising(self, params: Params, carry: Carry, num: int = 1, condition: Condition | None = None,
                guidance: float = 1.0) -> Denoiser:
    """Return the denoiser given `num` conditions. A call has any multiple of `num` rows, and row i is given condition
    i modulo `num`; guidance above 1 moves further from no label to the label."""
    ...

  def served(self, carry: Carry, values: Float[Array, "batch *event"]) -> Array:
    """Return values as the data set has them; integers are the nearest levels."""
    ...


@runtime_checkable
class HasScore(Protocol):
  """Can give the gradient of the log-density of data with the noise of a time in [0, 1]."""

  def score(self, params: Params, carry: Carry, x: Float[Array, "batch *event"],
            t: Float[ArrayLike, "..."]) -> Float[Array, "batch *event"]: ...


@runtime_checkable
class HasNoised(Protocol):
  """Can add the noise of a time to data."""

  def noised(self, params: Params, carry: Carry, key: Key[Array, ""], x: Float[Array, "batch *event"],
             t: Float[ArrayLike, "..."]) -> Float[Array, "batch *event"]: ...


# Latents.


@runtime_checkable
class HasLatent(Protocol):
  """Maps data to latents and back; a class-conditional model's `decode` takes labels as its condition."""

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> PyTree: ...

  def decode(self, params: Params, carry: Carry, latent: PyTree, key: Key[Array, ""], **options: Any) -> Array: ...


@runtime_checkable
class HasBijection(HasLatent, Protocol):
  """Has latents that are another form of the data: `decode` undoes `encode`."""

  @property
  def is_bijection(self) -> bool: ...


@runtime_checkable
class HasPriorLatents(Protocol):
  """Makes data of latents that it can draw, whether or not it can tell the latents of data."""

  def prior_latents(self, params: Params, key: Key[Array, ""], num: int) -> Array:
    """Draw latents [num, *latent]."""
    ...

  def decode(self, params: Params, carry: Carry, latent: PyTree, key: Key[Array, ""], **options: Any) -> Array: ...


# Chains of conditionals.


@runtime_checkable
class HasConditionals(Protocol):
  """Is a chain of categoricals over its dimensions in raster order, one step each: what lossless coding runs on."""

  @property
  def num_steps(self) -> int: ...

  def init_cache(self, params: Params, num: int) -> PyTree:
    """Return the state of `conditional_step` before the first dimension, for `num` examples."""
    ...

  def conditional_step(self, params: Params, cache: PyTree, x_previous: Int[Array, " batch"],
                       index: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch levels"]]:
    """Logits of the dimension at `index` given those before; `x_previous` is the last of them, ignored at index 0."""
    ...


@runtime_checkable
class HasContext(HasConditionals, Protocol):
  """Has conditionals over a vocabulary, for sequences of up to `context` tokens."""

  @property
  def levels(self) -> int:
    """Size of the vocabulary."""
    ...

  @property
  def context(self) -> int | None:
    """The longest sequence that steps can make; None where there is no limit."""
    ...


@runtime_checkable
class HasPrefill(Protocol):
  """Can take prompts in one pass."""

  def prefill(self, params: Params, cache: PyTree, x: Int[Array, "batch prompt"], num: Int[Array, ""]) -> PyTree:
    """Return the cache that `conditional_step` at indices 0 to num - 1 would have left: it feeds `start`, then x.

    Args:
      params: the parameters.
      cache: from `init_cache`.
      x: prompts' tokens; those from num - 1 on are not fed.
      num: 1 to prompt; may be traced.
    """
    ...


@runtime_checkable
class HasGenerate(Protocol):
  """Can continue sequences of tokens; `generate` returns a gdm.inference.generation.Generated."""

  @property
  def context(self) -> int | None:
    """The longest sequence that it can generate at once; None where there is no limit."""
    ...

  def generate(self, params: Params, key: Key[Array, "..."], num: int | None = None, *, prompt: Any = None,
               prompt_length: Any = None, max_length: int | None = None, **options: Any) -> Any: ...


@runtime_checkable
class HasVariables(Protocol):
  """Steps through variables, of one or more dimensions each, whose distributions a head makes of logits.

  `head` has `dims` and `score`; `layout.order` says which variable each step is about; `init_cache` and
  `conditional_step` are as in gdm/autoregressive/vectors/vector_model.py.
  """

  @property
  def head(self) -> Any: ...

  @property
  def layout(self) -> Any: ...

  def init_cache(self, params: Params, num: int) -> PyTree: ...

  def conditional_step(self, params: Params, cache: PyTree, x_previous: Array,
                       index: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch width"]]: ...


@runtime_checkable
class HasComponents(Protocol):
  """Is a uniform mixture of models with variables, whose `init_cache` takes the component.

  `components.orders` [components, variables] says which variable each step of a component is about.
  """

  @property
  def head(self) -> Any: ...

  @property
  def components(self) -> Any: ...

  @property
  def num_components(self) -> int: ...

  def init_cache(self, params: Params, num: int, component: int | Int[Array, ""] = 0) -> PyTree: ...

  def conditional_step(self, params: Params, cache: PyTree, x_previous: Array,
                       index: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch width"]]: ...


@runtime_checkable
class HasOrders(Protocol):
  """Is agnostic to the order of its dimensions: in fixed orders it is a mixture of chains, exactly."""

  def in_orders(self, num_orders: int) -> HasComponents:
    """Return the uniform mixture of the chains in so many fixed orders, a model with the same parameters."""
    ...


# What lossless coding runs on, beside conditionals.


@runtime_checkable
class HasBitsBack(Protocol):
  """Has layers of Gaussian latents above discrete data, whose dimensions are independent given the latents, but for
  the channels of a pixel: what lossless coding by bits back runs on.

  Latents of a layer are flat, [batch, dims]; `above` holds the layers above one, from the top down, so that their
  number says which layer it is about.
  """

  def latent_layers(self) -> tuple[int, ...]:
    """Return the dimensions of each layer, from the top down; a ConfigError says which setting cannot be coded."""
    ...

  def posterior_moments(self, params: Params, carry: Carry, x: Int[Array, "batch *event"],
                        above: tuple[Float[Array, "batch _"], ...]
                        ) -> tuple[Float[Array, "batch dims"], Float[Array, "batch dims"]]:
    """Return means and standard deviations of q(layer | x, above)."""
    ...

  def prior_moments(self, params: Params, carry: Carry, num: int, above: tuple[Float[Array, "num _"], ...]
                    ) -> tuple[Float[Array, "num dims"], Float[Array, "num dims"]]:
    """Return means and standard deviations of p(layer | above)."""
    ...

  def level_log_probs(self, params: Params, carry: Carry, latents: tuple[Float[Array, "batch _"], ...],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    """Return log p, in nats, of every level of one channel of all places, given all latents and the channels before;
    that channel's values in x and later ones change nothing. What is no image has one channel."""
    ...


@runtime_checkable
class HasCodes(Protocol):
  """Has discrete codes, with a model of them, and discrete data whose dimensions are independent given the codes, but
  for the channels of a pixel: lossless coding takes the codes first."""

  def code_model(self) -> Model:
    """Return the model of the codes; a ConfigError says why there is none."""
    ...

  def of_code_model(self, params: Params, carry: Carry) -> tuple[Params, Carry]:
    """Return parameters and carry of the model of the codes."""
    ...

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Int[Array, "batch *codes"]:
    """Return the codes of examples; no key changes them."""
    ...

  def level_log_probs(self, params: Params, carry: Carry, codes: Int[Array, "batch *codes"],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    """Return log p, in nats, of every level of one channel of all places, given codes and the channels before."""
    ...


class IntegerStep(NamedTuple):
  """A step of an integer flow: some integers change, or leave, given others.

  Attributes:
    moved: places of them in the flattened example.
    seen: places of the others; none of them moves.
    leaves: whether they leave: none of them is moved or seen any more.
  """

  moved: Int[np.ndarray, " moved"]
  seen: Int[np.ndarray, " seen"]
  leaves: bool


@runtime_checkable
class HasIntegerSteps(Protocol):
  """Takes discrete data to integers of known distributions, by steps that can be undone: what lossless coding runs on.

  Both functions look at the places that the step sees, and at no others.
  """

  @property
  def integer_steps(self) -> tuple[IntegerStep, ...]:
    """The steps, from the data on; in the end all has left. A SpecError says why there are none."""
    ...

  def step_shift(self, params: Params, carry: Carry, index: int, z: Int[Array, "batch dims"]) -> Int[Array, "batch _"]:
    """Return what is added to what the step moves."""
    ...

  def step_log_probs(self, params: Params, carry: Carry, index: int, z: Int[Array, "batch dims"],
                     values: Int[Array, " values"]) -> Float[Array, "batch _ values"]:
    """Return log p, in nats, of these integers of each that leaves at the step."""
    ...


@runtime_checkable
class HasNormalBijection(Protocol):
  """Takes integers plus uniform noise in [0, 1) to independent standard normals, by a bijection: what lossless coding
  by local bits back runs on."""

  def require_normal_bijection(self) -> None:
    """Raise a ConfigError or a SpecError that says which setting or data make it something else."""
    ...

  def to_normal(self, params: Params, carry: Carry, x: Float[Array, "batch *event"]) -> Float[Array, "batch *latent"]:
    """Return the normals that dequantized examples become."""
    ...

  def from_normal(self, params: Params, carry: Carry, z: Float[Array, "batch dims"]) -> Float[Array, "batch *event"]:
    """Return the dequantized examples that flattened normals come from."""
    ...


@dataclasses.dataclass(frozen=True)
class NoiseSteps:
  """Discrete data to noise in T steps of known normals, and back by normals whose means are predicted, as functions.

  States are flat, [batch, dims], of variance about one, and numbered from the data: 0 to T.

  Attributes:
    first: data [batch, *event] -> mean of state 0.
    factors: [T]: the mean of state i + 1 given state i is factors[i] times it.
    deviations: [T + 1]: of state 0 given the data, and of each further one given that before.
    before: (state i, i) -> mean of state i - 1.
    deviations_before: [T]: of state i given state i + 1.
    last_deviation: of state T, whose mean is 0.
    level_log_probs: state 0 -> log p of every level of the data [batch, *event, levels], in nats.
  """

  first: Callable[[Array], Array]
  factors: Float[Array, " steps"]
  deviations: Float[Array, " states"]
  before: Callable[[Array, Array], Array]
  deviations_before: Float[Array, " steps"]
  last_deviation: Float[Array, ""]
  level_log_probs: Callable[[Array], Array]


@runtime_checkable
class HasNoiseSteps(Protocol):
  """Takes discrete data to noise in steps, and back: what lossless coding by bits back through steps runs on."""

  def require_noise_steps(self) -> None:
    """Raise a ConfigError or a SpecError that says which setting or data have no such steps."""
    ...

  def noise_steps(self, params: Params, carry: Carry) -> NoiseSteps:
    """Return the steps."""
    ...
