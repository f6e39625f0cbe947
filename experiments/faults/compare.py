"""Whether two workdirs hold the same finished run."""

import json
from pathlib import Path

import jax
import numpy as np

from gdm.runs.workdir import Workdir
from gdm.training import checkpoint


def difference(workdir: Path, reference: Path) -> str | None:
  """Return where two finished runs differ, in metrics, newest checkpoint or best; None where they are the same bit
  for bit.

  Older checkpoints may differ: an interrupted run has some where it was interrupted. So may times.
  """
  here, there = Workdir(workdir), Workdir(reference)
  if here.metrics.read_bytes() != there.metrics.read_bytes():
    return f"{here.metrics.name} differs"
  if _facts(json.loads(here.finished.read_text())) != _facts(json.loads(there.finished.read_text())):
    return f"{here.finished.name} differs"
  for place, other in ((here.checkpoints, there.checkpoints), (here.best, there.best)):
    step, other_step = (checkpoint.newest_good_step(folder) for folder in (place, other))
    if step is None or step != other_step:
      return f"{place.name}: the newest good step is {step}, not {other_step}"
    metas = [checkpoint.read_meta(folder, step) for folder in (place, other)]
    for part in ("loader", "window", "config", "data_identity", "progress"):
      facts, other_facts = (_facts(meta[part]) if isinstance(meta[part], dict) else meta[part] for meta in metas)
      if facts != other_facts:
        return f"{place.name}/{step}: {part} differs"
    leaves, other_leaves = (arrays(folder, step) for folder in (place, other))
    if leaves.keys() != other_leaves.keys():
      return f"{place.name}/{step}: other leaves"
    for name, leaf in leaves.items():
      if leaf.dtype != other_leaves[name].dtype or leaf.tobytes() != other_leaves[name].tobytes():
        return f"{place.name}/{step}: {name} differs"
  return None


def arrays(directory: Path, step: int) -> dict[str, np.ndarray]:
  """Every array of a checkpoint, by name."""
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = {name: jax.ShapeDtypeStruct(shape, dtype, sharding=device)
          for name, (shape, dtype) in checkpoint.read_meta(directory, step)["leaves"].items()}
  return {name: np.asarray(leaf) for name, leaf in checkpoint.restore(directory, step, like).state.items()}


def _facts(record: dict) -> dict:
  return {name: value for name, value in record.items() if name != "train_seconds"}
