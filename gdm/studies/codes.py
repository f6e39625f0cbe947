"""Codes of a trained run as data of their own, and back: so that any model of discrete data learns them elsewhere."""

import pathlib
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Integer, Num

from gdm.batches import padded_size
from gdm.data.loader import eval_batches
from gdm.errors import ConfigError, DataError
from gdm.model import HasCodes, HasLatent
from gdm.paths import write_arrays
from gdm.precision import at_highest_precision
from gdm.runs.trained import TrainedRun


@at_highest_precision
def write_codes(run: TrainedRun, path: pathlib.Path) -> dict[str, tuple[int, ...]]:
  """Write the codes of all splits of a run's data to a .npz file, with `levels`, labels and prefixes: data "npz" for
  any model, given prefixes by "#prefix=prefix".

  Codes of the training split are of its fixed form.

  Args:
    run: a run whose model has codes.
    path: the file; it must end in .npz.

  Returns:
    The shape of each split.

  Raises:
    ConfigError: the model has no codes, or the file another ending.
  """
  model = _with_codes(run)
  if path.suffix != ".npz":
    raise ConfigError(f"codes go to {path}; the file must end in .npz.")
  levels = cast(Any, model).codes_spec.levels
  encode = jax.jit(lambda x: model.encode(run.params, run.carry, {"x": x}, jax.random.key(0)))
  arrays: dict[str, np.ndarray] = {"levels": np.asarray(levels)}
  for split in run.dataset.splits:
    size = padded_size(run.dataset.num_examples(split), run.config.evaluation.batch_size)
    batches = eval_batches(run.dataset, split, size)
    codes = [np.asarray(encode(batch["x"]))[np.asarray(batch["mask"]) > 0] for batch in batches]
    arrays[split] = np.concatenate(codes).astype(np.min_scalar_type(levels - 1))
    rows = run.dataset.split(split).rows(slice(None))
    if "y" in rows and rows["y"].ndim == 1:
      arrays[f"{split}_label"] = np.asarray(rows["y"])
    if "prefix" in rows:
      arrays[f"{split}_prefix"] = np.asarray(rows["prefix"])
  write_arrays(path, arrays)
  return {split: arrays[split].shape for split in run.dataset.splits}


@at_highest_precision
def decode_codes(run: TrainedRun, codes: Integer[np.ndarray, "examples rows columns 1"]
                 ) -> Num[np.ndarray, "examples *event"]:
  """Return the means of examples given their codes, samples of another run's model say, in the data's values.

  Raises:
    ConfigError: the model has no codes.
    DataError: they are none of its codes.
  """
  model = _with_codes(run)
  spec = cast(Any, model).codes_spec
  if codes.shape[1:] != spec.event or not np.issubdtype(codes.dtype, np.integer):
    raise DataError(f"codes are an array of {codes.dtype} {codes.shape}; they must be integers of shape (examples, "
                    f"{', '.join(map(str, spec.event))}).")
  if len(codes) and not 0 <= codes.min() <= codes.max() < spec.levels:
    raise DataError(f"codes lie in [{codes.min()}, {codes.max()}]; they must lie in [0, {spec.levels}), the codebook "
                    f"of {run.config.model.name}.")
  size = run.config.evaluation.batch_size
  decode = jax.jit(lambda z: cast(HasLatent, model).decode(run.params, run.carry, z, jax.random.key(0)))
  batches = []
  for start in range(0, len(codes), size):
    part = codes[start:start + size].astype(np.int32)
    padded = np.concatenate([part, np.zeros((size - len(part), *spec.event), np.int32)])
    batches.append(np.asarray(decode(padded))[:len(part)])
  return np.concatenate(batches) if batches else np.zeros((0, *run.spec.event), np.float32)


def _with_codes(run: TrainedRun) -> HasCodes:
  if not isinstance(run.model, HasCodes):
    raise ConfigError(f"{run.config.model.name} has no discrete codes; name a run of a model that has, such as vqvae.")
  return run.model
