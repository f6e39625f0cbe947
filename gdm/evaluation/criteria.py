"""Numbers by which models without a likelihood are judged, over a whole split."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Key

from gdm import mesh as meshes
from gdm.batches import nan_unless_valid
from gdm.errors import DataError
from gdm.likelihood import require_finite
from gdm.model import Batch, Carry, HasValidation, Params
from gdm.precision import highest_precision


@highest_precision()
def evaluate_criteria(model: HasValidation, params: Params, carry: Carry, batches: Iterable[Batch], *,
                      key: Key[Array, ""], mesh: Mesh | None = None) -> dict[str, float]:
  """Return the mean over all examples of each number that `model.validate` gives, by name.

  Args:
    model: the model.
    params: its parameters.
    carry: its carry.
    batches: one pass over the split, batches of one size; entries where "mask" is 0 are padding and do not count.
    key: batch b uses `fold_in(key, b)`.
    mesh: devices to split each batch over, those of `params`; by default one device.

  Raises:
    ConfigError: the devices cannot share a batch.
    DataError: the split is empty.
    NotFiniteError: a number of an example (its index is named) is NaN or infinite.
  """
  mesh = mesh or meshes.make_mesh(devices=jax.local_devices()[:1])
  sharding = meshes.batch_sharding(mesh, leading_axes=0)
  totals: dict[str, float] = {}
  count = 0
  for index, batch in enumerate(batches):
    meshes.require_divisible(mesh, meshes.whole_batch_size(mesh, len(batch["x"])), "evaluation.batch_size")
    with jax.set_mesh(mesh):
      placed = meshes.put_batch({"mask": np.ones(len(batch["x"]), np.float32), **batch}, sharding)
      found, mask = _validated(model, params, carry, placed, jax.random.fold_in(key, index))
    real = np.asarray(mask) > 0
    for name, each in found.items():
      values = np.asarray(each, np.float64)[real]
      require_finite(values, count, name)
      totals[name] = totals.get(name, 0.0) + float(values.sum())
    count += int(real.sum())
  if not count:
    raise DataError("the split to validate on has no examples; it must have at least one.")
  return {name: total / count for name, total in totals.items()}


# The model is static, so that repeated validations of one model compile once.
@functools.partial(jax.jit, static_argnames=("model",))
def _validated(model: Any, params: Params, carry: Carry, batch: Batch,
               key: Key[Array, ""]) -> tuple[Mapping[str, Float[Array, " batch"]], Array]:
  """Return the numbers and the mask: all of it on every process."""
  found = {name: nan_unless_valid(model.spec, batch, values)
           for name, values in model.validate(params, carry, batch, key).items()}
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()),
                      (found, jnp.asarray(batch["mask"])))
