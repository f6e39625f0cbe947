"""Examples to bits and back given what a decoder makes them of: all places at once, one channel after another."""

import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm.dataspec import DataSpec
from gdm.evaluation.coding.programs import compiler_options, quantized
from gdm.evaluation.coding.tables import bits
from gdm.model import Carry, Params, PyTree


class _AnyStack(Protocol):
  def push(self, symbols: Any, tables: Any) -> None: ...

  def pop(self, tables: Any) -> Any: ...


class OutputCoder:
  """Pushes and pops examples by `model.level_log_probs(params, carry, latents, x, channel)`; compiles when it is made.

  Arrays "batch" are of one size; `num` says how many of its examples are real.
  """

  def __init__(self, model: Any, params: Params, carry: Carry, latents: PyTree, batch_size: int):
    """`latents` are arrays of a batch, or their shapes."""
    spec: DataSpec = model.spec
    spec.require_discrete("lossless coding")
    self._spec, self._state, self._batch_size = spec, (params, carry), batch_size
    self._num_channels = spec.event[-1] if spec.is_image else 1
    x = jax.ShapeDtypeStruct((batch_size, *spec.event), jnp.int32)
    self._programs = [
        jax.jit(functools.partial(_level_probs, model, channel)).lower(params, carry, latents, x).compile(
            compiler_options()) for channel in range(self._num_channels)]

  def push(self, stack: Any, latents: PyTree, x: Int[np.ndarray, "batch *event"], num: int) -> float:
    """Push examples; return their bits."""
    total = 0.0
    for channel in reversed(range(self._num_channels)):
      tables, symbols = self._tables(latents, x, channel, num), self._of_channel(x, channel)[:num].ravel()
      stack.push(symbols, tables)
      total += float(np.sum(bits(tables, symbols)))
    return total

  def pop(self, stack: Any, latents: PyTree, num: int) -> Int[np.ndarray, "batch *event"]:
    """Pop examples."""
    x = np.zeros((self._batch_size, *self._spec.event), np.int32)
    for channel in range(self._num_channels):
      values = self._of_channel(x, channel)[:num]
      values[...] = stack.pop(self._tables(latents, x, channel, num)).reshape(values.shape)
    return x

  def padded(self, x: Int[np.ndarray, "num *event"]) -> Int[np.ndarray, "batch *event"]:
    """Return the examples of a batch, filled up with zeros."""
    return np.concatenate([x, np.zeros((self._batch_size - len(x), *x.shape[1:]), x.dtype)])

  def _of_channel(self, x: Int[np.ndarray, "batch *event"], channel: int) -> Int[np.ndarray, "batch *places"]:
    """Return a view of the values of a channel."""
    return x[..., channel] if self._spec.is_image else x

  def _tables(self, latents: PyTree, x: Int[np.ndarray, "batch *event"], channel: int,
              num: int) -> Int[np.ndarray, "places levels"]:
    probs = np.asarray(self._programs[channel](*self._state, latents, x))[:num]
    return quantized(probs.reshape(-1, probs.shape[-1]))


def _level_probs(model: Any, channel: int, params: Params, carry: Carry, latents: PyTree,
                 x: Int[Array, "batch *event"]) -> Float[Array, "batch *places levels"]:
  return jnp.exp(model.level_log_probs(params, carry, latents, x, channel).astype(jnp.float32))
