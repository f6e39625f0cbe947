"""A world model lived in: dreams, a controller trained in them and tried outside; and policies learned from experts."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gdm.batches import given
from gdm.errors import ConfigError
from gdm.evaluation.intervals import student_975
from gdm.model import HasClosedLoop, HasSample
from gdm.runs.trained import TrainedRun
from gdm.training.streams import stream_key
from gdm.worlds.control import evolve, linear, num_parameters
from gdm.worlds.environments import Environment


class Earned(NamedTuple):
  """Returns of episodes: their mean, and half the width of its 95 % interval."""

  mean: float
  half: float

  @classmethod
  def of(cls, returns: Float[np.ndarray, " episodes"]) -> "Earned":
    half = student_975(len(returns) - 1) * returns.std(ddof=1) / np.sqrt(len(returns)) if len(returns) > 1 else 0.0
    return cls(float(returns.mean()), float(half))

  def __str__(self) -> str:
    return f"{self.mean:.1f} ± {self.half:.1f}"


def require_world(run: TrainedRun, env: Environment) -> HasClosedLoop:
  """Return a run's model as one that can be lived in. Raise ConfigError where it cannot, or is of another world."""
  if not isinstance(run.model, HasClosedLoop) or not run.spec.context_dims:
    raise ConfigError(f"{run.config.model.name} on {run.data.name} is no model of frames given actions; train "
                      "recurrent_frames on what experiments.record writes.")
  expected = (env.dims + 1, env.width * run.spec.event[0])
  if (run.spec.event[-1], run.spec.context_dims) != expected or len(run.spec.event) != 2:
    raise ConfigError(f"{run.data.name} has frames {run.spec.event[1:]} and contexts of {run.spec.context_dims}, but "
                      f"those of {env.name} are ({expected[0]},) and {expected[1]}; name the recorded environment.")
  return run.model


def dreamt_steps(run: TrainedRun, env: Environment, weights: Float[np.ndarray, "population parameters"],
                 dreams: int, steps: int, seed: int) -> Float[np.ndarray, " population"]:
  """Return how many steps each linear controller lives in a dream before its mark says the end, on average.

  Args:
    run: of a world model.
    env: the environment that it models.
    weights: controllers, see `gdm.worlds.control.linear`.
    dreams: of each controller.
    steps: frames of a dream; it may be longer than what was recorded.
    seed: another one dreams others.
  """
  model = require_world(run, env)
  return np.asarray(_steps(model, run.params, run.carry, stream_key(jax.random.key(seed), "dream", 0),
                           jnp.asarray(weights, jnp.float32), env.dims, env.num_choices, dreams, steps))


def dream(run: TrainedRun, env: Environment, weights: Float[np.ndarray, " parameters"], num: int, steps: int, seed: int
          ) -> tuple[np.ndarray, np.ndarray]:
  """Return frames [num, steps, dims + 1], and actions, of dreams in which a linear controller acts."""
  model = require_world(run, env)
  rows = jnp.broadcast_to(jnp.asarray(weights, jnp.float32), (num, len(weights)))
  frames, actions = model.closed_loop(run.params, run.carry, stream_key(jax.random.key(seed), "dream", 1), num,
                                      _acting(rows, env.dims, env.num_choices), steps)
  return np.asarray(frames), np.asarray(actions)


def train_in_dream(run: TrainedRun, env: Environment, generations: int, population: int, dreams: int,
                   steps: int, seed: int) -> Float[np.ndarray, " parameters"]:
  """Return the weights of a linear controller that lives long in dreams; each generation dreams anew."""
  counter = iter(range(generations))

  def scores(weights: np.ndarray) -> np.ndarray:
    return dreamt_steps(run, env, weights, dreams, steps, seed + 1 + next(counter))

  return evolve(scores, num_parameters(env.dims, env.width), generations, population, seed + 1)


def train_in_environment(env: Environment, generations: int, population: int, episodes: int,
                         seed: int) -> Float[np.ndarray, " parameters"]:
  """Return the weights of a linear controller that earns much in the environment itself."""
  counter = iter(range(generations))

  def scores(weights: np.ndarray) -> np.ndarray:
    first = seed + 1_000_000 + 1000 * next(counter)
    return np.array([env.returns(lambda observation, rng, row=row: linear(row, observation), episodes, first).mean()
                     for row in weights])

  return evolve(scores, num_parameters(env.dims, env.width), generations, population, seed + 1)


def earned(env: Environment, weights: Float[np.ndarray, " parameters"], num: int, seed: int) -> Earned:
  """Return what a linear controller earns in so many episodes of the environment."""
  return Earned.of(env.returns(lambda observation, rng: linear(weights, observation), num, seed))


def copied_frame_nats(run: TrainedRun, split: str) -> float:
  """Return nats per frame, negative log-likelihood, of a model that expects the frame before it again.

  Each dimension is normal about its value before, and the first frame's about the mean, with deviations over the
  training split.
  """
  residuals: dict[str, list[np.ndarray]] = {}
  mean = None
  for name in ("train", split):
    rows = run.dataset.split(name).rows(slice(None))
    pieces = [x[:length] for x, length in zip(rows["x"], rows["length"], strict=True)]
    mean = np.mean([piece[0] for piece in pieces], axis=0) if mean is None else mean
    residuals[name] = [np.stack([piece[0] - mean for piece in pieces]),
                       np.concatenate([np.diff(piece, axis=0) for piece in pieces])]
  total, count = 0.0, 0
  for fitted, scored in zip(residuals["train"], residuals[split], strict=True):
    variance = np.mean(fitted.astype(np.float64) ** 2, axis=0)
    total += float(np.sum(0.5 * (scored**2 / variance + np.log(2.0 * np.pi * variance))))
    count += len(scored)
  return total / count


def imitated(run: TrainedRun, env: Environment, num: int, seed: int) -> Earned:
  """Return what a conditional model of actions given observations earns, by an action drawn at each step.

  Raise ConfigError where the run's model is no such model of the environment.
  """
  model: Any = run.model
  shape = ((1,) if env.num_choices else (env.width,), env.dims)
  if not isinstance(model, HasSample) or given(model) != ("context",) or (
      run.spec.event, run.spec.context_dims) != shape:
    raise ConfigError(f"{run.config.model.name} on {run.data.name} is no model of actions {shape[0]} given "
                      f"observations ({env.dims},), as {env.name} has; train one on what experiments.record "
                      "--decisions writes.")

  @jax.jit
  def choose(key, observation):
    return model.sample(run.params, run.carry, key, 1, {"context": observation[None]}).x[0]

  def policy(observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    action = np.asarray(choose(jax.random.key(int(rng.integers(2**31))), jnp.asarray(observation, jnp.float32)))
    return np.eye(env.num_choices)[int(action[0])] if env.num_choices else action

  return Earned.of(env.returns(policy, num, seed))


def _acting(weights: Any, dims: int, num_choices: int):
  def act(frame, step):
    del step
    action: Any = linear(weights, frame[:, :dims])
    return jax.nn.one_hot(jnp.argmax(action, axis=-1), num_choices) if num_choices else action

  return act


@functools.partial(jax.jit, static_argnames=("model", "dims", "num_choices", "dreams", "steps"))
def _steps(model, params, carry, key, weights, dims, num_choices, dreams, steps):
  rows = jnp.repeat(weights, dreams, axis=0)
  frames, _ = model.closed_loop(params, carry, key, len(rows), _acting(rows, dims, num_choices), steps)
  lives = jnp.cumprod(frames[:, :, dims] > 0.0, axis=1)  # the mark is 1, or -1 at the end, and noise
  return jnp.mean(jnp.sum(lives, axis=1).reshape(len(weights), dreams), axis=1)
