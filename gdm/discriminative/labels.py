"""Labels and inputs of classifiers: their checks, and numbers picked at labels."""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from gdm import checks
from gdm.batches import check_rows, require_no_lengths
from gdm.dataspec import DataSpec
from gdm.errors import DataError, SpecError
from gdm.model import Batch


class Labelled(NamedTuple):
  """A data set in memory.

  Attributes:
    x: examples, flat, in the data's own type.
    y: labels.
  """

  x: Num[np.ndarray, "examples dims"]
  y: Int[np.ndarray, " examples"]


def num_classes(spec: DataSpec, who: str) -> int:
  """Return the number of classes. Raise SpecError where the data has no labels, or one class only."""
  if spec.num_classes is None:
    raise SpecError(f"{who} tells labels, but the data has none (spec.num_classes is None); choose data with labels "
                    "(arrays train_label, valid_label and test_label of an npz).")
  if spec.num_classes < 2:
    raise SpecError(f"{who} tells classes apart, but the data has {spec.num_classes} (spec.num_classes); there must be "
                    "at least 2.")
  return spec.num_classes


def unit(spec: DataSpec) -> float:
  """Return how far `inputs` move where x moves by 1."""
  return 1.0 if spec.levels is None else 2.0 / (spec.levels - 1)


def inputs(spec: DataSpec, x: Num[Array | np.ndarray, "batch *event"]) -> Float[Array, "batch *event"]:
  """Return integers as points of [-1, 1]; real numbers as they are."""
  x = jnp.asarray(x)
  return x if spec.levels is None else unit(spec) * x.astype(jnp.float32) - 1.0


def at_labels(values: Float[Array, "batch classes"], y: Num[Array | np.ndarray, " batch"]) -> Float[Array, " batch"]:
  """Return each row's value at its label; NaN at a label that there is none of."""
  y = jnp.asarray(y)
  picked = jnp.take_along_axis(values, y[:, None], axis=1, mode="fill", fill_value=jnp.nan)[:, 0]
  return jnp.where(y < 0, jnp.nan, picked)


def label_numbers(log_probs: Float[Array, "batch classes"], batch: Batch, model: object
                  ) -> dict[str, Float[Array, " batch"]]:
  """Return the cross-entropy of each example in nats, and its error: 0 where the likeliest label is the true one, 1
  elsewhere. Raise SpecError where the batch has no labels."""
  checks.has_labels(batch, model, "is judged by labels")
  cross_entropy = -at_labels(log_probs, batch["y"])
  wrong = jnp.argmax(log_probs, axis=1) != jnp.asarray(batch["y"])
  return {"cross_entropy": cross_entropy, "error": jnp.where(jnp.isnan(cross_entropy), jnp.nan, wrong * 1.0)}


def gathered(spec: DataSpec, batches: Iterable[Batch], model: object) -> Labelled:
  """Return all real examples of one pass, with their labels.

  Raises:
    DataError: there is no batch, one holds values that the spec does not allow, or all labels are of one class.
    SpecError: there are no labels.
  """
  xs, ys, count = [], [], 0
  for batch in batches:
    require_no_lengths(spec, batch)
    rows = {name: np.asarray(value) for name, value in batch.items()}
    check_rows(spec, rows, "the data to fit to", count + np.arange(len(rows["x"])))
    checks.has_labels(rows, model, "is fitted to labels")
    real = rows["mask"] > 0 if "mask" in rows else slice(None)
    xs.append(rows["x"].reshape(len(rows["x"]), -1)[real])
    ys.append(rows["y"][real].astype(np.int64))
    count += len(rows["x"])
  if not count:
    raise DataError("there is no batch to fit to; `batches` must serve all training examples on every pass.")
  found = Labelled(np.concatenate(xs), np.concatenate(ys))
  if len(classes := np.unique(found.y)) < 2:
    raise DataError(f"all {len(found.y)} examples to fit to have the label {classes[0]}; there must be at least two "
                    "classes.")
  return found
