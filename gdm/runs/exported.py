"""A trained run as one file: its weights, and as strings beside them all that is needed to use them elsewhere.

The file is safetensors, see gdm/training/weights.py. Beside the arrays it has the config, the description of the data,
the reports of `evaluate`, the package versions (all JSON), the step, and which parameters they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from gdm.data.description import Description
from gdm.errors import CheckpointError, ConfigError
from gdm.paths import write_whole
from gdm.runs.card import model_card
from gdm.runs.recorded import built, read_again, shapes_of, with_overrides
from gdm.runs.settings import with_defaults
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import tuples
from gdm.training.checkpoint import versions
from gdm.training.weights import load_weights, read_metadata, save_weights

_NEEDED = {"config", "description", "step", "parameters", "train_seconds", "reports"}
CARD = ".md"  # ending of the model card beside the file
_RESULTS = "_exported"  # ending of the folder of results: without it made.safetensors would write into a workdir made


def write_export(run: TrainedRun, path: Path) -> None:
  """Write a run as one file, and beside it a model card. Raise CheckpointError where it cannot be written."""
  save_weights(path, run.params, run.carry, {
      "model": run.name,
      "config": json.dumps(run.config.to_dict()),
      "step": str(run.step),
      "parameters": run.parameters,
      "train_seconds": repr(run.train_seconds),
      "data": run.data.name,
      "data_fingerprint": run.data.identity["train"],
      "description": json.dumps(run.data.to_json()),
      "reports": json.dumps(run.report),
      "versions": json.dumps(versions()),
  })
  write_whole(path.with_suffix(CARD), lambda file: file.write(model_card(run, path.name).encode()))


def read_export(path: Path, overrides: Mapping[str, Any], which: str = "best") -> TrainedRun:
  """Open an exported run; see `gdm.runs.load.open_run`.

  Raises:
    CheckpointError: the file is damaged, was changed, is of a newer version, or holds no run.
    ConfigError: another checkpoint or other parameters than those in the file are asked for.
  """
  found = read_metadata(path)
  if missing := sorted(_NEEDED - found.keys()):
    raise CheckpointError(f"{path} holds weights, but no {missing[0]}: it is no exported run of this version; export "
                          "the run again.")
  if which != "best":
    raise ConfigError(f"--checkpoint is {which!r}, but {path} holds one state only, of step {found['step']}; leave it "
                      "out.")
  recorded = with_defaults(ml_collections.ConfigDict(tuples(json.loads(found["config"]))))
  data = Description.from_json(json.loads(found["description"]))
  config, model = built(path, with_overrides(recorded, overrides), overrides, data)
  if config.evaluation.parameters not in ("auto", found["parameters"]):
    raise ConfigError(f"evaluation.parameters is {config.evaluation.parameters!r}, but {path} holds those called "
                      f"{found['parameters']!r} only; leave it out.")
  params, carry, _ = load_weights(path, shapes_of(model, data))
  params, carry = jax.tree.map(jnp.asarray, (params, carry))
  return TrainedRun(
      config, data, model, params, carry, int(found["step"]), found["parameters"], float(found["train_seconds"]),
      path.with_name(path.stem + _RESULTS), recorded.evaluation.likelihood, json.loads(found["reports"]),
      lambda: read_again(path, config, overrides, data))
