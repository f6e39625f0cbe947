"""D3PM with uniform or discretized-Gaussian noise in T steps (Austin et al., arXiv:2107.03006).

The network predicts the data, and the step back follows from it exactly (equation 4):

  p(x_{t-1} | x_t) proportional to sum over x_0 of q(x_{t-1}, x_t | x_0) p(x_0 | x_t).

The absorbing D3PM is `masked` with num_noise_steps.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm import checks
from gdm.batches import checked, condition_context, context_width, given, given_context
from gdm.dataspec import DataSpec
from gdm.discrete_diffusion.masked import find_schedule
from gdm.discrete_diffusion.networks.choice import network_for
from gdm.discrete_diffusion.schedules import Schedule
from gdm.discrete_diffusion.transitions import GaussianTransitions, Transitions, UniformTransitions
from gdm.inference.generation import TokenChoice
from gdm.inference.stratified import low_discrepancy_ranks
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Condition, LossOutput, Mean, Objective, Params, Samples

SMALLEST = 1e-30  # probabilities below it count as it in logarithms


@dataclasses.dataclass(frozen=True)
class D3PM:
  """A model of discrete data by denoising levels in T steps.

  Example:
    model = D3PM(DataSpec((4,), 5), UniformTransitions(10, CosineSchedule()), network=Perceptron(hidden=(32,)))
    params, carry = model.init(key, {"x": jnp.zeros((16, 4), jnp.int32)})
    x = model.sample(params, carry, key, 16).x

  Attributes:
    spec: the data, which must be discrete.
    transitions: the matrices of the steps.
    network: a `LogitsNetwork`, which is given the time t / T; None is residual convolutions for images, else a
      perceptron.
    auxiliary: weight of the mean of -log p(x_0 | x_t) per dimension in the loss, beside the bound (equation 5).
    class_conditional: whether the network is given the labels "y".
  """

  spec: DataSpec
  transitions: Transitions
  network: nn.Module | None = None
  auxiliary: float = 0.0
  class_conditional: bool = False

  def __post_init__(self) -> None:
    levels = self.spec.require_discrete("D3PM")
    self.spec.require_whole("D3PM")
    checks.classes(self.spec, self.class_conditional)
    checks.at_least("auxiliary", self.auxiliary, 0)
    self.transitions.tables(levels)  # it checks that they fit
    _ = self.module  # it checks its fields

  @property
  def levels(self) -> int:
    """Number of levels."""
    return self.spec.require_discrete("D3PM")

  @functools.cached_property
  def module(self) -> nn.Module:
    """The network, for this data."""
    return network_for(self.spec, self.network, timed=True, context=context_width(self))

  @property
  def context_conditional(self) -> bool:
    """Whether the mass is conditional on a real-valued context, as it is where the data have one."""
    return self.spec.context_dims > 0

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(("model",), self.loss, unit="nats per dim"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return fresh parameters, and no carry."""
    del batch  # initialization needs no data
    width = context_width(self)
    variables: Any = self.module.init(key, jnp.zeros((1, *self.spec.event), jnp.int32), jnp.zeros(1),
                                      jnp.zeros((1, width)) if width else None)
    return {"model": variables["params"]}, {}

  # The steps.

  def log_data_probs(self, params: Params, x: Int[Array, "batch dims"], t: Int[Array, " batch"],
                     key: Key[Array, ""] | None = None,
                     context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch dims levels"]:
    """Return log p(x_0 | x_t) in nats of every dimension's levels, t from 1 to T, given a context where the model is
    conditional; a key means training."""
    rngs = {} if key is None else {"dropout": key}
    time = t.astype(jnp.float32) / self.transitions.num_steps
    logits: Any = self.module.apply({"params": params["model"]}, x.reshape(-1, *self.spec.event), time, context,
                                    rngs=rngs)
    return jax.nn.log_softmax(logits).reshape(*x.shape, self.levels)

  def step_back(self, data_probs: Float[Array, "batch dims levels"], x: Int[Array, "batch dims"],
                t: Int[Array, " batch"]) -> Float[Array, "batch dims levels"]:
    """Return log p(x_{t-1} | x_t) in nats, given probabilities of x_0 (equation 4); of one x_0 it is the posterior
    q(x_{t-1} | x_t, x_0) (equation 3)."""
    tables = self.transitions.tables(self.levels)
    reached = jnp.asarray(tables.step)[t - 1].swapaxes(1, 2)  # [batch, x_t, x_{t-1}]
    likelihood = jax.nn.one_hot(x, self.levels) @ reached
    prior = data_probs @ jnp.asarray(tables.total)[t - 1]
    joint = likelihood * prior
    return _log(joint) - _log(jnp.sum(joint, axis=-1, keepdims=True))

  def at_step(self, key: Key[Array, ""], x: Int[Array, "batch dims"],
              t: Int[Array, " batch"]) -> Int[Array, "batch dims"]:
    """Draw x_t given x_0, t from 1 to T."""
    probs = jax.nn.one_hot(x, self.levels) @ jnp.asarray(self.transitions.tables(self.levels).total)[t]
    return jax.random.categorical(key, _log(probs)).astype(jnp.int32)

  def step_loss(self, params: Params, x: Int[Array, "batch dims"], t: Int[Array, " batch"], key: Key[Array, ""],
                train: bool = False, context: Float[Array, "batch width"] | None = None
                ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Return KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) in nats, at one draw of x_t, and -log p(x_0 | x_t).

    At t = 1 the divergence is -log p(x_0 | x_1), the reconstruction.
    """
    noise_key, dropout_key = jax.random.split(key)
    noised, exact = self.at_step(noise_key, x, t), jax.nn.one_hot(x, self.levels)
    log_data = self.log_data_probs(params, noised, t, dropout_key if train else None, context)
    posterior, predicted = self.step_back(exact, noised, t), self.step_back(jnp.exp(log_data), noised, t)
    divergence = jnp.sum(jnp.exp(posterior) * (posterior - predicted), axis=(1, 2))
    return divergence, -jnp.sum(exact * log_data, axis=(1, 2))

  def prior_loss(self, x: Int[Array, "batch dims"]) -> Float[Array, " batch"]:
    """Return KL(q(x_T | x_0) || uniform) in nats, exactly."""
    last = jnp.asarray(self.transitions.tables(self.levels).total)[-1]
    each = jnp.sum(last * (_log(last) + math.log(self.levels)), axis=1)
    return jnp.sum(jnp.maximum(each, 0.0)[x], axis=1)  # below 0 only by rounding

  # Training, the bound, samples.

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the bound in nats per dimension, a mean over the batch at one step each, and `auxiliary` times the cross
    entropy of the data. Metrics: "nll", the bound in nats per example, and "data_nll", nats per dimension."""
    del step
    rank_key, step_key = jax.random.split(key)
    x = _flat(batch)
    t = self._step_at(low_discrepancy_ranks(rank_key, len(x)))
    divergence, data_nll = self.step_loss(params, x, t, step_key, True, given_context(self, batch))
    nats = self.transitions.num_steps * divergence + self.prior_loss(x)
    metrics = {"nll": Mean.of(nats), "data_nll": Mean.of(data_nll / self.spec.num_dims)}
    return LossOutput(jnp.mean(nats + self.auxiliary * data_nll) / self.spec.num_dims, metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return a lower bound in nats, the mean of `num_samples` steps spread evenly over all (equation 1).

    Draws lessen its noise, they do not tighten it, and the exponential of one is not unbiased. Details are its parts in
    nats.
    """
    x = _flat(batch)
    rank_key, step_key = jax.random.split(key)
    offset, context = low_discrepancy_ranks(rank_key, len(x)), given_context(self, batch)

    def one(index):
      t = self._step_at((offset + index) / num_samples)
      step_losses, _ = self.step_loss(params, x, t, jax.random.fold_in(step_key, index), False, context)
      return self.transitions.num_steps * step_losses

    parts = {"prior": self.prior_loss(x), "diffusion": jnp.mean(jax.lax.map(one, jnp.arange(num_samples)), axis=0)}
    nats = -(parts["prior"] + parts["diffusion"])
    found = LogLikelihood.of(nats, self.spec.num_dims, Kind.LOWER_BOUND, given(self), parts)
    return checked(self.spec, batch, found)

  def _step_at(self, ranks: Float[Array, " batch"]) -> Int[Array, " batch"]:
    """Return the step, 1 to T, at each rank in [0, 1)."""
    steps = self.transitions.num_steps
    return 1 + jnp.clip(jnp.floor(ranks * steps), 0, steps - 1).astype(jnp.int32)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> Samples:
    """Draw x [num, *event] in T steps from uniform levels. Info: "nfe".

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: labels, contexts or both of a conditional model; see `gdm.batches.condition_context`.
      temperature, top_k, top_p: how levels are drawn at each step, see `gdm.inference.generation.TokenChoice`.

    Raises:
      ConfigError: an option outside its range.
      SpecError: the condition is missing, must not be, or is out of range.
    """
    context = condition_context(self, condition, num)
    x = _draw(self, params, key, context, num, TokenChoice(temperature, top_k, top_p))
    return Samples(x, {"nfe": self.transitions.num_steps})


@functools.partial(jax.jit, static_argnames=("model", "num", "choice"))
def _draw(model: D3PM, params: Params, key: Key[Array, ""], context: Float[Array, "num width"] | None, num: int,
          choice: TokenChoice) -> Int[Array, "num *event"]:
  first_key, key = jax.random.split(key)
  x = jax.random.randint(first_key, (num, model.spec.num_dims), 0, model.levels)

  def body(x, t):
    steps = jnp.full(num, t)
    probs = jnp.exp(model.log_data_probs(params, x, steps, None, context))
    return choice.draw(jax.random.fold_in(key, t), model.step_back(probs, x, steps)), None

  x, _ = jax.lax.scan(body, x, jnp.arange(model.transitions.num_steps, 0, -1))
  return x.reshape(num, *model.spec.event)


def d3pm(spec: DataSpec, *, transitions: str | Transitions = "uniform", num_noise_steps: int = 100,
         schedule: str | Schedule = "cosine", power: float = 2.0, network: nn.Module | None = None,
         auxiliary: float = 0.0, class_conditional: bool = False) -> D3PM:
  """Return a D3PM whose noise is uniform or, for levels that are a scale, a discretized normal.

  Example:
    model = d3pm(DataSpec((8, 8, 1), 17), transitions="gaussian", num_noise_steps=200)

  Args:
    spec: the data.
    transitions: uniform or gaussian, or transitions. Absorbing ones are the model `masked` with num_noise_steps.
    num_noise_steps: T.
    schedule: of uniform transitions, the probability that a level was replaced: linear, cosine or polynomial.
    power: of the polynomial one.
    network: a network, see `D3PM`.
    auxiliary: weight of the cross entropy of the data, see `D3PM`.
    class_conditional: whether the network is given the labels "y".
  """
  if not isinstance(transitions, str):
    return D3PM(spec, transitions, network, auxiliary, class_conditional)
  makers = {"uniform": lambda: UniformTransitions(num_noise_steps, find_schedule(schedule, power)),
            "gaussian": lambda: GaussianTransitions(num_noise_steps)}
  checks.one_of("transitions", transitions, makers)
  return D3PM(spec, makers[transitions](), network, auxiliary, class_conditional)


def _flat(batch: Batch) -> Int[Array, "batch dims"]:
  x = jnp.asarray(batch["x"])
  return x.reshape(x.shape[0], -1).astype(jnp.int32)


def _log(probs: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  return jnp.log(jnp.maximum(probs, SMALLEST))
