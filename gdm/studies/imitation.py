"""Policies learned from an expert: any conditional model of actions given observations, tried in the environment."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdm.batches import given
from gdm.errors import ConfigError, WorkdirError
from gdm.model import HasSample
from gdm.paths import write_whole
from gdm.precision import at_highest_precision
from gdm.runs.trained import TrainedRun
from gdm.studies.worlds import FRESH, Earned
from gdm.visualization.learning import save_return_curves
from gdm.worlds.environments import EXPERTS, Environment

FILE = "imitation.json"  # in a workdir


@dataclasses.dataclass(frozen=True)
class Imitation:
  """What a learned policy earned, as it is kept in a workdir.

  Attributes:
    model: name of the model.
    env: the environment.
    actions: of the expert, that it was trained on.
    episodes: in which it acted.
    mean, half: mean return, and half the width of its 95 % interval.
    others: mean returns of the expert, where there is one, and by chance, in the same episodes.
  """

  model: str
  env: str
  actions: int
  episodes: int
  mean: float
  half: float
  others: dict[str, float]

  def save(self, folder: Path) -> None:
    """Write it into a workdir."""
    text = json.dumps(dataclasses.asdict(self), indent=2)
    write_whole(folder / FILE, lambda file: file.write(text.encode()))


@at_highest_precision
def imitate(env: Environment, run: TrainedRun, num: int, seed: int = 0) -> Iterator[str]:
  """Let a model act in so many episodes that were not recorded; yield a line about it, the expert and chance each.

  Writes `imitation.json` into the run's folder. Raise ConfigError where the run is of no model of actions in `env`.
  """
  found, others = imitated(run, env, num, FRESH + seed), {}
  yield f"{run.config.model.name} on {run.data.name}: earns {found}"
  for name, policy in {"the expert": EXPERTS.get(env.name), "chance": env.random}.items():
    if policy is not None:
      earned = Earned.of(env.returns(policy, num, FRESH + seed))
      others[name] = earned.mean
      yield f"{name}: earns {earned}"
  Imitation(run.config.model.name, env.name, run.data.sizes["train"], num, found.mean, found.half, others
            ).save(run.folder)


def compare_imitations(folder: Path) -> Iterator[str]:
  """Yield a line about the result in each workdir of a folder, and draw `imitation.png` there.

  Raise WorkdirError where there are none, or of several environments.
  """
  found = read_imitations(folder)
  for each in found:
    yield f"{each.model:24} {each.actions:8,} actions: earns {Earned(each.mean, each.half)}"
  others = found[0].others
  save_return_curves(folder / "imitation.png", curves_of(found), others)
  yield f"{', '.join(f'{name} {value:.1f}' for name, value in others.items())}; drawn in {folder / 'imitation.png'}"


def read_imitations(folder: Path) -> list[Imitation]:
  """Return those of all workdirs in a folder, by model and actions. Raise WorkdirError where there are none."""
  found = [Imitation(**json.loads(path.read_text())) for path in sorted(folder.glob(f"*/{FILE}"))]
  if not found:
    raise WorkdirError(f"no {FILE} in a folder of {folder}; experiments.imitate --workdir=... writes it.")
  if len(envs := {each.env for each in found}) > 1:
    raise WorkdirError(f"{folder} has policies of {', '.join(sorted(envs))}; keep those of one environment in a "
                       "folder.")
  return sorted(found, key=lambda each: (each.model, each.actions))


def curves_of(found: Sequence[Imitation]) -> dict[str, list[tuple[int, float, float]]]:
  """Return (actions, mean, half) of each model, in order."""
  curves: dict[str, list[tuple[int, float, float]]] = {}
  for each in found:
    curves.setdefault(each.model, []).append((each.actions, each.mean, each.half))
  return curves


@at_highest_precision
def imitated(run: TrainedRun, env: Environment, num: int, seed: int) -> Earned:
  """Return what a conditional model of actions given observations earns, by an action drawn at each step.

  Raise ConfigError where the run's model is no such model of the environment.
  """
  model: Any = run.model
  shape = ((1,) if env.num_choices else (env.width,), env.dims)
  if not isinstance(model, HasSample) or given(model) != ("context",) or (
      run.spec.event, run.spec.context_dims) != shape:
    raise ConfigError(f"{run.config.model.name} on {run.data.name} is no model of actions {shape[0]} given "
                      f"observations ({env.dims},), as {env.name} has; train one on what experiments.record "
                      "--decisions writes.")

  @jax.jit
  def choose(key, observation):
    return model.sample(run.params, run.carry, key, 1, {"context": observation[None]}).x[0]

  def policy(observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    action = np.asarray(choose(jax.random.key(int(rng.integers(2**31))), jnp.asarray(observation, jnp.float32)))
    return np.eye(env.num_choices)[int(action[0])] if env.num_choices else action

  return Earned.of(env.returns(policy, num, seed))
