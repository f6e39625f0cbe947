"""Energies of the plane, each trained on every target in every way: their commands, and a table and picture of them."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

from gdm import checks
from gdm.data.sources.toy2d import DENSITIES
from gdm.energy.continuous.network_energy import NetworkEnergy
from gdm.errors import ConfigError
from gdm.runs.load import load_run
from gdm.runs.plane import Learned, describe, learned, panels, table
from gdm.runs.workdir import Workdir, write_json
from gdm.visualization.landscapes import LandscapeRow, save_landscapes

# Where the base is thin, NCE learns from few of its draws: a banana's ends come late.
_LEARNING_RATES = {"nce": 3e-3}


@dataclasses.dataclass(frozen=True)
class Study:
  """Runs of `configs/energy/ebm.py`, each in a workdir of its own.

  Attributes:
    folder: of the runs.
    targets: variants of the config.
    objectives: ways to train.
    num_seeds: runs of each.
    num_steps: training steps; 0 is as many as the config says.

  Raise ConfigError, naming the command's flag, for no target, one that is no known density, another objective or less
  than one seed.
  """

  folder: Path
  targets: tuple[str, ...]
  objectives: tuple[str, ...]
  num_seeds: int = 1
  num_steps: int = 0

  def __post_init__(self) -> None:
    for name, value in (("--targets", self.targets), ("--objectives", self.objectives)):
      if not value:
        raise ConfigError(f"{name} is empty; it must be at least one.")
    for target in self.targets:
      checks.one_of("--targets", target, DENSITIES)
    for objective in self.objectives:
      checks.one_of("--objectives", objective, NetworkEnergy.known_objectives)
    checks.at_least("--seeds", self.num_seeds, 1)
    checks.at_least("--num_steps", self.num_steps, 0)

  def commands(self, with_done: bool = False) -> Iterator[list[str]]:
    """Yield the commands that train, without the interpreter; of runs that are done only where `with_done`."""
    for target, objective, seed in itertools.product(self.targets, self.objectives, range(self.num_seeds)):
      if with_done or not self._is_done(target, objective, seed):
        yield self._command(target, objective, seed)

  def compare(self) -> Iterator[str]:
    """Yield lines of a table of the runs, by the parameters of the last step, and about the files.

    Writes `landscapes.json`, and `landscapes.png` of the first seed, into the folder.

    Raise WorkdirError and CheckpointError where a run is missing.
    """
    described, rows = [], []
    for target in self.targets:
      found: dict[str, Learned] = {}
      for objective, seed in itertools.product(self.objectives, range(self.num_seeds)):
        run = load_run(Workdir(self.workdir(target, objective, seed)), {}, "last")
        here = learned(run)
        described.append({"target": target, "objective": objective, "seed": seed, **describe(run, here)})
        found.setdefault(objective, here)
      rows.append(LandscapeRow(target, found[self.objectives[0]].points, panels(found)))
    yield from table(described)
    write_json(self.folder / "landscapes.json", {"runs": described})
    save_landscapes(self.folder / "landscapes.png", rows)
    yield f"landscapes.json and landscapes.png in {self.folder}"

  def workdir(self, target: str, objective: str, seed: int) -> Path:
    """Return the folder of a run."""
    return self.folder / target / objective / f"seed_{seed}"

  def _command(self, target: str, objective: str, seed: int) -> list[str]:
    """Return the command of one; few samples, since there is a picture of the whole density."""
    steps = [f"--config.training.num_steps={self.num_steps}"] if self.num_steps else []
    rate = [f"--config.optimizer.learning_rate={_LEARNING_RATES[objective]}"] if objective in _LEARNING_RATES else []
    return ["experiments.train", f"--config=configs/energy/ebm.py:{target}",
            f"--workdir={self.workdir(target, objective, seed)}", f"--config.model.objective={objective}",
            f"--config.seed={seed}", "--config.sampling.num=500", *rate, *steps]

  def _is_done(self, target: str, objective: str, seed: int) -> bool:
    """Return whether it has run to the end that is asked for; of another end training itself says what is amiss."""
    step = Workdir(self.workdir(target, objective, seed)).finished_step()
    return step is not None and self.num_steps in (0, step)
