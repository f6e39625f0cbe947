"""Lets a model of an expert's actions act: what it earns in the environment, beside the expert and chance.

  python -m experiments.imitate --workdir=runs/policy --env=Pendulum-v1 [--episodes=50] [--seed=0]

The model is any one given a context, trained on what `experiments.record --decisions` writes; at each step an action is
drawn given the observation. Needs the extra "worlds".
"""

from collections.abc import Sequence

from absl import flags

from experiments import cli
from gdm import checks
from gdm.runs.worlds import Earned, imitated
from gdm.worlds.environments import EXPERTS, Environment

_ENV = flags.DEFINE_string("env", "Pendulum-v1", "The environment that was recorded.")
_EPISODES = flags.DEFINE_integer("episodes", 50, "Episodes in which each acts.")
_SEED = flags.DEFINE_integer("seed", 0, "Another seed is other episodes; all of them are others than those recorded.")
cli.define_run("data", "evaluation")

FRESH = 10_000_000  # first seed of episodes that were not recorded


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  checks.at_least("--episodes", _EPISODES.value, 2)
  checks.at_least("--seed", _SEED.value, 0)
  env, run, first = Environment(_ENV.value), cli.open_run(), FRESH + _SEED.value
  print(f"{run.config.model.name} on {run.data.name}: earns {imitated(run, env, _EPISODES.value, first)}")
  others = {"the expert": EXPERTS.get(env.name), "chance": env.random}
  for name, policy in others.items():
    if policy is not None:
      print(f"{name}: earns {Earned.of(env.returns(policy, _EPISODES.value, first))}")


if __name__ == "__main__":
  cli.run(main)
