"""Lets a model of an expert's actions act: what it earns in the environment, beside the expert and chance.

  python -m experiments.imitate --workdir=runs/imitation/flow_32 --env=Pendulum-v1 [--episodes=50] [--seed=0]
  python -m experiments.imitate --compare=runs/imitation

The model is any one given a context, trained on what `experiments.record --decisions` writes; at each step an action is
drawn given the observation. The result is kept in the workdir; the second command prints those of all workdirs in a
folder as a table, and draws them against the number of actions to learn from: `imitation.png`. Needs the extra
"worlds".
"""

from absl import flags

from experiments import cli
from gdm.paths import local_path
from gdm.studies.imitation import compare_imitations, imitate
from gdm.worlds.environments import Environment

_ENV = flags.DEFINE_string("env", "Pendulum-v1", "The environment that was recorded.")
_EPISODES = flags.DEFINE_integer("episodes", 50, "Episodes in which each acts.")
_SEED = flags.DEFINE_integer("seed", 0, "Another seed is other episodes; all of them are others than those recorded.")
_COMPARE = flags.DEFINE_string("compare", "", "A folder of workdirs whose results are shown together.")
cli.define_run("data", "evaluation")


def main() -> None:
  cli.at_least(episodes=2, seed=0)
  if _COMPARE.value:
    lines = compare_imitations(local_path(_COMPARE.value, "--compare"))
  else:
    lines = imitate(Environment(_ENV.value), cli.open_run(), _EPISODES.value, _SEED.value)
  cli.show(lines)


if __name__ == "__main__":
  cli.run(main)
