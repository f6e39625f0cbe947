"""A world model lived in: dreams, and a controller trained in them and tried outside.

A controller is linear in what it is given: the observation, or of pictures the latents of the last few frames.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm import checks
from gdm.batches import dims_per_step
from gdm.data.archive import read_npz
from gdm.errors import ConfigError, WorkdirError
from gdm.evaluation.intervals import student_975
from gdm.model import HasClosedLoop, HasLatent
from gdm.paths import local_path
from gdm.precision import at_highest_precision
from gdm.runs.load import open_run
from gdm.runs.trained import TrainedRun
from gdm.training.streams import stream_key
from gdm.worlds.control import evolve, linear, num_parameters
from gdm.worlds.copying import CopiedFrames
from gdm.worlds.environments import Environment, Policy, Rollout
from gdm.worlds.pictures import camera_of
from gdm.worlds.recording import record

MEMORY = 3  # frames whose latents a controller is given: one picture does not show how fast things move
MEASURED = 200  # training episodes by which what it is given is scaled
LEAST_SPREAD = 1e-3  # of what it is given; smaller ones are not scaled up further
FRESH = 10_000_000  # first seed of episodes that were not recorded
FILE = "dreams.npz"  # in a workdir: the controller, and dreams of it


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


@dataclasses.dataclass(frozen=True, eq=False)
class Senses:
  """What a controller is given: the newest frame without its mark, and the changes that led to it.

  Attributes:
    dims: numbers of a frame, without the mark.
    memory: last frames that are remembered, at least 1.
    scale: [memory, dims], what the newest frame and the changes are divided by.
  """

  dims: int
  memory: int
  scale: Float[np.ndarray, "memory dims"]

  @property
  def size(self) -> int:
    """How many numbers a controller is given."""
    return self.memory * self.dims

  def given(self, frames: Any) -> Any:
    """Return them [*lead, size] of the last frames [*lead, memory, dims], the newest first."""
    changes = frames[..., :-1, :] - frames[..., 1:, :]
    parts = jnp.concatenate([frames[..., :1, :], changes], axis=-2) / jnp.asarray(self.scale)
    return parts.reshape(*parts.shape[:-2], self.size)


class Dreamer(NamedTuple):
  """A world model and how it is lived in.

  Attributes:
    run: of the world model.
    env: the environment that it models.
    senses: what controllers are given.
    temperature: of dreams: above 1 they are less certain than the model, so that a controller cannot live by its
      mistakes.
  """

  run: TrainedRun
  env: Environment
  senses: Senses
  temperature: float = 1.0

  @property
  def num_parameters(self) -> int:
    """Weights of a controller."""
    return num_parameters(self.senses.size, self.env.width)


def environment_of(run: TrainedRun, name: str) -> Environment:
  """Return the environment, with a camera as the run's pictures were taken by where it models pictures."""
  spec = run.spec
  if spec.is_discrete and len(spec.event) == 4:
    return Environment(name, camera_of(name, f"{spec.event[1]}x{spec.event[2]}", spec.levels or 0))
  return Environment(name)


def require_world(run: TrainedRun, env: Environment) -> HasClosedLoop:
  """Return a run's model as one that can be lived in. Raise ConfigError where it cannot, or is of another world."""
  spec, model = run.spec, run.model
  if not isinstance(model, HasClosedLoop) or not spec.context_dims or len(spec.event) < 2:
    raise ConfigError(f"{run.config.model.name} on {run.data.name} is no model of frames given actions; train "
                      "recurrent_frames or latent_frames on what experiments.record writes.")
  frame = env.camera.shape if env.camera else (env.dims + 1,)
  expected = (frame, env.width * spec.event[0])
  levels = env.camera.levels if env.camera else None
  if (spec.event[1:], spec.context_dims) != expected or spec.levels != levels:
    kind = f"pictures of {levels} levels" if levels else "vectors"
    raise ConfigError(f"{run.data.name} has frames {spec.event[1:]} with levels {spec.levels} and contexts of "
                      f"{spec.context_dims}, but those of {env.name} are {kind} {frame} and {expected[1]}; name the "
                      "environment that was recorded, with its --observations, --size and --levels.")
  if env.camera and not (isinstance(model, HasLatent) and spec.num_classes):
    raise ConfigError(f"{run.config.model.name} on {run.data.name} has no latents, or its data do not say which "
                      "episodes ended; train latent_frames on what experiments.record writes.")
  return model


def dreamer(run: TrainedRun, env: Environment, memory: int = 0, temperature: float = 1.0) -> Dreamer:
  """Return a run as a world to live in; `memory` 0 is 1 frame of vectors, and of pictures `MEMORY`.

  Raise ConfigError where the run is of no such world, or a setting is out of range.
  """
  require_world(run, env)
  checks.at_least("memory", memory, 0)
  checks.positive("temperature", temperature)
  memory = memory or (MEMORY if env.camera else 1)
  if not env.camera and memory == 1:
    return Dreamer(run, env, Senses(env.dims, 1, np.ones((1, env.dims), np.float32)), temperature)
  return Dreamer(run, env, _measured(run, env, memory), temperature)


@at_highest_precision
def dreamt_steps(world: Dreamer, weights: Float[np.ndarray, "population parameters"], dreams: int, steps: int,
                 seed: int) -> Float[np.ndarray, " population"]:
  """Return how many steps each linear controller lives in a dream before its mark says the end, on average.

  Args:
    world: the world model.
    weights: controllers, see `gdm.worlds.control.linear`.
    dreams: of each controller.
    steps: frames of a dream; it may be longer than what was recorded.
    seed: another one dreams others.
  """
  frames, _ = _dreamt(world, np.repeat(weights, dreams, axis=0), "dream 0", steps, seed)
  return _lives(frames, world.senses.dims).reshape(len(weights), dreams).mean(axis=1)


@at_highest_precision
def dream(world: Dreamer, weights: Float[np.ndarray, " parameters"], num: int, steps: int, seed: int
          ) -> tuple[np.ndarray, np.ndarray]:
  """Return frames [num, steps, dims + 1], or pictures [num, steps, height, width, 1] of levels, and actions, of dreams
  in which a linear controller acts."""
  frames, actions = _dreamt(world, np.repeat(weights[None], num, axis=0), "dream 1", steps, seed)
  if world.env.camera:
    run, model = world.run, world.run.model
    assert isinstance(model, HasLatent)
    pictures = jax.jit(lambda z: model.decode(run.params, run.carry, z, jax.random.key(0)))(frames)
    frames = np.rint(pictures).astype(np.uint8)
  return np.asarray(frames), np.asarray(actions)


@at_highest_precision
def train_in_dream(world: Dreamer, generations: int, population: int, dreams: int, steps: int,
                   seed: int) -> Float[np.ndarray, " parameters"]:
  """Return the weights of a linear controller that lives long in dreams; each generation dreams anew."""
  counter = iter(range(generations))

  def scores(weights: np.ndarray) -> np.ndarray:
    return dreamt_steps(world, weights, dreams, steps, seed + 1 + next(counter))

  return evolve(scores, world.num_parameters, generations, population, seed + 1)


class Trained(NamedTuple):
  """Weights of a controller, and the steps of the environment that they took to find."""

  weights: Float[np.ndarray, " parameters"]
  steps: int


def train_in_environment(env: Environment, generations: int, population: int, episodes: int, seed: int) -> Trained:
  """Return a controller, linear in the observation, that earns much in the environment itself."""
  counter, taken = iter(range(generations)), []

  def scores(weights: np.ndarray) -> np.ndarray:
    first = seed + 1_000_000 + 1000 * next(counter)
    rolls = [[env.roll(lambda observation, rng, row=row: linear(row, observation), first + number)
              for number in range(episodes)] for row in weights]
    taken.append(sum(len(roll.actions) for each in rolls for roll in each))
    return np.array([np.mean([roll.rewards.sum() for roll in each]) for each in rolls])

  weights = evolve(scores, num_parameters(env.dims, env.width), generations, population, seed + 1)
  return Trained(weights, sum(taken))


def acting(world: Dreamer, weights: Float[np.ndarray, " parameters"]) -> Policy:
  """Return a controller as the policy of one episode: it remembers the frames that it was given."""
  if world.senses.memory == 1 and not world.env.camera:
    return lambda observation, rng: linear(weights, observation)
  decide, memory = _decide(world), None

  def policy(observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    nonlocal memory
    is_first = memory is None
    before = np.zeros((world.senses.memory, world.senses.dims), np.float32) if memory is None else memory
    action, memory = decide(weights, observation, before, is_first)
    return np.asarray(action)

  return policy


@at_highest_precision
def act_out(world: Dreamer, weights: Float[np.ndarray, " parameters"], seed: int, steps: int = 10**6) -> Rollout:
  """Return an episode of the environment in which a controller acts."""
  return world.env.roll(acting(world, weights), seed, steps, by_pictures=world.env.camera is not None)


@at_highest_precision
def earned(world: Dreamer, weights: Float[np.ndarray, " parameters"], num: int, seed: int) -> Earned:
  """Return what a controller earns in so many episodes of the environment."""
  return Earned.of(np.array([act_out(world, weights, seed + number).rewards.sum() for number in range(num)]))


@at_highest_precision
def recorded(env: Environment, policy: str, num: int, steps: int, seed: int, controller: str = "",
             spread: float = 0.0) -> list[Rollout]:
  """Return episodes of a policy.

  Args:
    env: the environment.
    policy: a name in `gdm.worlds.recording.POLICIES`.
    num: episodes.
    steps: of an episode at most.
    seed: of the first episode.
    controller: of the policy "controller", workdir of the world model in which experiments.dream left it.
    spread: deviation of factors of its weights, drawn for each episode, about 1: others than the controller show what
      it avoids.

  Raise ConfigError where the policy cannot act, or the run is of another world, WorkdirError where there is no
  controller.
  """
  if policy != "controller":
    return record(env, policy, num, steps, seed)
  run = open_run(local_path(controller, "--controller"))
  checks.at_least("--spread", spread, 0.0)
  path = run.folder / FILE
  if not path.is_file():
    raise WorkdirError(f"there is no {path}; experiments.dream writes it.")
  found = read_npz(path)
  world = dreamer(run, env, int(found["memory"]))
  if found["weights"].shape != (world.num_parameters,):
    raise WorkdirError(f"{path} has {found['weights'].size} weights, but a controller of {env.name} "
                       f"{world.num_parameters}; train it again by experiments.dream.")

  def weights(number: int) -> np.ndarray:
    noise = np.random.default_rng([seed + number, 2]).normal(size=found["weights"].shape)
    return found["weights"] * (1.0 + spread * noise)

  return [act_out(world, weights(number), seed + number, steps) for number in range(num)]


@at_highest_precision
def copied_frame_nats(run: TrainedRun, split: str) -> float:
  """Return nats per frame, negative log-likelihood, of a model that expects the frame before it again.

  Each dimension is normal about its value before, and the first frame's about the mean, with deviations over the
  training split: at least a thousandth of the dimension's over all frames (1 where it never varies), since what is
  always the same, a first velocity of 0 say, has a density without bound.
  """
  residuals: dict[str, list[np.ndarray]] = {}
  mean = least = None
  for name in ("train", split):
    rows = run.dataset.split(name).rows(slice(None))
    pieces = [x[:length] for x, length in zip(rows["x"], rows["length"], strict=True)]
    if mean is None or least is None:  # of the training split, which is the first
      mean = np.mean([piece[0] for piece in pieces], axis=0)
      spread = np.concatenate(pieces).std(axis=0, dtype=np.float64)
      least = LEAST_SPREAD * np.where(spread > 0.0, spread, 1.0)
    residuals[name] = [np.stack([piece[0] - mean for piece in pieces]),
                       np.concatenate([np.diff(piece, axis=0) for piece in pieces])]
  total, count = 0.0, 0
  for fitted, scored in zip(residuals["train"], residuals[split], strict=True):
    variance = np.maximum(np.mean(fitted.astype(np.float64) ** 2, axis=0), least**2)
    total += float(np.sum(0.5 * (scored**2 / variance + np.log(2.0 * np.pi * variance))))
    count += len(scored)
  return total / count


@at_highest_precision
def copied_frame_bits(run: TrainedRun, split: str, change: str = "marginal") -> tuple[float, float]:
  """Return bits/dim of pictures by `CopiedFrames`, fitted on the training split: of all frames, and of next frames."""
  train, rows = (run.dataset.split(name).rows(slice(None)) for name in ("train", split))
  fitted = CopiedFrames.fit(train["x"], train["length"], run.spec.levels or 0, change)
  of_all, of_next = (fitted.bits_per_dim(rows["x"], rows["length"], with_first) for with_first in (True, False))
  return of_all, of_next


@at_highest_precision
def next_frame_bits(run: TrainedRun, split: str) -> tuple[float, float]:
  """Return bits/dim of pictures by a run's model: of all frames, and of next frames, those after the first.

  The second leaves out the bound of the first frames alone, so that it is a bound of theirs in expectation only.
  """
  rows = run.dataset.split(split).rows(slice(None))
  more: dict[str, Any] = {name: rows[name] for name in ("y", "context") if name in rows}
  nats = -run.log_likelihood(rows["x"], length=rows["length"], **more).nats
  if "y" in more:
    more["y"] = np.zeros_like(more["y"])  # no episode ended with its first frame
  first = -run.log_likelihood(rows["x"], length=np.ones_like(rows["length"]), **more).nats
  frames, unit = np.sum(rows["length"]), np.log(2.0) * dims_per_step(run.spec)
  return float(nats.sum() / (frames * unit)), float((nats - first).sum() / ((frames - len(nats)) * unit))


def _measured(run: TrainedRun, env: Environment, memory: int) -> Senses:
  """Return senses scaled by the spread of training frames and of their changes."""
  rows = run.dataset.split("train").rows(slice(0, MEASURED))
  x, length = jnp.asarray(rows["x"]), np.asarray(rows["length"])
  if env.camera:
    model = run.model
    assert isinstance(model, HasLatent)
    frames = np.asarray(jax.jit(lambda x: model.encode(run.params, run.carry, {"x": x}, jax.random.key(0)))(x))
  else:
    frames = np.asarray(x)[..., :env.dims]
  real = np.arange(frames.shape[1]) < length[:, None]
  spread, change = frames[real].std(axis=0), np.diff(frames, axis=1)[real[:, 1:]].std(axis=0)
  scale = np.maximum(np.stack([spread] + [change] * (memory - 1)), LEAST_SPREAD)
  return Senses(frames.shape[2], memory, scale.astype(np.float32))


def _decide(world: Dreamer) -> Callable[..., tuple[Array, Array]]:
  """Return (weights, observation or picture, frames before, whether it is the first) -> action, frames; compiled."""
  run, senses, sees = world.run, world.senses, world.env.camera is not None
  key = (id(run), id(senses))
  if key in _COMPILED:
    return _COMPILED[key][1]
  model: Any = run.model

  @jax.jit
  def decide(weights, observation, before, is_first):
    if sees:
      frame = model.encode(run.params, run.carry, {"x": observation[None, None]}, jax.random.key(0))[0, 0]
    else:
      frame = observation
    earlier = jnp.where(is_first, frame, before[:-1])
    frames = jnp.concatenate([frame[None], earlier])
    return linear(weights, senses.given(frames)), frames

  _COMPILED.clear()
  _COMPILED[key] = (world, decide)  # the world is kept, so that no other has its id
  return decide


_COMPILED: dict[tuple[int, int], tuple[Dreamer, Callable[..., Any]]] = {}


def _dreamt(world: Dreamer, rows: Float[np.ndarray, "num parameters"], name: str, steps: int,
            seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Return frames and actions of dreams, one for each row of weights."""
  stream, number = name.split()
  key = stream_key(jax.random.key(seed), stream, int(number))
  run, senses = world.run, world.senses
  frames, actions = _living(run.model, run.params, run.carry, key, jnp.asarray(rows, jnp.float32),
                            jnp.asarray(senses.scale), senses.memory, world.env.num_choices, steps, world.temperature)
  return np.asarray(frames), np.asarray(actions)


@functools.partial(jax.jit, static_argnames=("model", "memory", "num_choices", "steps", "temperature"))
def _living(model, params, carry, key, rows, scale, memory, num_choices, steps, temperature):
  senses = Senses(scale.shape[1], memory, scale)

  def act(frames, step):
    del step
    seen = frames.reshape(frames.shape[0], memory, -1)[..., :senses.dims]  # without marks
    action: Any = linear(rows, senses.given(seen))
    return jax.nn.one_hot(jnp.argmax(action, axis=-1), num_choices) if num_choices else action

  options = {} if temperature == 1.0 else {"temperature": temperature}
  return model.closed_loop(params, carry, key, len(rows), act, steps, memory, **options)


def _lives(frames: Float[np.ndarray, "num steps _"], dims: int) -> Float[np.ndarray, " num"]:
  """Return how many frames come before the first whose mark says the end: it is 1, or -1 at the end, and noise."""
  return np.cumprod(frames[:, :, dims] > 0.0, axis=1).sum(axis=1).astype(np.float64)
