"""An exported file is the run, of every model: the same model, parameters and carry, so the same scores and samples."""

import jax
import ml_collections
import numpy as np
import pytest
from helpers.small_models import COMPOSED, SMALL, SOLVED, each_small, small_batch, small_model, some_parameters

from gdm.data.dataset import Dataset
from gdm.model import HasSolve
from gdm.runs import defaults, registry
from gdm.runs.exported import read_export, write_export
from gdm.runs.trained import TrainedRun


@pytest.mark.parametrize("name", each_small(*SOLVED, *COMPOSED))
def test_a_file_holds_the_model_and_its_state_bit_for_bit(tmp_path, name):
  settings, spec = {**SMALL, **SOLVED, **COMPOSED}[name]
  model = small_model(name)
  batch = small_batch(model)
  if spec.context_dims and "context" not in batch:
    batch["context"] = np.zeros((len(batch["x"]), spec.context_dims), np.float32)
  config = ml_collections.ConfigDict({**defaults.get_config().to_dict(),
                                      "model": registry.complete({"name": name, **settings})})
  if isinstance(model, HasSolve):
    params, carry = some_parameters(model, batch)
  else:  # of the right shapes, without a compiler
    rng, shapes = np.random.default_rng(0), jax.eval_shape(model.init, jax.random.key(0), batch)
    params, carry = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
  dataset = Dataset("made up", spec, {"train": batch, "valid": batch, "test": batch})
  run = TrainedRun.of(config, dataset, model, params, carry, step=3)
  write_export(run, tmp_path / "run.safetensors")
  read = read_export(tmp_path / "run.safetensors", {})
  assert read.model == model and read.spec == spec and read.step == 3
  for before, after in ((params, read.params), (carry, read.carry)):
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
      assert one.dtype == other.dtype and np.asarray(one).tobytes() == np.asarray(other).tobytes()
