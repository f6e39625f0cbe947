"""One fault to a run whose workdir is in a bucket."""

import random
import shutil
from pathlib import Path

from experiments.faults.bucket import Bucket
from experiments.faults.commands import Commands
from experiments.faults.scene import Scene, Unbroken
from gdm.training import checkpoint

_LEASE_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0


class BucketScene(Scene):
  """A scene of which `workdir` is a copy of what is in the bucket, made by `look`."""

  def __init__(self, commands: Commands, unbroken: Unbroken, folder: Path, chance: random.Random, bucket: Bucket):
    super().__init__(commands, unbroken, folder, chance)
    self.bucket = bucket
    self.store = bucket.store(folder.name)
    self.place = str(self.store.url)
    self.environment = {**bucket.environment, "GDM_STAGING_DIR": str(bucket.switch.parent / "staging"),
                        "GDM_LEASE_SECONDS": str(_LEASE_SECONDS), "GDM_STORAGE_SECONDS": str(_PATIENCE_SECONDS)}

  def look(self) -> None:
    """Copy all that is in the bucket."""
    shutil.rmtree(self.workdir.path, ignore_errors=True)
    for name in self.store.list():
      self.store.download(name, self.workdir.path / name)

  def in_bucket(self) -> bool:
    """Return whether the run has begun to write."""
    return "config.json" in self.store.list()

  def saving(self) -> bool:
    """Return whether some of a step is in the bucket, and its manifest not."""
    names = self.store.list()
    steps = {tuple(name.split("/")[:2]) for name in names if name.split("/")[0] in ("checkpoints", "best")}
    return any(f"{place}/{step}/{checkpoint.MANIFEST}" not in names for place, step in steps)

  def good_steps(self) -> set[Path]:
    """Return the folders of checkpoints that are whole in the bucket."""
    self.look()
    return super().good_steps()
