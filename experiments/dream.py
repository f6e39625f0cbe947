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

from absl import flags

from experiments import cli
from gdm.studies.dreams import dream_and_act

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


def main() -> None:
  cli.at_least(generations=1, population=2, dreams=1, steps=2, episodes=2, seed=0)
  cli.show(dream_and_act(cli.open_run(), _ENV.value, generations=_GENERATIONS.value, population=_POPULATION.value,
                         dreams=_DREAMS.value, steps=_STEPS.value, temperature=_TEMPERATURE.value,
                         memory=_MEMORY.value, num_episodes=_EPISODES.value, is_compared=_COMPARE.value,
                         seed=_SEED.value))


if __name__ == "__main__":
  cli.run(main)
