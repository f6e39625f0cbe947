"""Environments of gymnasium, and what happens in them: rollouts by a policy, and what a policy earns.

Observations are vectors, and where there is a camera small pictures beside them. An action is a vector too, as models
are given it: of a discrete environment the one-hot vector of the choice, else the action itself.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdm.errors import ConfigError
from gdm.extras import load_extra
from gdm.worlds.pictures import Camera

# (observation [dims], or picture [height, width, 1], generator) -> action [width]
Policy = Callable[[Any, np.random.Generator], Float[np.ndarray, " width"]]


class Rollout(NamedTuple):
  """An episode.

  Attributes:
    observations: [steps + 1, dims], the first one included.
    actions: [steps, width]; of a discrete environment one-hot vectors of what was chosen.
    rewards: [steps].
    ended: whether the environment ended it, rather than the limit of steps.
    pictures: [steps + 1, height, width, 1] of levels; None where there is no camera.
  """

  observations: np.ndarray
  actions: np.ndarray
  rewards: np.ndarray
  ended: bool
  pictures: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Environment:
  """An environment by its name.

  Example:
    env = Environment("CartPole-v1")
    rollout = env.roll(env.random, seed=0)

  Attributes:
    name: of gymnasium, such as CartPole-v1 or Pendulum-v1.
    camera: takes pictures; None for none.

  Raise ConfigError where gymnasium is missing, the name is unknown, observations are no vectors, or it cannot be
  rendered.
  """

  name: str
  camera: Camera | None = None

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

  def roll(self, policy: Policy, seed: int, max_steps: int = 10**6, by_pictures: bool = False) -> Rollout:
    """Return an episode by a policy; the seed makes the environment's own draws and the policy's.

    The policy is given the observation, or with `by_pictures` the picture of the camera alone.
    """
    env, rng = self._made(), np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards, ended = [np.asarray(observation)], [], [], False
    pictures = [self._picture()] if self.camera else []
    for _ in range(max_steps):
      action = np.asarray(policy((pictures if by_pictures else observations)[-1], rng), np.float64)
      if self.num_choices:
        done: Any = int(np.argmax(action))
        action = np.eye(self.num_choices)[done]
      else:
        done = np.clip(action, env.action_space.low, env.action_space.high).astype(np.float32)
      observation, reward, ended, is_cut, _ = env.step(done)
      observations.append(np.asarray(observation))
      actions.append(action)
      rewards.append(float(reward))
      if self.camera:
        pictures.append(self._picture())
      if ended or is_cut:
        break
    return Rollout(np.stack(observations).astype(np.float32), np.stack(actions).astype(np.float32),
                   np.array(rewards), bool(ended), np.stack(pictures) if pictures else None)

  def returns(self, policy: Policy, num: int, seed: int) -> Float[np.ndarray, " num"]:
    """Return the sum of rewards of `num` episodes, with seeds from `seed` on."""
    return np.array([self.roll(policy, seed + number).rewards.sum() for number in range(num)])

  def _made(self) -> Any:
    key = (self.name, self.camera is not None)
    if key not in _MADE:
      gymnasium: Any = load_extra("gymnasium", "worlds", f"--env={self.name}")
      try:
        if self.camera:  # pictures are arrays: no screen is looked for
          os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        _MADE[key] = gymnasium.make(self.name, **({"render_mode": "rgb_array"} if self.camera else {}))
      except (gymnasium.error.Error, ImportError) as error:
        raise ConfigError(f"--env is {self.name!r}, which gymnasium cannot make ({str(error).splitlines()[0]}); it "
                          "must be an installed environment, such as CartPole-v1.") from error
    return _MADE[key]

  def _picture(self) -> np.ndarray:
    """Return the picture of the present state."""
    assert self.camera
    gymnasium: Any = load_extra("gymnasium", "worlds", f"--env={self.name}")
    try:
      rendered = self._made().render()
    except gymnasium.error.DependencyNotInstalled as error:
      raise ConfigError(f"pictures of {self.name} cannot be rendered ({str(error).splitlines()[0]}); install the extra "
                        "'worlds': pip install '.[worlds]'.") from error
    if not isinstance(rendered, np.ndarray) or rendered.ndim != 3:
      raise ConfigError(f"--env is {self.name!r}, which renders no pictures; record observations as vectors.")
    return self.camera.picture(rendered)


_MADE: dict[tuple[str, bool], Any] = {}  # making one takes longer than an episode


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
