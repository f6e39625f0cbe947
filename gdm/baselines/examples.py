"""Examples in, examples out: flat views of batches, sums over a data set, and samples in the data's own shape."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from gdm import checks
from gdm.batches import check_rows, checked, num_real, real_dims, require_no_lengths
from gdm.dataspec import DataSpec
from gdm.errors import DataError, SpecError
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, PyTree, Samples


def flat(spec: DataSpec, batch: Batch) -> Num[Array, "batch dims"]:
  """batch["x"] with its event flattened; discrete data as int32, and padding as 0.

  Raises:
    DataError: when the batch is not [batch, *spec.event].
  """
  x = jnp.asarray(batch["x"])
  if x.shape[1:] != spec.event:
    raise DataError(f"x has shape {x.shape}; it must be [batch, *spec.event] with spec.event {spec.event}.")
  x = x.reshape(x.shape[0], spec.num_dims).astype(jnp.int32 if spec.is_discrete else jnp.float32)
  return jnp.where(real_dims(spec, batch), x, 0) if "length" in batch else x


def weights(batch: Batch) -> Float[Array, " batch"]:
  """1 for each real example; where the batch is padded, its mask says which ones are."""
  return jnp.asarray(batch.get("mask", np.ones(len(batch["x"]))), jnp.float32)


def exact(spec: DataSpec, batch: Batch, nats: Float[Array, " batch"]) -> LogLikelihood:
  """Return the exact log-likelihood of whole examples; NaN for values that the spec does not allow."""
  return checked(spec, batch, LogLikelihood.of(nats, spec.num_dims))


def exact_of_real(spec: DataSpec, batch: Batch, nats: Float[Array, "batch dims"]) -> LogLikelihood:
  """Return the exact log-likelihood of what is within each example's length, from that of each dimension."""
  total = jnp.sum(jnp.where(real_dims(spec, batch), nats, 0.0), axis=-1)
  return checked(spec, batch, LogLikelihood(total, num_real(spec, batch), Kind.EXACT))


def accumulate(spec: DataSpec, statistic: Callable[..., PyTree], batches: Iterable[Batch], *args: Any) -> PyTree:
  """Return the sum over all batches of `statistic(x [batch, dims], weight [batch], *args)`.

  Where examples have lengths the weight is [batch, dims], 0 for padding. The statistic is compiled and sums within a
  batch in float32; batches are added in float64 on the host, so that counts stay exact beyond the 2^24 of float32. A
  batch is fetched only after the next one was dispatched.

  Returns:
    NumPy float64 arrays of the statistic's structure.

  Raises:
    DataError: when there is no batch at all, or one holds values that the spec does not allow.
  """
  total, pending, count = None, None, 0
  for batch in batches:
    check(spec, batch, count)
    count += len(batch["x"])
    weight = weights(batch)
    weight = weight[:, None] * real_dims(spec, batch) if spec.has_lengths else weight
    pending, ready = statistic(flat(spec, batch), weight, *args), pending
    total = _add(total, ready)
  total = _add(total, pending)
  if total is None:
    raise no_batch()
  return total


def check(spec: DataSpec, batch: Batch, first: int = 0) -> None:
  """Raise DataError where a batch to fit to is not what the spec promises; its examples count from `first`."""
  require_no_lengths(spec, batch)
  rows = {key: np.asarray(value) for key, value in batch.items()}
  check_rows(spec, rows, "the data to fit to", first + np.arange(len(rows["x"])))


def no_batch() -> DataError:
  """Return the error of a pass that served nothing."""
  return DataError("there is no batch to fit to; `batches` must serve all training examples on every pass.")


def moments(spec: DataSpec, batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray, float]:
  """Mean [dims], variance [dims] and number of examples, in float64.

  Two passes: the variance is of centred data, so that a mean far from zero costs no digits.
  """
  @jax.jit
  def first(x, weight):
    return {"sum": weight @ x, "count": jnp.sum(weight)}

  @jax.jit
  def second(x, weight, centre):
    return weight @ jnp.square(x - centre), weight @ (x - centre)

  sums = accumulate(spec, first, batches)
  count = float(sums["count"])
  centre = sums["sum"] / count
  squares, rest = accumulate(spec, second, batches, jnp.asarray(centre, jnp.float32))
  # `centre` is rounded to float32 on the device; the rest is what that rounding and float32 sums left out.
  centre = np.asarray(np.asarray(centre, np.float32), np.float64)
  return centre + rest / count, squares / count - np.square(rest / count), count


def as_samples(spec: DataSpec, x: Num[Array, "num dims"]) -> Samples:
  """Flat draws in the data's own shape."""
  return Samples(x.reshape(x.shape[0], *spec.event), {})


def check_options(condition: Array | None, temperature: float, who: str) -> None:
  """Raise a SpecError when a condition is given to a model of p(x) alone, and ConfigError for no temperature."""
  if condition is not None:
    raise SpecError(f"{who} is a model of x alone: sample's condition must be None.")
  checks.temperature(temperature)


def _add(total: PyTree | None, part: PyTree | None) -> PyTree | None:
  if part is None:
    return total
  part = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), jax.device_get(part))
  return part if total is None else jax.tree.map(np.add, total, part)
