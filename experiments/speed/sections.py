"""The table of sections. To add one: a file with `run(settings) -> list[Row]`, and a line here."""

from collections.abc import Callable, Sequence

from experiments.speed.rows import Row
from experiments.speed.settings import Settings
from gdm.errors import ConfigError, nearest
from gdm.runs.registry import load_object

SECTIONS = {
    "training": "experiments.speed.training",
    "loader": "experiments.speed.loader",
    "sampling": "experiments.speed.sampling",
    "likelihood": "experiments.speed.likelihood",
    "loops": "experiments.speed.loops",
    "sharding": "experiments.speed.sharding",
    "devices": "experiments.speed.devices",
    "feeding": "experiments.speed.feeding",
    "precision": "experiments.speed.precision",
    "sequences": "experiments.speed.sequences",
    "images": "experiments.speed.images",
    "flows": "experiments.speed.flows",
    "diffusion": "experiments.speed.diffusion",
    "energy": "experiments.speed.energy",
    "latent": "experiments.speed.latent",
    "adversarial": "experiments.speed.adversarial",
    "classifiers": "experiments.speed.classifiers",
    "checkpoint": "experiments.speed.checkpoint",
    "startup": "experiments.speed.startup",
}


def section(name: str) -> Callable[[Settings], list[Row]]:
  """Return the function that measures a section."""
  return load_object(SECTIONS[name], "run")


def choose(names: Sequence[str]) -> list[str]:
  """Return the named sections in the table's order, all for none. Raise ConfigError with the name nearest to an
  unknown."""
  for name in names:
    if name not in SECTIONS:
      raise ConfigError(f"--sections has {name!r}; {nearest(name, SECTIONS)}")
  return [name for name in SECTIONS if name in names or not names]
