"""Checks of a batch against its spec: how many dimensions of each example are real, and which values they may have.

Models turn a broken promise into NaN, which whoever reports a number makes an error that names the example; nothing is
clamped. Readers of data refuse it with its place and value before a model sees it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Integer, Shaped

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.errors import DataError, SpecError
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Condition

# For models: traced or not, nothing is raised about values.

_CHEAP_ROWS = 1024


def num_real(spec: DataSpec, batch: Batch) -> Int[Array, " batch"]:
  """Return how many dimensions of each example are real: all, or where there is a "length" those within it."""
  if "length" not in batch:
    return jnp.full(batch["x"].shape[0], spec.num_dims, jnp.int32)
  return jnp.asarray(batch["length"]).astype(jnp.int32) * dims_per_step(spec)


def real_dims(spec: DataSpec, batch: Batch) -> Bool[Array, "batch dims"]:
  """Return which dimensions are no padding, in raster order."""
  return jnp.arange(spec.num_dims) < num_real(spec, batch)[:, None]


def are_valid(spec: DataSpec, batch: Batch, given: Sequence[str] = ()) -> Bool[Array, " batch"]:
  """Return which examples are what the spec promises.

  Real dimensions are integers in [0, levels), or finite; lengths lie between 1 and the context; the label, where "y" is
  among `given`, is an integer in [0, num_classes), and the prefix, likewise, of integers in [0, prefix_levels). What
  padding holds is of no account.
  """
  x = _flat(batch["x"])
  valid = _are_finite(x) if spec.levels is None else _are_below(x, spec.levels)
  if "length" in batch:
    length = jnp.asarray(batch["length"])
    inside = (length >= 1) & (length <= spec.event[0])
    valid = jnp.all(valid | ~real_dims(spec, batch), axis=1) & inside
  else:
    valid = jnp.all(valid, axis=1)
  if "y" in given and "y" in batch and spec.num_classes is not None:
    valid = valid & jnp.all(_are_below(_flat(batch["y"]), spec.num_classes), axis=1)
  if "prefix" in given and "prefix" in batch:
    valid = valid & jnp.all(_are_below(_flat(batch["prefix"]), spec.prefix_levels), axis=1)
  return valid


def repeated_steps(rows: Shaped[Array, "batch steps *more"], batch: Batch) -> Shaped[Array, "batch steps *more"]:
  """Return what is of each step, with that of real steps again, in order, in the place of padding."""
  if "length" not in batch:
    return rows
  again = jnp.arange(rows.shape[1]) % jnp.maximum(jnp.asarray(batch["length"]), 1)[:, None]
  return jax.vmap(lambda row, index: row[index])(rows, again)


def filled(rows: Shaped[np.ndarray, "num *more"], size: int) -> Shaped[np.ndarray, "size *more"]:
  """Return at least `size` rows, the last one repeated, so that all batches have one shape and compile once."""
  return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)]) if len(rows) < size else rows


def padded_size(num: int, most: int) -> int:
  """Return the size of batches that are filled up: `most`, unless `num` examples in all are far fewer.

  A size of up to 1,024 stays as it was asked for: it is cheap, and random draws depend on the shape of a batch.

  Example:
    padded_size(31, 500), padded_size(31, 100_000)  # 500, 1024
  """
  return min(most, max(_CHEAP_ROWS, 1 << math.ceil(math.log2(max(num, 1)))))


def nan_unless_valid(spec: DataSpec, batch: Batch, values: Float[Array, "batch *more"],
                     given: Sequence[str] = ()) -> Float[Array, "batch *more"]:
  """Return the values, NaN for examples that are not what the spec promises (see `are_valid`)."""
  valid = are_valid(spec, batch, given)
  return jnp.where(valid.reshape(-1, *(1,) * (values.ndim - 1)), values, jnp.nan)


def checked(spec: DataSpec, batch: Batch, likelihood: LogLikelihood) -> LogLikelihood:
  """Return the log-likelihood of a batch, NaN for examples that are not what the spec promises.

  Raises:
    DataError: the batch has lengths, which the likelihood of a spec without them does not heed.
  """
  require_no_lengths(spec, batch)
  nats = nan_unless_valid(spec, batch, likelihood.nats, likelihood.given)
  return dataclasses.replace(likelihood, nats=nats)


def require_no_lengths(spec: DataSpec, batch: Batch) -> None:
  """Raise a DataError where a batch has lengths of which the spec says nothing: a model would score its padding."""
  if "length" in batch and not spec.has_lengths:
    raise DataError("the batch has lengths, but the spec says nothing of them: padding would be scored as data. Set "
                    "spec.has_lengths, and choose a model of sequences.")


def require_labels(spec: DataSpec, labels: Shaped[Array | np.ndarray, "..."]) -> None:
  """Raise a SpecError where labels to draw by are not in [0, num_classes); nothing is known of traced ones."""
  num = spec.num_classes or 0
  if not isinstance(labels, Tracer):
    for label in np.setdiff1d(np.asarray(labels), np.arange(num))[:1]:
      raise SpecError(f"condition has label {label}; labels must be in [0, {num}).")


def given(model: Any) -> tuple[str, ...]:
  """Return the batch entries that a model is conditional on, in order: "context" where it takes a real-valued one,
  "prefix" where it takes tokens, "y" where it is class-conditional."""
  return (*("context",) * _takes_context(model), *("prefix",) * _takes_prefix(model),
          *("y",) * getattr(model, "class_conditional", False))


def context_width(model: Any) -> int:
  """Return the width of what a model's networks are given beside the data: tokens, context and one-hot labels."""
  labels = (model.spec.num_classes or 0) if getattr(model, "class_conditional", False) else 0
  return (labels + (model.spec.context_dims if _takes_context(model) else 0)
          + (model.spec.prefix_steps if _takes_prefix(model) else 0))


def given_context(model: Any, batch: Batch) -> Float[Array, "batch width"] | None:
  """Return what a model's networks are given beside the data: the tokens of the batch's prefix, as numbers, its
  context, and its labels as one-hot vectors. Zeros in place of tokens and labels are none of them.

  Args:
    model: a model with `spec`; class-conditional, given a context (`context_conditional`), a prefix
      (`prefix_conditional`), several of them or none.
    batch: one with "y", "context" and "prefix" as the model needs them, or a SpecError says what is missing.

  Returns:
    None where the model takes none of them.
  """
  parts = []
  if _takes_prefix(model):
    parts.append(prefix_of(batch, model).astype(jnp.float32))
  if _takes_context(model):
    parts.append(_context_of(batch, model))
  if getattr(model, "class_conditional", False):
    checks.has_labels(batch, model)
    parts.append(jax.nn.one_hot(jnp.asarray(batch["y"]).astype(jnp.int32), model.spec.num_classes or 0))
  return jnp.concatenate(parts, axis=1) if parts else None


def by_name(model: Any, condition: Condition | None) -> dict[str, Any]:
  """Return a condition by the names of its parts: an array alone is the first thing that a model is conditional on."""
  if condition is None:
    return {}
  return dict(condition) if isinstance(condition, Mapping) else dict.fromkeys(given(model)[:1], condition)


def condition_context(model: Any, condition: Condition | None, num: int) -> Float[Array, "num width"] | None:
  """Return the condition of `num` draws as networks take it; None where a model takes none.

  Args:
    model: as for `given_context`.
    condition: labels [num] or one for all, contexts [num, width] or one for all, prefixes [num, steps] or one for all,
      or several by name: {"y": ..., "context": ..., "prefix": ...}.
    num: how many draws.

  Raise SpecError for a condition where there must be none, or none where there must be some, or unknown labels.
  """
  names = given(model)
  if not names:
    checks.unconditional(model, condition)
    return None
  if condition is None:
    raise SpecError(f"{type(model).__name__} is conditional on {' and '.join(names)}; condition must be "
                    f"{' and '.join(_CONDITIONS[name] for name in names)}.")
  found = by_name(model, condition)
  if missing := [name for name in names if name not in found]:
    raise SpecError(f"condition has no {missing[0]!r}; {type(model).__name__} is conditional on {' and '.join(names)}: "
                    f"it must be a mapping with {' and '.join(map(repr, names))}.")
  rows = {}
  if "y" in names:
    labels = jnp.asarray(found["y"])
    require_labels(model.spec, labels)
    rows["y"] = jnp.broadcast_to(labels, (num,))
  if "context" in names:
    rows["context"] = jnp.broadcast_to(jnp.asarray(found["context"]), (num, model.spec.context_dims))
  if "prefix" in names:
    rows["prefix"] = condition_prefix(model.spec, found["prefix"], num)
  return given_context(model, rows)


def _context_of(batch: Batch, model: Any) -> Float[Array, "batch width"]:
  """Return a batch's context as float32. Raise SpecError where it is missing or of another width."""
  if "context" not in batch:
    raise SpecError(f"{type(model).__name__} is conditional on a real-valued context, but the batch has no 'context'.")
  context, width = jnp.asarray(batch["context"], jnp.float32), model.spec.context_dims
  if context.ndim != 2 or context.shape[1] != width:
    raise SpecError(f"context has shape {context.shape}; it must be [batch, {width}], as spec.context_dims says.")
  return context


def condition_labels(model: Any, condition: Condition | None, num: int) -> Int[Array, " num"]:
  """Return the labels of `num` draws of a class-conditional model, from labels [num] or one for all.

  Raise SpecError where there are none, or one is not in [0, num_classes); nothing is known of traced ones.
  """
  asked = by_name(model, condition).get("y")
  if asked is None:
    raise SpecError(f"{type(model).__name__} is class-conditional; condition must be labels [{num}].")
  labels = jnp.asarray(asked)
  require_labels(model.spec, labels)
  return jnp.broadcast_to(labels.astype(jnp.int32), (num,))


def condition_prefix(spec: DataSpec, tokens: Any, num: int) -> Int[Array, "num steps"]:
  """Return the prefix of each of `num` draws, from tokens [num, steps] or [steps] for all.

  Raise SpecError for another length, or tokens that are not in [0, prefix_levels); nothing is known of traced ones.
  """
  if np.ndim(tokens) < 1 or np.shape(tokens)[-1] != spec.prefix_steps:
    raise SpecError(f"the prefix has shape {np.shape(tokens)}; it must be [{num}, {spec.prefix_steps}], or "
                    f"[{spec.prefix_steps}] for all, as spec.prefix_steps says.")
  if not isinstance(tokens, Tracer):
    for token in np.setdiff1d(np.asarray(tokens), np.arange(spec.prefix_levels))[:1]:
      raise SpecError(f"the prefix has token {token}; tokens must be in [0, {spec.prefix_levels}).")
  return jnp.broadcast_to(jnp.asarray(tokens, jnp.int32), (num, spec.prefix_steps))


def prefix_of(batch: Batch, model: Any) -> Int[Array, "batch steps"]:
  """Return a batch's prefix. Raise SpecError where it is missing or of another length."""
  if "prefix" not in batch:
    raise SpecError(f"{type(model).__name__} is conditional on a prefix of tokens, but the batch has no 'prefix'.")
  prefix, steps = jnp.asarray(batch["prefix"]), model.spec.prefix_steps
  if prefix.ndim != 2 or prefix.shape[1] != steps:
    raise SpecError(f"the prefix has shape {prefix.shape}; it must be [batch, {steps}], as spec.prefix_steps says.")
  return prefix.astype(jnp.int32)


_CONDITIONS = {"y": "labels", "context": "contexts", "prefix": "prefixes"}


def _takes_context(model: Any) -> bool:
  return getattr(model, "context_conditional", False)


def _takes_prefix(model: Any) -> bool:
  return getattr(model, "prefix_conditional", False)


def dims_per_step(spec: DataSpec) -> int:
  """Return how many dimensions one step of a sequence has: lengths count along the first axis of the event."""
  return math.prod(spec.event[1:])


# For readers of data: on the host.


def check_rows(spec: DataSpec, rows: Mapping[str, np.ndarray], where: str,
               examples: Integer[np.ndarray, " batch"] | None = None) -> None:
  """Raise a DataError where rows are not what the spec promises.

  Args:
    spec: the data.
    rows: "x" [batch, *event], and "length", "y", "context", "prefix" where there are any.
    where: what the rows are of, for the message.
    examples: their numbers, for the message; by default they count from 0.
  """
  x = np.asarray(rows["x"])
  if x.shape[1:] != spec.event:
    raise DataError(f"{where}: the examples have shape {x.shape[1:]}, but spec.event is {spec.event}.")
  if len(x) == 0:
    return
  real = None
  if "length" in rows:
    length = np.asarray(rows["length"])
    check_lengths(length, spec.event[0], where, examples)
    real = np.arange(spec.num_dims).reshape(spec.event) < _column(length * dims_per_step(spec), x.ndim)
  if spec.levels is None:
    check_finite(x, where, real, examples)
  else:
    check_range(x, spec.levels, "levels", where, real, examples)
  if spec.num_classes is not None and "y" in rows:
    check_range(np.asarray(rows["y"]), spec.num_classes, "num_classes", f"{where}, labels", examples=examples)
  if spec.context_dims:
    _check_context(rows, spec.context_dims, where, examples)
  if spec.prefix_steps:
    _check_prefix(rows, spec, where, examples)


def _check_context(rows: Mapping[str, np.ndarray], dims: int, where: str,
                   examples: Integer[np.ndarray, " batch"] | None) -> None:
  if "context" not in rows:
    raise DataError(f"{where} has no context, but spec.context_dims is {dims}; every split needs it.")
  context = np.asarray(rows["context"])
  if context.shape != (len(rows["x"]), dims):
    raise DataError(f"{where}: the context has shape {context.shape}, but {len(rows['x'])} examples and "
                    f"spec.context_dims make it {(len(rows['x']), dims)}.")
  check_finite(context, f"{where}, context", examples=examples)


def _check_prefix(rows: Mapping[str, np.ndarray], spec: DataSpec, where: str,
                  examples: Integer[np.ndarray, " batch"] | None) -> None:
  if "prefix" not in rows:
    raise DataError(f"{where} has no prefix, but spec.prefix_steps is {spec.prefix_steps}; every split needs it.")
  prefix = np.asarray(rows["prefix"])
  if prefix.shape != (len(rows["x"]), spec.prefix_steps):
    raise DataError(f"{where}: the prefix has shape {prefix.shape}, but {len(rows['x'])} examples and "
                    f"spec.prefix_steps make it {(len(rows['x']), spec.prefix_steps)}.")
  check_range(prefix, spec.prefix_levels, "prefix_levels", f"{where}, prefix", examples=examples)


def check_lengths(length: Integer[np.ndarray, " batch"], context: int, where: str,
                  examples: Integer[np.ndarray, " batch"] | None = None) -> None:
  """Raise a DataError naming the first sequence without tokens, or with more than there is room for."""
  if length.min() < 1 or length.max() > context:
    row = int(np.argmax((length < 1) | (length > context)))
    raise DataError(f"{where}: the length of example {_number(row, examples)} is {length[row]}; lengths lie between 1 "
                    f"and the context, {context}.")


def check_finite(x: Shaped[np.ndarray, "batch *event"], where: str,
                 real: Bool[np.ndarray, "batch *event"] | None = None,
                 examples: Integer[np.ndarray, " batch"] | None = None) -> None:
  """Raise a DataError naming the index of the first NaN or infinity among the real values."""
  finite = np.isfinite(x)
  if not finite.all():
    _raise_at(~finite, x, f"{where}: the value at index", "every value must be finite.", real, examples)


def check_range(x: Shaped[np.ndarray, "batch *event"], bound: int, what: str, where: str,
                real: Bool[np.ndarray, "batch *event"] | None = None,
                examples: Integer[np.ndarray, " batch"] | None = None) -> None:
  """Raise a DataError naming the index of the first real value that is no integer in [0, bound)."""
  if x.dtype.kind == "u" and np.iinfo(x.dtype).max < bound:
    return  # the type promises it
  whole = x.dtype.kind != "f" or bool((x == np.floor(x)).all())
  if not whole or x.min() < 0 or x.max() >= bound:
    outside = ~((x >= 0) & (x < bound) & ((x == np.floor(x)) if x.dtype.kind == "f" else True))
    _raise_at(outside, x, f"{where}: the value at index",
              f"{what} is {bound}, so that values must be integers in [0, {bound}).", real, examples)


def _raise_at(wrong: Bool[np.ndarray, "batch *event"], x: np.ndarray, before: str, right: str,
              real: Bool[np.ndarray, "batch *event"] | None, examples: Integer[np.ndarray, " batch"] | None) -> None:
  if real is not None:
    wrong = wrong & real
  for index in np.argwhere(wrong)[:1]:
    place = (_number(int(index[0]), examples), *map(int, index[1:]))
    raise DataError(f"{before} [{', '.join(map(str, place))}] is {x[tuple(index)]}, but {right}")


def _number(row: int, examples: Integer[np.ndarray, " batch"] | None) -> int:
  return row if examples is None else int(examples[row])


def _column(values: np.ndarray, ndim: int) -> np.ndarray:
  return values.reshape(-1, *(1,) * (ndim - 1))


def _flat(x: Shaped[Array | np.ndarray, "batch *event"]) -> Shaped[Array | np.ndarray, "batch dims"]:
  return x.reshape(x.shape[0], -1)


def _are_below(x: Shaped[Array | np.ndarray, "batch dims"], bound: int) -> Bool[Array, "batch dims"]:
  # Compared in the type that they have: small ones cannot hold the bound, and wide ones lose bits where JAX takes them.
  least, most = _limits(x.dtype)
  inside = jnp.asarray((x >= max(0, least)) & (x <= min(bound - 1, most)))
  return inside & jnp.asarray(x == jnp.floor(x)) if jnp.issubdtype(x.dtype, jnp.floating) else inside


def _limits(dtype) -> tuple[int | float, int | float]:
  if jnp.issubdtype(dtype, jnp.integer):
    info = jnp.iinfo(dtype)
    return int(info.min), int(info.max)
  return (-math.inf, math.inf) if jnp.issubdtype(dtype, jnp.floating) else (0, 1)


def _are_finite(x: Shaped[Array | np.ndarray, "batch dims"]) -> Bool[Array, "batch dims"]:
  return jnp.isfinite(jnp.asarray(x)) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.ones(x.shape, bool)
