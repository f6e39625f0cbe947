"""Trains a controller in the dreams of a world model, and tries it in the environment.

  python -m experiments.dream --workdir=runs/world --env=CartPole-v1 [--generations=20] [--population=16] [--dreams=16]
      [--steps=200] [--temperature=1] [--memory=0] [--episodes=100] [--seed=0]

The controller is linear in the observation, or of pictures in the latents of the last few frames. CMA-ES moves it: by
the steps that it lives in dreams. For comparison one that is linear in the observation is moved by what it earns in the
environment, in as many generations. Prints what both earn there, and a random policy; and the score of a model that
expects the frame before again: nats/frame, of pictures bits/dim beside the model's own. For environments that reward
every step lived. Writes `dreams.npz` and `dreams.png` into the workdir. `experiments.record --policy=controller` then
records what the controller meets, for a better world model. Needs the extra "worlds".
"""

import numpy as np
from absl import flags

from experiments import cli
from gdm import checks
from gdm.paths import write_whole
from gdm.runs import worlds
from gdm.visualization.episodes import save_episodes, save_pictures
from gdm.worlds.environments import Environment
from gdm.worlds.recording import frames_of

_ENV = flags.DEFINE_string("env", "CartPole-v1", "The environment that was recorded.")
_GENERATIONS = flags.DEFINE_integer("generations", 20, "Of CMA-ES.")
_POPULATION = flags.DEFINE_integer("population", 16, "Controllers of a generation.")
_DREAMS = flags.DEFINE_integer("dreams", 16, "Dreams of each controller in a generation.")
_STEPS = flags.DEFINE_integer("steps", 200, "Frames of a dream, which may be longer than recorded episodes.")
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Of dreams: above 1 they are less certain than the model.")
_MEMORY = flags.DEFINE_integer("memory", 0, "Last frames that the controller is given; 0 is 1, or of pictures 3.")
_EPISODES = flags.DEFINE_integer("episodes", 100, "Episodes in which controllers are tried.")
_COMPARE = flags.DEFINE_boolean("compare", True, "Train a controller in the environment too.")
_SEED = flags.DEFINE_integer("seed", 0, "Of dreams and of the evolution; episodes are others than those recorded.")
cli.define_run("data", "evaluation", with_data=True)

FRESH = 10_000_000  # first seed of episodes that were not recorded
SHOWN = 4


def main() -> None:
  for name, value, least in (("generations", _GENERATIONS.value, 1), ("population", _POPULATION.value, 2),
                             ("dreams", _DREAMS.value, 1), ("steps", _STEPS.value, 2), ("episodes", _EPISODES.value, 2),
                             ("seed", _SEED.value, 0)):
    checks.at_least(f"--{name}", value, least)
  run, name, steps = cli.open_run(), _ENV.value, _STEPS.value
  world = worlds.dreamer(run, worlds.environment_of(run, name), _MEMORY.value, _TEMPERATURE.value)
  _print_copied(world)
  weights = worlds.train_in_dream(world, _GENERATIONS.value, _POPULATION.value, _DREAMS.value, steps, _SEED.value)
  lived = worlds.dreamt_steps(world, weights[None], _EPISODES.value, steps, _SEED.value)[0]
  print(f"trained in dreams: lives {lived:.1f} of {steps} frames in dreams, and earns "
        f"{worlds.earned(world, weights, _EPISODES.value, FRESH)} in {name}")
  if _COMPARE.value:
    _print_compared(Environment(name))
  frames, actions = worlds.dream(world, weights, SHOWN, steps, _SEED.value)
  write_whole(run.folder / worlds.FILE, lambda file: np.savez_compressed(
      file, allow_pickle=False, frames=frames, actions=actions, weights=weights,
      memory=np.array(world.senses.memory)))
  real = [worlds.act_out(world, weights, FRESH + number, steps - 1) for number in range(SHOWN)]
  if world.env.camera:
    seen = [np.asarray(each.pictures) for each in real]
    save_pictures(run.folder / "dreams.png", {"dreams": list(frames), name: seen}, levels=world.env.camera.levels)
  else:
    real_frames = frames_of(3 * real, steps - 1, 0)["train"][:SHOWN]
    save_episodes(run.folder / "dreams.png", {"dreams": frames, name: real_frames})
  print(f"{SHOWN} dreams in {run.folder / worlds.FILE}, beside {name} in dreams.png")


def _print_copied(world: worlds.Dreamer) -> None:
  if not world.env.camera:
    nats = worlds.copied_frame_nats(world.run, "test")
    print(f"the frame before again, a normal about each value: {nats:.4f} nats/frame")
    return
  scores = {"the model": worlds.next_frame_bits(world.run, "test"),
            "the frame before again, with a model of each pixel's change": worlds.copied_frame_bits(world.run, "test"),
            "the same with a table of each pixel's changes": worlds.copied_frame_bits(world.run, "test", "table")}
  for name, (of_all, of_next) in scores.items():
    print(f"{name}: {of_all:.4f} bits/dim, of next frames {of_next:.4f}")


def _print_compared(env: Environment) -> None:
  found = worlds.train_in_environment(env, _GENERATIONS.value, _POPULATION.value, 1, _SEED.value)
  returns = env.returns(lambda observation, rng: worlds.linear(found.weights, observation), _EPISODES.value, FRESH)
  print(f"trained in {env.name}, in {found.steps:,} steps: earns {worlds.Earned.of(returns)}")
  by_chance = worlds.Earned.of(env.returns(env.random, _EPISODES.value, FRESH))
  print(f"at random: earns {by_chance}")


if __name__ == "__main__":
  cli.run(main)
