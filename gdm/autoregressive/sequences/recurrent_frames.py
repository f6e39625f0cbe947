"""Sequences of frames: a recurrent network whose state gives the distribution of the next frame, by contract.

log p(x) = sum_t log p(x_t | x_1, …, x_{t-1}), and x_t is a whole frame: the notes that sound together, the latents of
a picture. Its distribution is any model of frames given a context, which here is the network's state:

- NADE: the RNN-NADE of Boulanger-Lewandowski et al. (arXiv:1206.6392, section 3.4);
- a restricted Boltzmann machine: their RNN-RBM (section 3.3), a model that is known up to a constant for each frame;
- mixtures of Gaussians, and actions as the context of the sequence: the mixture-density network of world models (Ha
  and Schmidhuber, arXiv:1803.10122).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from gdm import checks
from gdm.autoregressive.cells import CELLS
from gdm.autoregressive.recurrence import State
from gdm.autoregressive.sequences.recurrent import RecurrentLayer
from gdm.batches import (
  condition_context,
  given,
  given_context,
  nan_unless_valid,
  num_real,
  real_dims,
  repeated_steps,
)
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import LogLikelihood
from gdm.model import (
  Batch,
  Carry,
  Condition,
  HasLogLikelihood,
  HasSample,
  LossOutput,
  Mean,
  Model,
  Objective,
  Params,
  Samples,
)
from gdm.networks.dropout import dropout
from gdm.stages import end_of_stage
from gdm.submodels import carry_of, merged_carry, named_params, of_spec, params_of

OBJECTIVES = ("likelihood", "own")
FRAME = "frame_"  # prefix of the frame model's groups


class FrameNetwork(nn.Module):
  """Stacked recurrent layers over the frames before, whose last hidden units are the state.

  Attributes:
    cell: "rnn" (tanh units), "lstm" or "gru".
    num_layers: layers; each reads the hidden units of the one below.
    width: hidden units of each; that of the last is the width of the state.
    input_dropout: rate on what is read, in [0, 1): on values of frames before.
    dropout: rate on the output of each layer, not on the recurrence (arXiv:1409.2329), in [0, 1).
  """

  cell: str = "lstm"
  num_layers: int = 1
  width: int = 200
  input_dropout: float = 0.0
  dropout: float = 0.0

  def __post_init__(self) -> None:
    checks.one_of("network.cell", self.cell, CELLS)
    checks.at_least("network.num_layers", self.num_layers, 1)
    checks.at_least("network.width", self.width, 1)
    checks.rate("network.input_dropout", self.input_dropout)
    checks.rate("network.dropout", self.dropout)
    super().__post_init__()

  def layers(self, inputs: int) -> list[RecurrentLayer]:
    sizes = [inputs] + [self.width] * (self.num_layers - 1)
    return [RecurrentLayer(self.cell, size, self.width, name=f"layer_{i}") for i, size in enumerate(sizes)]

  @nn.compact
  def __call__(self, inputs: Float[Array, "batch steps inputs"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch steps width"]:
    """Return the state at each step, given what is read at it and before; a key means training."""
    first, *keys = [None] * (self.num_layers + 1) if key is None else jax.random.split(key, self.num_layers + 1)
    x = jnp.swapaxes(dropout(first, inputs, self.input_dropout), 0, 1)
    for layer, layer_key in zip(self.layers(inputs.shape[-1]), keys, strict=True):
      x, _ = layer(layer.project(x), layer.initial_state(inputs.shape[0]))
      x = dropout(layer_key, jnp.swapaxes(end_of_stage(jnp.swapaxes(x, 0, 1)), 0, 1), self.dropout)
    return jnp.swapaxes(x, 0, 1)

  @nn.compact
  def initial_state(self, inputs: int, num: int) -> tuple[State, ...]:
    """Return each layer's learned state before the first step, where `inputs` numbers are read at each."""
    return tuple(layer.initial_state(num) for layer in self.layers(inputs))

  @nn.compact
  def step(self, inputs: Float[Array, "batch inputs"],
           states: tuple[State, ...]) -> tuple[Float[Array, "batch width"], tuple[State, ...]]:
    """Return the state at the next step, and each layer's state after it."""
    x, after = inputs, []
    for layer, before in zip(self.layers(inputs.shape[-1]), states, strict=True):
      after.append(layer.step(layer.project(x), before))
      x = after[-1][0]
    return x, tuple(after)


def _frame_spec(fields: Any, spec: DataSpec) -> DataSpec:
  """Return the data of a frame: one step of the sequence, given the network's state."""
  return DataSpec(spec.event[1:], spec.levels, context_dims=fields["network"].width)


@dataclasses.dataclass(frozen=True)
class RecurrentFrames:
  """A recurrent network over frames, and a model of a frame given its state.

  Data: "x" [batch, steps, *frame] of integers or real numbers; with "length" [batch] only the first `length` frames are
  real, and the likelihood is theirs: all of them, the first too. Where the data have a context, [batch, steps * width],
  it holds what is given at each step, the actions of a world model say: frame t is given those of steps 1 to t.

  Parameters: the group "model", the network's, and those of the frame model with "frame_" before their names.

  Attributes:
    spec: the data.
    network: reads the frames before.
    frame: model of one frame given a context, the state [batch, network.width].
    objective: "likelihood" maximizes the frame model's log-likelihood; "own" trains it by its own objective, for models
      whose likelihood has no gradient, as of energies.

  Raises:
    ConfigError: the frame model cannot be trained so.
    SpecError: the data have no steps, or a context that is not of so many steps.

  Example:
    spec = DataSpec((64, 88), 2, has_lengths=True)
    model = RecurrentFrames(spec, FrameNetwork(width=200), NADE(DataSpec((88,), 2, context_dims=200), hidden=200))
    rolls = model.sample(params, carry, jax.random.key(0), num=4).x  # [4, 64, 88]
  """

  spec: DataSpec
  network: FrameNetwork = FrameNetwork()
  frame: Any = of_spec(_frame_spec, default=None)
  objective: str = "likelihood"

  def __post_init__(self) -> None:
    checks.one_of("model.objective", self.objective, OBJECTIVES)
    if not self.spec.event:
      raise SpecError("recurrent_frames needs examples [steps, *frame], but spec.event is (); choose a model of "
                      "vectors.")
    if self.spec.context_dims % self.num_steps:
      raise SpecError(f"spec.context_dims is {self.spec.context_dims}, but the context of recurrent_frames is of "
                      f"{self.num_steps} steps, so it must be a multiple of that.")
    if self.frame is None:
      raise ConfigError("model.frame is None; it must be a model of a frame given a context, such as nade.")
    if not getattr(self.frame, "context_conditional", False):
      raise ConfigError(f"model.frame is {type(self.frame).__name__}, which takes no context; it must be a model given "
                        "one, such as nade, made, rnade or conditional_rbm.")
    if not (isinstance(self.frame, HasLogLikelihood) and isinstance(self.frame, HasSample)):
      raise ConfigError(f"model.frame is {type(self.frame).__name__}; it must be a model that scores and samples.")
    objectives: tuple[Objective, ...] = getattr(self.frame, "objectives", ())
    if len(objectives) != 1:
      raise ConfigError(f"model.frame is {type(self.frame).__name__}, which has {len(objectives)} objectives; it must "
                        "have one.")

  @property
  def num_steps(self) -> int:
    """Frames of an example, padding included."""
    return self.spec.event[0]

  @property
  def context_conditional(self) -> bool:
    """Whether something is given at each step, as where the data have a context."""
    return self.spec.context_dims > 0

  @property
  def components(self) -> tuple[Model, ...]:
    """The model whose options `sample` takes."""
    return (self.frame,)

  @property
  def objectives(self) -> tuple[Objective, ...]:
    groups = ("model", *(FRAME + group for group in self.frame.objectives[0].groups))
    return (Objective(groups=groups, loss=self.loss, unit="nats per frame"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    network_key, frame_key = jax.random.split(key)
    x = jnp.asarray(batch["x"])
    inputs = self.inputs(x[:1], _first(given_context(self, batch)))
    params = self.network.init(network_key, inputs)["params"]
    frames = self._frames(repeated_steps(x, batch))
    context = jnp.zeros((frames.shape[0], self.network.width))
    own, own_carry = self.frame.init(frame_key, {"x": frames, "context": context})
    return {"model": params, **named_params(own, FRAME)}, merged_carry({}, "frame", own_carry)

  def inputs(self, x: Num[Array, "batch steps *frame"],
             context: Float[Array, "batch given"] | None) -> Float[Array, "batch steps inputs"]:
    """Return what the network reads at each step: the frame before, zeros at first, and what is given at the step."""
    read = self.encode(x)
    before = jnp.pad(read, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    return before if context is None else jnp.concatenate([before, self.per_step(context)], axis=-1)

  def encode(self, x: Num[Array, "*lead"]) -> Float[Array, "batch steps inputs"]:
    """Return frames [batch, steps, *frame] as flat numbers: integers of more than 2 levels as one-hot vectors."""
    flat = jnp.asarray(x).reshape(*x.shape[:2], -1)
    if self.spec.levels in (None, 2):
      return flat.astype(jnp.result_type(float))
    return jax.nn.one_hot(flat.astype(jnp.int32), self.spec.levels).reshape(*x.shape[:2], -1)

  def per_step(self, context: Float[Array, "batch given"]) -> Float[Array, "batch steps _"]:
    """Return the context by step."""
    return context.reshape(context.shape[0], self.num_steps, -1)

  def states(self, params: Params, x: Num[Array, "batch steps *frame"], context: Float[Array, "batch given"] | None,
             key: Key[Array, ""] | None = None) -> Float[Array, "batch steps width"]:
    """Return the state that each frame is given; a key means training."""
    found: Any = self.network.apply({"params": params["model"]}, self.inputs(x, context), key)
    return found

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the mean loss of a frame.

    Of "likelihood" it is in nats, over the constant number of steps, so that each real frame weighs the same in every
    batch and micro-batch; metrics are "nll" in nats per example, "nats_per_frame" per real frame and "bits_per_dim". Of
    "own" it is the frame model's loss, with its metrics, where the real frames of an example come again in the place of
    its padding, so that each example weighs the same.
    """
    state_key, frame_key = jax.random.split(key)
    real, x = self._real(batch)
    states = self.states(params, x, given_context(self, batch), state_key)
    own, own_carry = params_of(params, FRAME), carry_of(carry, "frame")
    if self.objective == "own":
      x, states = (repeated_steps(each, batch) for each in (x, states))
    frames = {"x": self._frames(x), "context": states.reshape(-1, self.network.width)}
    if self.objective == "own":
      found = self.frame.objectives[0].loss(own, own_carry, frames, frame_key, step)
      return LossOutput(found.loss, found.metrics, merged_carry(carry, "frame", found.carry))
    nats = self.frame.log_likelihood(own, own_carry, frames, frame_key).nats
    nll = jnp.where(real, -nats.reshape(real.shape), 0.0)
    total, count = jnp.sum(nll), jnp.sum(real, dtype=nll.dtype)
    metrics = {"nll": Mean.of(jnp.sum(nll, axis=1)), "nats_per_frame": Mean(total, count),
               "bits_per_dim": Mean(total / jnp.log(2.0), count * (self.spec.num_dims // self.num_steps))}
    return LossOutput(jnp.mean(nll), metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return the log-likelihood of the real frames, of the kind that the frame model's has."""
    real, x = self._real(batch)
    context = given_context(self, batch)
    states = self.states(params, x, context).reshape(-1, self.network.width)
    frames = {"x": self._frames(x), "context": states}
    found = self.frame.log_likelihood(params_of(params, FRAME), carry_of(carry, "frame"), frames, key, num_samples)
    nats = jnp.sum(jnp.where(real, found.nats.reshape(real.shape), 0.0), axis=1)
    return LogLikelihood(nan_unless_valid(self.spec, batch, nats), num_real(self.spec, batch), found.kind,
                         given=given(self), unbiased=found.unbiased)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             **options: Any) -> Samples:
    """Draw x [num, steps, *frame], all of full length; options are those of the frame model's `sample`.

    Raise SpecError for a condition that is missing, or given to a model without one.
    """
    x = jnp.zeros((num, *self.spec.event), jnp.int32 if self.spec.is_discrete else jnp.float32)
    context = condition_context(self, condition, num)
    return self._drawn(params, carry, key, x, np.zeros(self.num_steps, bool), context, options)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
               known: Bool[Array | np.ndarray, "..."]) -> Samples:
    """Keep the frames that are known, a beginning of the sequence, and draw the rest given them, exactly.

    Raise SpecError where `known` is no beginning, or holds parts of frames.
    """
    parts = np.asarray(known).reshape(self.num_steps, -1)
    whole = np.all(parts, axis=1, keepdims=True)[:, 0]
    first = int(np.argmin(np.append(whole, False)))
    if parts[first:].any():
      raise SpecError(f"known must be a beginning of the sequence, of whole frames: frame {first} is not known whole, "
                      "but something at it or after it is.")
    checks.unconditional(self, given(self) or None)
    return self._drawn(params, carry, key, jnp.asarray(x), whole, None, {})

  def closed_loop(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
                  act: Callable[[Array, Array], Array], num_steps: int = 0, memory: int = 1,
                  **options: Any) -> tuple[Array, Array]:
    """Draw frames, each given an action that follows from the last frames before it; see `HasClosedLoop`.

    Options are those of the frame model's `sample`. Raise SpecError where the data have no context, or their frames are
    not flat.
    """
    if not self.spec.context_dims or len(self.spec.event) != 2:
      raise SpecError(f"closed_loop needs frames [steps, dims] given an action at each step, but spec.event is "
                      f"{self.spec.event} and spec.context_dims {self.spec.context_dims}.")
    checks.at_least("memory", memory, 1)
    own, own_carry = params_of(params, FRAME), carry_of(carry, "frame")
    width = self.spec.context_dims // self.num_steps
    kind = jnp.int32 if self.spec.is_discrete else jnp.float32

    def step(before, index):
      states, last = before  # last [num, memory, dims]: the last frames, the newest first
      action = jnp.where(index == 0, 0.0, act(last.reshape(num, -1), index))
      read = jnp.where(index == 0, 0.0, self.encode(last[:, :1])[:, 0])
      state, states = self.network.apply({"params": params["model"]}, jnp.concatenate([read, action], axis=1), states,
                                         method="step")
      frame = self.frame.sample(own, own_carry, jax.random.fold_in(key, index), num, state, **options).x.astype(kind)
      earlier = jnp.where(index == 0, frame[:, None], last[:, :-1])  # before the first frame it stood still
      return (states, jnp.concatenate([frame[:, None], earlier], axis=1)), (frame, action)

    first = jnp.zeros((num, memory, *self.spec.event[1:]), kind)
    read = self.encode(first[:, :1]).shape[-1]
    start = self.network.apply({"params": params["model"]}, read + width, num, method="initial_state")
    _, (frames, actions) = jax.lax.scan(step, (start, first), jnp.arange(num_steps or self.num_steps))
    return jnp.swapaxes(frames, 0, 1), jnp.swapaxes(actions, 0, 1)

  def _drawn(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "num *event"],
             known: Bool[np.ndarray, " steps"], context: Float[Array, "num given"] | None,
             options: dict[str, Any]) -> Samples:
    own, own_carry, num = params_of(params, FRAME), carry_of(carry, "frame"), x.shape[0]
    variables = {"params": params["model"]}
    inputs = self.inputs(x, context)  # of its frames only the known ones are read

    def step(before, step_inputs):
      states, previous = before
      index, given_here, frame, is_known = step_inputs
      read = jnp.where(index == 0, 0.0, self.encode(previous[:, None])[:, 0])
      read = jnp.concatenate([read, given_here[:, read.shape[1]:]], axis=1)
      state, states = self.network.apply(variables, read, states, method="step")
      drawn = self.frame.sample(own, own_carry, jax.random.fold_in(key, index), num, state, **options).x
      frame = jnp.where(is_known, frame, drawn.astype(frame.dtype))
      return (states, frame), frame

    start = self.network.apply(variables, inputs.shape[-1], num, method="initial_state")
    steps = (jnp.arange(self.num_steps), jnp.swapaxes(inputs, 0, 1), jnp.swapaxes(x, 0, 1), jnp.asarray(known))
    _, frames = jax.lax.scan(step, (start, jnp.zeros_like(x[:, 0])), steps)
    return Samples(jnp.swapaxes(frames, 0, 1), {"nfe": self.num_steps})

  def _real(self, batch: Batch) -> tuple[Bool[Array, "batch steps"], Num[Array, "batch steps *frame"]]:
    """Return which frames are no padding, and the frames; padding may be anything, and becomes 0."""
    real = real_dims(self.spec, batch).reshape(-1, self.num_steps, self.spec.num_dims // self.num_steps)[:, :, 0]
    x = jnp.asarray(batch["x"])
    return real, jnp.where(real.reshape(*real.shape, *(1,) * (x.ndim - 2)), x, jnp.zeros((), x.dtype))

  def _frames(self, x: Num[Array, "batch steps *frame"]) -> Num[Array, "frames *frame"]:
    return x.reshape(-1, *self.spec.event[1:])


def _first(context: Float[Array, "batch given"] | None) -> Float[Array, "1 given"] | None:
  return None if context is None else context[:1]
