"""Records rollouts of an environment as data: frames given actions, or actions given observations.

  python -m experiments.record --env=CartPole-v1 --policy=linear --num=1000 --steps=64 --out=cartpole.npz
  python -m experiments.record --env=Pendulum-v1 --policy=expert --num=20 --decisions --out=swings.npz

The first is for a world model (`configs/autoregressive/recurrent_frames.py:worlds
--config.data.path=cartpole.npz`); with --noactions frames alone. With `--decisions` it is for a model of what an
expert does (`configs/autoregressive/rnade.py:worlds --config.data.path=swings.npz`). Policies: random; linear, with
weights drawn for each episode; expert, of CartPole-v1 and Pendulum-v1. Of the episodes a tenth validates and a tenth
tests. Needs the extra "worlds".
"""

from collections.abc import Sequence

import numpy as np
from absl import flags

from experiments import cli
from gdm import checks
from gdm.paths import write_whole
from gdm.worlds.environments import Environment
from gdm.worlds.recording import POLICIES, decisions_of, frames_of, record

_ENV = flags.DEFINE_string("env", "CartPole-v1", "Environment of gymnasium whose observations are vectors.")
_POLICY = flags.DEFINE_string("policy", "random", "Who acts: random, linear or expert.")
_NUM = flags.DEFINE_integer("num", 1000, "Episodes, at least 3.")
_STEPS = flags.DEFINE_integer("steps", 64, "Steps of an episode at most.")
_DECISIONS = flags.DEFINE_boolean("decisions", False, "Write actions given observations, not frames given actions.")
_ACTIONS = flags.DEFINE_boolean("actions", True, "Write the actions before frames as their contexts.")
_NOISE = flags.DEFINE_float("noise", 0.0, "Deviation of normal noise on recorded observations of frames.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the first episode; later ones follow.")
_OUT = flags.DEFINE_string("out", None, "The npz file to write.", required=True)


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  checks.one_of("--policy", _POLICY.value, POLICIES)
  for name, value, least in (("num", _NUM.value, 3), ("steps", _STEPS.value, 1), ("seed", _SEED.value, 0),
                             ("noise", _NOISE.value, 0.0)):
    checks.at_least(f"--{name}", value, least)
  path, env = cli.require_path("out"), Environment(_ENV.value)
  rollouts = record(env, _POLICY.value, _NUM.value, _STEPS.value, _SEED.value)
  if _DECISIONS.value:
    arrays = decisions_of(rollouts, env.num_choices)
  else:
    arrays = frames_of(rollouts, _STEPS.value, _SEED.value, _ACTIONS.value, _NOISE.value)
  write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
  returns = np.array([rollout.rewards.sum() for rollout in rollouts])
  steps = sum(len(rollout.actions) for rollout in rollouts)
  print(f"{len(rollouts)} episodes of {_ENV.value}, {steps:,} steps, mean return {returns.mean():.1f}, in {path}")


if __name__ == "__main__":
  cli.run(main)
