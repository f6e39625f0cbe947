"""Trains a controller in the dreams of a world model, and tries it in the environment.

  python -m experiments.dream --workdir=runs/world --env=CartPole-v1 [--generations=20] [--population=16] [--dreams=16]
      [--steps=200] [--episodes=100] [--seed=0]

The controller is linear in the observation, and CMA-ES moves it: by the steps that it lives in dreams, and for
comparison by what it earns in the environment, in as many generations. Prints what both earn there, and a random
policy; and nats per frame of a model that expects the frame before again. For environments that reward every step
lived. Writes `dreams.npz` and `dreams.png` into the workdir. Needs the extra "worlds".
"""

from collections.abc import Sequence

import numpy as np
from absl import flags

from experiments import cli
from gdm import checks
from gdm.paths import write_whole
from gdm.runs import worlds
from gdm.visualization.episodes import save_episodes
from gdm.worlds.environments import Environment
from gdm.worlds.recording import frames_of

_ENV = flags.DEFINE_string("env", "CartPole-v1", "The environment that was recorded.")
_GENERATIONS = flags.DEFINE_integer("generations", 20, "Of CMA-ES.")
_POPULATION = flags.DEFINE_integer("population", 16, "Controllers of a generation.")
_DREAMS = flags.DEFINE_integer("dreams", 16, "Dreams of each controller in a generation.")
_STEPS = flags.DEFINE_integer("steps", 200, "Frames of a dream, which may be longer than recorded episodes.")
_EPISODES = flags.DEFINE_integer("episodes", 100, "Episodes in which controllers are tried.")
_SEED = flags.DEFINE_integer("seed", 0, "Of dreams and of the evolution; episodes are others than those recorded.")
cli.define_run("data", "evaluation", with_data=True)

FRESH = 10_000_000  # first seed of episodes that were not recorded
SHOWN = 4


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  for name, value, least in (("generations", _GENERATIONS.value, 1), ("population", _POPULATION.value, 2),
                             ("dreams", _DREAMS.value, 1), ("steps", _STEPS.value, 2), ("episodes", _EPISODES.value, 2),
                             ("seed", _SEED.value, 0)):
    checks.at_least(f"--{name}", value, least)
  env, run = Environment(_ENV.value), cli.open_run()
  worlds.require_world(run, env)
  print(f"the frame before again, a normal about each value: {worlds.copied_frame_nats(run, 'test'):.4f} nats/frame")
  dreamt = worlds.train_in_dream(run, env, _GENERATIONS.value, _POPULATION.value, _DREAMS.value, _STEPS.value,
                                 _SEED.value)
  steps = worlds.dreamt_steps(run, env, dreamt[None], _EPISODES.value, _STEPS.value, _SEED.value)[0]
  print(f"trained in dreams: lives {steps:.1f} of {_STEPS.value} frames in dreams, and earns "
        f"{worlds.earned(env, dreamt, _EPISODES.value, FRESH)} in {env.name}")
  lived = worlds.train_in_environment(env, _GENERATIONS.value, _POPULATION.value, 1, _SEED.value)
  print(f"trained in {env.name}: earns {worlds.earned(env, lived, _EPISODES.value, FRESH)}")
  by_chance = worlds.Earned.of(env.returns(env.random, _EPISODES.value, FRESH))
  print(f"at random: earns {by_chance}")
  frames, actions = worlds.dream(run, env, dreamt, SHOWN, _STEPS.value, _SEED.value)
  write_whole(run.folder / "dreams.npz", lambda file: np.savez_compressed(
      file, allow_pickle=False, frames=frames, actions=actions, weights=dreamt))
  real = [env.roll(lambda observation, rng: worlds.linear(dreamt, observation), FRESH + number, _STEPS.value - 1)
          for number in range(3 * SHOWN)]
  real_frames = frames_of(real, _STEPS.value - 1, 0)["train"][:SHOWN]
  save_episodes(run.folder / "dreams.png", {"dreams": frames, env.name: real_frames})
  print(f"{SHOWN} dreams in {run.folder / 'dreams.npz'}, beside {env.name} in dreams.png")


if __name__ == "__main__":
  cli.run(main)
