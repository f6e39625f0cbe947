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
from gdm import checks
from gdm.paths import local_path
from gdm.runs.imitation import Imitation, curves_of, imitated, read_imitations
from gdm.runs.worlds import Earned
from gdm.visualization.learning import save_return_curves
from gdm.worlds.environments import EXPERTS, Environment

_ENV = flags.DEFINE_string("env", "Pendulum-v1", "The environment that was recorded.")
_EPISODES = flags.DEFINE_integer("episodes", 50, "Episodes in which each acts.")
_SEED = flags.DEFINE_integer("seed", 0, "Another seed is other episodes; all of them are others than those recorded.")
_COMPARE = flags.DEFINE_string("compare", "", "A folder of workdirs whose results are shown together.")
cli.define_run("data", "evaluation")

FRESH = 10_000_000  # first seed of episodes that were not recorded


def main() -> None:
  checks.at_least("--episodes", _EPISODES.value, 2)
  checks.at_least("--seed", _SEED.value, 0)
  if _COMPARE.value:
    return _compare()
  env, run, first = Environment(_ENV.value), cli.open_run(), FRESH + _SEED.value
  found, others = imitated(run, env, _EPISODES.value, first), {}
  print(f"{run.config.model.name} on {run.data.name}: earns {found}")
  for name, policy in {"the expert": EXPERTS.get(env.name), "chance": env.random}.items():
    if policy is not None:
      earned = Earned.of(env.returns(policy, _EPISODES.value, first))
      others[name] = earned.mean
      print(f"{name}: earns {earned}")
  Imitation(run.config.model.name, env.name, run.data.sizes["train"], _EPISODES.value, found.mean, found.half,
            others).save(run.folder)
  return None


def _compare() -> None:
  folder = local_path(_COMPARE.value, "--compare")
  found = read_imitations(folder)
  for each in found:
    print(f"{each.model:24} {each.actions:8,} actions: earns {Earned(each.mean, each.half)}")
  others = found[0].others
  save_return_curves(folder / "imitation.png", curves_of(found), others)
  print(f"{', '.join(f'{name} {value:.1f}' for name, value in others.items())}; drawn in {folder / 'imitation.png'}")


if __name__ == "__main__":
  cli.run(main)
