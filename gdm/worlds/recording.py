"""Rollouts as arrays of an npz file: frames given actions, for world models, or actions given observations."""

from collections.abc import Mapping, Sequence

import numpy as np

from gdm.errors import ConfigError
from gdm.worlds.control import linear, num_parameters
from gdm.worlds.environments import EXPERTS, Environment, Policy, Rollout

POLICIES = ("random", "linear", "expert")
MARK_NOISE = 0.1  # deviation of what is added to the mark of the end, so that it has a density
HELD = 0.1  # share of the episodes that validate, and that test


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


def frames_of(rollouts: Sequence[Rollout], steps: int, seed: int, with_actions: bool = True,
              noise: float = 0.0) -> dict[str, np.ndarray]:
  """Return sequences of frames by split, with lengths and, as contexts, the action before each frame.

  A frame is an observation and a mark: 1, or -1 where the environment ended the episode with it, and a little noise.
  Before the first frame nothing is done: the action is zeros. Actions of a choice are one-hot.

  Args:
    rollouts: episodes of at most `steps` steps.
    steps: actions of the longest, so that sequences have one frame more.
    seed: of the noise.
    with_actions: whether contexts are written.
    noise: deviation of normal noise on observations. What is a function of the frame before has no bound on its density
      without, and likelihoods say how far a model was trained rather than what it knows.
  """
  dims, width = rollouts[0].observations.shape[1], rollouts[0].actions.shape[1]
  x = np.zeros((len(rollouts), steps + 1, dims + 1), np.float32)
  context = np.zeros((len(rollouts), steps + 1, width), np.float32)
  length = np.array([len(rollout.observations) for rollout in rollouts], np.int32)
  for row, given, rollout in zip(x, context, rollouts, strict=True):
    row[:len(rollout.observations), :dims] = rollout.observations
    row[:len(rollout.observations), dims] = 1.0
    row[len(rollout.observations) - 1, dims] = -1.0 if rollout.ended else 1.0
    given[1:len(rollout.observations)] = rollout.actions
    if width > 1:  # a linear policy's scores, of which the environment took the highest
      given[1:len(rollout.observations)] = np.eye(width)[rollout.actions.argmax(axis=1)]
  rng = np.random.default_rng(seed)
  x[..., dims] += MARK_NOISE * rng.normal(size=x.shape[:2])
  x[..., :dims] += noise * rng.normal(size=(*x.shape[:2], dims))
  rows = {"": x, "_length": length, **({"_context": context.reshape(len(x), -1)} if with_actions else {})}
  return _by_split(rows, len(rollouts))


def decisions_of(rollouts: Sequence[Rollout], num_choices: int) -> dict[str, np.ndarray]:
  """Return actions by split, each given the observation that it followed; all of an episode are in one split.

  Args:
    rollouts: episodes.
    num_choices: of a discrete environment, whose actions become numbers [N, 1]; 0 for real ones.
  """
  arrays: dict[str, np.ndarray] = {}
  for name, chosen in _parts(len(rollouts)).items():
    own = [rollouts[index] for index in chosen]
    actions = np.concatenate([rollout.actions for rollout in own])
    arrays[name] = actions.argmax(axis=1)[:, None].astype(np.uint8) if num_choices else actions.astype(np.float32)
    arrays[f"{name}_context"] = np.concatenate([rollout.observations[:-1] for rollout in own])
  return {**arrays, **({"levels": np.array(num_choices)} if num_choices else {})}


def _by_split(rows: Mapping[str, np.ndarray], num: int) -> dict[str, np.ndarray]:
  return {f"{name}{ending}": array[chosen] for name, chosen in _parts(num).items() for ending, array in rows.items()}


def _parts(num: int) -> dict[str, np.ndarray]:
  """Return which episodes are of each split: the first train, and each other split has at least one."""
  held = max(1, round(HELD * num))
  if num < 3:
    raise ConfigError(f"--num is {num}; it must be at least 3, an episode for each split.")
  return {"train": np.arange(num - 2 * held), "valid": np.arange(num - 2 * held, num - held),
          "test": np.arange(num - held, num)}
