"""Rollouts as arrays of an npz file: frames given actions, for world models, or actions given observations."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gdm.errors import ConfigError, DataError
from gdm.worlds.control import linear, num_parameters
from gdm.worlds.environments import EXPERTS, Environment, Policy, Rollout

POLICIES = ("random", "linear", "expert", "controller")
OBSERVATIONS = ("vectors", "pictures")
MARK_NOISE = 0.1  # deviation of what is added to the mark of the end, so that it has a density
HELD = 0.1  # share of the episodes that validate, and that test
Arrays = dict[str, np.ndarray]


def require_used(flags: Sequence[str], observations: str, as_decisions: bool, policy: str) -> None:
  """Raise ConfigError where one of the flags that are set is of no use to a recording of such observations, decisions
  and policy."""
  for name in flags:
    is_used, of = {
        "size": (observations == "pictures", "pictures"), "levels": (observations == "pictures", "pictures"),
        "noise": (as_decisions or observations == "vectors", "vectors"),
        "spread": (policy == "controller", "--policy=controller"), "piece": (not as_decisions, "frames"),
        "actions": (not as_decisions, "frames"), "observations": (not as_decisions, "frames")}[name]
    if not is_used:
      raise ConfigError(f"--{name} is set, but it is for {of} alone; leave it out.")


def policy_of(env: Environment, name: str, seed: int) -> Policy:
  """Return the policy of one episode: each action at random, linear with weights that are drawn once, or an expert's.

  Raise ConfigError where there is no expert for the environment.
  """
  if name == "random":
    return env.random
  if name == "linear":
    weights = np.random.default_rng([seed, 1]).normal(size=num_parameters(env.dims, env.width))
    return lambda observation, rng: linear(weights, observation)
  if env.name not in EXPERTS:
    raise ConfigError(f"--policy is expert, but there is none for {env.name}; there is one for {', '.join(EXPERTS)}.")
  return EXPERTS[env.name]


def record(env: Environment, policy: str, num: int, steps: int, seed: int) -> list[Rollout]:
  """Return episodes of at most `steps` steps, with seeds from `seed` on."""
  return [env.roll(policy_of(env, policy, seed + number), seed + number, steps) for number in range(num)]


def arrays_of(rollouts: Sequence[Rollout], env: Environment, steps: int, seed: int, *, as_decisions: bool = False,
              with_actions: bool = True, noise: float = 0.0) -> Arrays:
  """Return rollouts as arrays: decisions, pictures where the environment has a camera, else frames; see these."""
  if as_decisions:
    return decisions_of(rollouts, env.num_choices, noise, seed)
  if env.camera is not None:
    return pictures_of(rollouts, steps, env.camera.levels, with_actions)
  return frames_of(rollouts, steps, seed, with_actions, noise)


def frames_of(rollouts: Sequence[Rollout], steps: int, seed: int, with_actions: bool = True,
              noise: float = 0.0) -> Arrays:
  """Return sequences of frames by split, with lengths and, as contexts, the action before each frame.

  A frame is an observation and a mark: 1, or -1 where the environment ended the episode with it, and a little noise.
  Before the first frame nothing is done: the action is zeros. Actions of a choice are one-hot. An episode of more steps
  is cut into pieces, all in its split; the action before the first frame of a piece is zeros too.

  Args:
    rollouts: episodes.
    steps: actions of the longest piece, so that sequences have one frame more.
    seed: of the noise.
    with_actions: whether contexts are written.
    noise: deviation of normal noise on observations. What is a function of the frame before has no bound on its density
      without, and likelihoods say how far a model was trained rather than what it knows.
  """
  rng, dims = np.random.default_rng(seed), rollouts[0].observations.shape[1]

  def frames(pieces: Sequence[Rollout]) -> np.ndarray:
    x = np.zeros((len(pieces), steps + 1, dims + 1), np.float32)
    for row, piece in zip(x, pieces, strict=True):
      num = len(piece.observations)
      row[:num, :dims] = piece.observations
      row[:num, dims] = 1.0
      row[num - 1, dims] = -1.0 if piece.ended else 1.0
    x[..., dims] += MARK_NOISE * rng.normal(size=x.shape[:2])
    x[..., :dims] += noise * rng.normal(size=(*x.shape[:2], dims))
    return x

  return _sequences(rollouts, steps, with_actions, frames)


def pictures_of(rollouts: Sequence[Rollout], steps: int, levels: int, with_actions: bool = True) -> Arrays:
  """Return sequences of pictures [steps + 1, height, width, 1] by split, in pieces and with contexts as `frames_of`.

  Labels say of which pieces the environment ended the episode with the last frame: 1, else 0. Raise ConfigError where
  rollouts have no pictures.
  """
  def frames(pieces: Sequence[Rollout]) -> np.ndarray:
    pictures = [piece.pictures for piece in pieces if piece.pictures is not None]
    if len(pictures) < len(pieces):
      raise ConfigError("rollouts have no pictures; record them in an environment with a camera.")
    x = np.zeros((len(pieces), steps + 1, *pictures[0].shape[1:]), np.uint8)
    for row, each in zip(x, pictures, strict=True):
      row[:len(each)] = each
    return x

  def ended(pieces: Sequence[Rollout]) -> np.ndarray:
    return np.array([piece.ended for piece in pieces], np.uint8)

  labels = {f"{name}_label": ended(pieces) for name, pieces in _pieces_by_split(rollouts, steps).items()}
  return {**_sequences(rollouts, steps, with_actions, frames), **labels, "levels": np.array(levels),
          "num_classes": np.array(2)}


def decisions_of(rollouts: Sequence[Rollout], num_choices: int, noise: float = 0.0, seed: int = 0) -> Arrays:
  """Return actions by split, each given the observation that it followed; all of an episode are in one split.

  Args:
    rollouts: episodes.
    num_choices: of a discrete environment, whose actions become numbers [N, 1]; 0 for real ones.
    noise: deviation of normal noise on real actions, without which a density of an action at its limit has no bound.
    seed: of the noise.

  Raise ConfigError for noise on choices.
  """
  if num_choices and noise:
    raise ConfigError(f"--noise is {noise:g}, but actions are one of {num_choices} choices; it is for real ones, so "
                      "leave it out.")
  arrays: Arrays = {}
  rng = np.random.default_rng(seed)
  for name, chosen in _parts(len(rollouts)).items():
    own = [rollouts[index] for index in chosen]
    actions = np.concatenate([rollout.actions for rollout in own])
    if num_choices:
      arrays[name] = actions.argmax(axis=1)[:, None].astype(np.uint8)
    else:
      arrays[name] = (actions + noise * rng.normal(size=actions.shape)).astype(np.float32)
    arrays[f"{name}_context"] = np.concatenate([rollout.observations[:-1] for rollout in own])
  return {**arrays, **({"levels": np.array(num_choices)} if num_choices else {})}


def joined(arrays: Mapping[str, np.ndarray], more: Mapping[str, np.ndarray], where: str) -> Arrays:
  """Return the sequences of two recordings, split by split.

  Args:
    arrays, more: what `frames_of` or `pictures_of` returned.
    where: what `more` is, for the message.

  Raise DataError where they are not of the same kind, frames of another size among them.
  """
  for name, array in arrays.items():
    other = more.get(name)
    if other is not None and (np.array_equal(other, array) if array.ndim == 0 else other.shape[1:] == array.shape[1:]):
      continue
    found = "is missing" if other is None else f"is {other}" if array.ndim == 0 else f"has rows {other.shape[1:]}"
    right = array if array.ndim == 0 else array.shape[1:]
    raise DataError(f"{where}: array {name!r} {found}, but what is recorded has {right}; join recordings of one "
                    "environment, with the same --observations, --size, --levels, --piece and --actions.")
  return {name: array if array.ndim == 0 else np.concatenate([more[name], array]) for name, array in arrays.items()}


def _sequences(rollouts: Sequence[Rollout], steps: int, with_actions: bool,
               frames: Callable[[Sequence[Rollout]], np.ndarray]) -> Arrays:
  """Return frames, lengths and contexts of the pieces of each split."""
  arrays: Arrays = {}
  for name, pieces in _pieces_by_split(rollouts, steps).items():
    arrays[name] = frames(pieces)
    arrays[f"{name}_length"] = np.array([len(piece.observations) for piece in pieces], np.int32)
    if with_actions:
      arrays[f"{name}_context"] = np.stack([_given(piece, steps) for piece in pieces]).reshape(len(pieces), -1)
  return arrays


def _pieces_by_split(rollouts: Sequence[Rollout], steps: int) -> dict[str, list[Rollout]]:
  return {name: [piece for index in chosen for piece in _pieces(rollouts[index], steps)]
          for name, chosen in _parts(len(rollouts)).items()}


def _pieces(rollout: Rollout, steps: int) -> list[Rollout]:
  """Return an episode cut into pieces of at most `steps` steps; the last frame of one is the first of the next."""
  pieces, num = [], len(rollout.actions)
  for first in range(0, num, steps):
    last = min(first + steps, num)
    pictures = None if rollout.pictures is None else rollout.pictures[first:last + 1]
    pieces.append(Rollout(rollout.observations[first:last + 1], rollout.actions[first:last],
                          rollout.rewards[first:last], rollout.ended and last == num, pictures))
  return pieces


def _given(piece: Rollout, steps: int) -> np.ndarray:
  """Return the action before each frame [steps + 1, width], zeros before the first and in padding."""
  num, width = piece.actions.shape
  given = np.zeros((steps + 1, width), np.float32)
  given[1:num + 1] = piece.actions
  return given


def _parts(num: int) -> dict[str, np.ndarray]:
  """Return which episodes are of each split: the first train, and each other split has at least one."""
  held = max(1, round(HELD * num))
  if num < 3:
    raise ConfigError(f"--num is {num}; it must be at least 3, an episode for each split.")
  return {"train": np.arange(num - 2 * held), "valid": np.arange(num - 2 * held, num - held),
          "test": np.arange(num - held, num)}
