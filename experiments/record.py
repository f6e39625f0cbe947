"""Records rollouts of an environment as data: frames given actions, or actions given observations.

  python -m experiments.record --env=CartPole-v1 --policy=linear --num=1000 --steps=63 --out=cartpole.npz
  python -m experiments.record --env=CartPole-v1 --policy=linear --num=1000 --steps=63 --observations=pictures \\
      --out=pictures.npz
  python -m experiments.record --env=CartPole-v1 --policy=controller --controller=runs/world --spread=0.3 --num=30 \\
      --steps=500 --piece=63 --join=cartpole.npz --out=more.npz
  python -m experiments.record --env=Pendulum-v1 --policy=expert --num=20 --decisions --out=swings.npz

The first is for a world model (`configs/autoregressive/recurrent_frames.py:worlds
--config.data.path=cartpole.npz`); with --noactions frames alone. The second is the same of small grey pictures, as
gymnasium renders them (`configs/latent/latent_frames.py:pictures`). The third adds episodes of the controller that
`experiments.dream` trained, in pieces of 63 steps: what the first world model has not seen. With `--decisions` it is
for a model of what an expert does (`configs/autoregressive/rnade.py:worlds --config.data.path=swings.npz`). Policies:
random; linear, with weights drawn for each episode; expert, of CartPole-v1 and Pendulum-v1; controller. Of the episodes
a tenth validates and a tenth tests. Needs the extra "worlds".
"""

import numpy as np
from absl import flags

from experiments import cli
from gdm import checks
from gdm.data.sources import npz
from gdm.errors import ConfigError
from gdm.paths import local_path, write_arrays
from gdm.studies.worlds import recorded
from gdm.worlds.environments import Environment
from gdm.worlds.pictures import camera_of
from gdm.worlds.recording import OBSERVATIONS, POLICIES, arrays_of, joined, require_used

_ENV = flags.DEFINE_string("env", "CartPole-v1", "Environment of gymnasium whose observations are vectors.")
_POLICY = flags.DEFINE_string("policy", "random", "Who acts: random, linear, expert or controller.")
_CONTROLLER = flags.DEFINE_string("controller", "", "Workdir in which experiments.dream left the controller.")
_SPREAD = flags.DEFINE_float("spread", 0.0, "Deviation of factors of the controller's weights, for each episode.")
_NUM = flags.DEFINE_integer("num", 1000, "Episodes, at least 3.")
_STEPS = flags.DEFINE_integer("steps", 64, "Steps of an episode at most.")
_PIECE = flags.DEFINE_integer("piece", 0, "Steps of a sequence at most, where episodes are cut; 0 is --steps.")
_JOIN = flags.DEFINE_string("join", "", "An npz file of an earlier recording, whose sequences are written too.")
_OBSERVATIONS = flags.DEFINE_string("observations", "vectors", "What frames are: vectors or pictures.")
_SIZE = flags.DEFINE_string("size", "", "Height and width of pictures, such as 16x40; by default the environment's.")
_LEVELS = flags.DEFINE_integer("levels", 8, "Grey levels of pictures, 2 to 256.")
_DECISIONS = flags.DEFINE_boolean("decisions", False, "Write actions given observations, not frames given actions.")
_ACTIONS = flags.DEFINE_boolean("actions", True, "Write the actions before frames as their contexts.")
_NOISE = flags.DEFINE_float("noise", 0.0, "Deviation of normal noise on observations of frames, or real actions.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the first episode; later ones follow.")
_OUT = flags.DEFINE_string("out", None, "The npz file to write.", required=True)


def main() -> None:
  checks.one_of("--policy", _POLICY.value, POLICIES)
  checks.one_of("--observations", _OBSERVATIONS.value, OBSERVATIONS)
  cli.at_least(num=3, steps=1, piece=0, seed=0, noise=0.0)
  if (_POLICY.value == "controller") != bool(_CONTROLLER.value):
    raise ConfigError(f"--policy is {_POLICY.value} and --controller {_CONTROLLER.value!r}; a controller needs its "
                      "workdir, and nothing else does.")
  require_used([flag.name for flag in (_SIZE, _LEVELS, _NOISE, _SPREAD, _PIECE, _ACTIONS, _OBSERVATIONS)
                if flag.value != flag.default], _OBSERVATIONS.value, _DECISIONS.value, _POLICY.value)
  path = cli.require_place("out")
  camera = camera_of(_ENV.value, _SIZE.value, _LEVELS.value) if _OBSERVATIONS.value == "pictures" else None
  env = Environment(_ENV.value, camera)
  rollouts = recorded(env, _POLICY.value, _NUM.value, _STEPS.value, _SEED.value, _CONTROLLER.value, _SPREAD.value)
  arrays = arrays_of(rollouts, env, _PIECE.value or _STEPS.value, _SEED.value, as_decisions=_DECISIONS.value,
                     with_actions=_ACTIONS.value, noise=_NOISE.value)
  if _JOIN.value:
    arrays = joined(arrays, npz.read(local_path(_JOIN.value, "--join")), f"--join={_JOIN.value}")
  write_arrays(path, arrays)
  mean, steps = np.mean([rollout.rewards.sum() for rollout in rollouts]), sum(len(each.actions) for each in rollouts)
  print(f"{len(rollouts)} episodes of {_ENV.value}, {steps:,} steps, mean return {mean:.1f}, in {path}")


if __name__ == "__main__":
  cli.run(main)
