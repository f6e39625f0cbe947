"""Environments of gymnasium, and what happens in them: rollouts by a policy, and what a policy earns.

Observations are vectors. An action is a vector too, as models are given it: of a discrete environment the one-hot
vector of the choice, else the action itself.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdm.errors import ConfigError
from gdm.extras import load_extra

# (observation [dims], generator) -> action [width]
Policy = Callable[[Float[np.ndarray, " dims"], np.random.Generator], Float[np.ndarray, " width"]]


class Rollout(NamedTuple):
  """An episode.

  Attributes:
    observations: [steps + 1, dims], the first one included.
    actions: [steps, width].
    rewards: [steps].
    ended: whether the environment ended it, rather than the limit of steps.
  """

  observations: np.ndarray
  actions: np.ndarray
  rewards: np.ndarray
  ended: bool


@dataclasses.dataclass(frozen=True)
class Environment:
  """An environment by its name.

  Example:
    env = Environment("CartPole-v1")
    rollout = env.roll(env.random, seed=0)

  Attributes:
    name: of gymnasium, such as CartPole-v1 or Pendulum-v1.

  Raise ConfigError where gymnasium is missing, the name is unknown, or observations are no vectors.
  """

  name: str

  def __post_init__(self) -> None:
    space = self._made().observation_space
    if getattr(space, "shape", None) is None or len(space.shape) != 1:
      raise ConfigError(f"--env is {self.name!r}, whose observations are {space}; they must be vectors.")

  @property
  def num_choices(self) -> int:
    """Number of discrete actions; 0 where actions are real."""
    return int(getattr(self._made().action_space, "n", 0))

  @property
  def width(self) -> int:
    """Size of an action."""
    return self.num_choices or int(self._made().action_space.shape[0])

  @property
  def dims(self) -> int:
    """Size of an observation."""
    return int(self._made().observation_space.shape[0])

  def random(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an action that is as likely as any other."""
    del observation
    if self.num_choices:
      return np.eye(self.num_choices)[rng.integers(self.num_choices)]
    space = self._made().action_space
    return rng.uniform(space.low, space.high)

  def roll(self, policy: Policy, seed: int, max_steps: int = 10**6) -> Rollout:
    """Return an episode by a policy; the seed makes the environment's own draws and the policy's."""
    env, rng = self._made(), np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards, ended = [np.asarray(observation)], [], [], False
    for _ in range(max_steps):
      action = np.asarray(policy(observations[-1], rng), np.float64)
      done = int(np.argmax(action)) if self.num_choices else np.clip(
          action, env.action_space.low, env.action_space.high).astype(np.float32)
      observation, reward, ended, is_cut, _ = env.step(done)
      observations.append(np.asarray(observation))
      actions.append(action)
      rewards.append(float(reward))
      if ended or is_cut:
        break
    return Rollout(np.stack(observations).astype(np.float32), np.stack(actions).astype(np.float32),
                   np.array(rewards), bool(ended))

  def returns(self, policy: Policy, num: int, seed: int) -> Float[np.ndarray, " num"]:
    """Return the sum of rewards of `num` episodes, with seeds from `seed` on."""
    return np.array([self.roll(policy, seed + number).rewards.sum() for number in range(num)])

  def _made(self) -> Any:
    if self.name not in _MADE:
      gymnasium: Any = load_extra("gymnasium", "worlds", f"--env={self.name}")
      try:
        _MADE[self.name] = gymnasium.make(self.name)
      except (gymnasium.error.Error, ImportError) as error:
        raise ConfigError(f"--env is {self.name!r}, which gymnasium cannot make ({str(error).splitlines()[0]}); it "
                          "must be an installed environment, such as CartPole-v1.") from error
    return _MADE[self.name]


_MADE: dict[str, Any] = {}  # making one takes longer than an episode


def swing_up(observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Return the torque of an expert in Pendulum-v1: it pumps energy in, and holds the pendulum upright by a spring and
  a damper (Åström and Furuta, 2000)."""
  del rng
  cosine, sine, velocity = (float(each) for each in observation)
  if cosine > 0.85:
    return np.array([-10.0 * np.arctan2(sine, cosine) - 2.5 * velocity])
  missing = 15.0 * (1.0 - cosine) - 0.5 * velocity**2  # of the energy of the upright pendulum at rest, g = 10, l = 1
  return np.array([2.0 * np.sign(velocity or 1.0) * np.sign(missing)])


def balance(observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Return the choice of an expert in CartPole-v1: to push where the pole falls and the cart drifts."""
  del rng
  position, speed, angle, turning = (float(each) for each in observation)
  return np.eye(2)[int(0.1 * position + 0.3 * speed + 3.0 * angle + turning > 0)]


EXPERTS: dict[str, Policy] = {"CartPole-v1": balance, "Pendulum-v1": swing_up}
