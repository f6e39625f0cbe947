"""Examples to bits and back, by a model's conditionals.

One compiled step gives the distributions in both directions, always for a batch of one size: the same program on the
same machine gives the same floats, which another program need not. Encoding feeds it the true values, decoding what was
decoded so far. On the stack a batch lies with its first step on top.

A mixture of chains is coded by bits back (Hinton and van Camp, 1993; Townsend et al., arXiv:1901.04866): an example's
component is popped from the stack by its posterior, and pushed by its prior after the example; the decoder pushes it
back. So an example costs -log2 of the mixture's probability, though the decoder needs to know the component first.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt32

from gdm.errors import ConfigError, DataError
from gdm.evaluation.coding.chains import SymbolChain
from gdm.evaluation.coding.programs import compiler_options, quantized, require_range
from gdm.evaluation.coding.tables import Stack, bits, quantize, uniform
from gdm.model import Params, PyTree

_TABLE_ENTRIES = 1 << 25  # of one batch, at most
_LENGTHS_AT_ONCE = 4096


def coding_batch_size(chain: SymbolChain, num_examples: int, at_most: int) -> int:
  """Return a batch size: few batches, but with tables that fit in memory.

  The first batch of a mixture finds no bits on the stack to take its components from, so it is a small part.
  """
  per_example = chain.num_steps * chain.num_components * (len(chain.alphabet) + chain.has_escape)
  share = num_examples if chain.num_components == 1 else num_examples // 8
  return max(1, min(at_most, share, _TABLE_ENTRIES // per_example))


class Coder:
  """Encodes and decodes with one model, its parameters, and batches of one size; compiles when it is made."""

  def __init__(self, chain: SymbolChain, params: Params, batch_size: int):
    self._chain, self._params, self._batch_size = chain, params, batch_size
    self._span = chain.alphabet.shape[1]
    options, zero = compiler_options(), jnp.int32(0)
    init = jax.jit(functools.partial(_init, chain, batch_size))
    step = jax.jit(functools.partial(_step, chain), donate_argnums=1)
    self._init = init.lower(params, zero).compile(options)
    previous = jnp.zeros((batch_size, self._span), jnp.int32)
    self._step = step.lower(params, jax.eval_shape(init, params, zero), previous, zero, zero).compile(options)

  def encode(self, x: Integer[np.ndarray, "examples *event"],
             length: Integer[np.ndarray, " examples"] | None = None) -> UInt32[np.ndarray, " words"]:
    """Return the bits of x, in words of 32.

    Args:
      x: examples of integers in [0, levels).
      length: how many values of each are real; the others are not coded.

    Raises:
      ConfigError: there are lengths, but the model's order is not the data's own.
      DataError: a value is outside [0, levels).
      NotFiniteError: the model gives probabilities that are not finite.
    """
    chain, stack, starts = self._chain, Stack(), self._starts(len(x))
    active = self._active(len(x), length)
    x = np.where(active.T.reshape(x.shape), x, 0) if length is not None else x
    require_range(x, chain.levels)
    for start in reversed(starts):  # so that decoding begins at the beginning
      part = slice(start, start + self._batch_size)
      values = [chain.split(x[part], component) for component in range(chain.num_components)]
      symbols = [np.stack([chain.symbols(value) for value in of_component]) for of_component in values]
      tables = [self._tables(of_component, component) for component, of_component in enumerate(values)]
      chosen = np.zeros(len(x[part]), np.int32)
      if chain.num_components > 1:
        posterior = _posterior(tables, symbols)
        # The first batch has no bits below it to take components from.
        chosen = np.argmax(posterior, axis=1) if start == starts[-1] else stack.pop(posterior)
      for component, step, rows in reversed(list(self._rounds(active[:, part], chosen))):
        escaped = rows[symbols[component][step, rows] == len(chain.alphabet)]
        if len(escaped):
          spelled = values[component][step, escaped].ravel()
          stack.push(spelled, uniform(len(spelled), chain.levels))
        stack.push(symbols[component][step, rows], tables[component][step, rows])
      if chain.num_components > 1:
        stack.push(chosen, uniform(len(chosen), chain.num_components))
    if length is not None:
      _push_lengths(stack, length, chain.num_steps)
    return stack.words()

  def decode(self, words: UInt32[np.ndarray, " words"], num_examples: int, has_length: bool = False,
             pad: int = 0) -> tuple[Int[np.ndarray, "examples *event"], Int[np.ndarray, " examples"] | None]:
    """Return the inverse of `encode`: examples and, with `has_length`, their lengths, what is beyond filled up with
    `pad`.

    Raises:
      ConfigError: there are lengths, but the model's order is not the data's own.
      DataError: the bits are not of this model and so many examples.
      NotFiniteError: the model gives probabilities that are not finite.
    """
    chain, stack, starts, batches = self._chain, Stack(words), self._starts(num_examples), []
    length = _pop_lengths(stack, num_examples, chain.num_steps) if has_length else None
    active = self._active(num_examples, length)
    for start in starts:
      part = slice(start, min(start + self._batch_size, num_examples))
      num = part.stop - part.start
      several = chain.num_components > 1
      chosen = stack.pop(uniform(num, chain.num_components)) if several else np.zeros(num, np.int32)
      values = np.zeros((chain.num_components, chain.num_steps, num, self._span), np.int32)
      cache = None
      for component, step, rows in self._rounds(active[:, part], chosen):
        if step == 0:
          cache = self._init(self._params, jnp.int32(component))
        previous = values[component, max(step - 1, 0)]
        cache, probs = self._next(cache, previous, step, component)
        symbols = stack.pop(quantized(np.asarray(probs)[rows]))
        known = symbols < len(chain.alphabet)
        values[component, step, rows[known]] = chain.alphabet[symbols[known]]
        if len(escaped := rows[~known]):
          spelled = stack.pop(uniform(len(escaped) * self._span, chain.levels))
          values[component, step, escaped] = spelled.reshape(-1, self._span)
      x = np.zeros((num, *chain.spec.event), np.int32)
      for component in range(chain.num_components):
        mine = chosen == component
        x[mine] = chain.join(values[component], component)[mine]
      if several and start != starts[-1]:
        every = [chain.split(x, component) for component in range(chain.num_components)]
        symbols = [np.stack([chain.symbols(value) for value in of_component]) for of_component in every]
        tables = [self._tables(of_component, component) for component, of_component in enumerate(every)]
        stack.push(chosen, _posterior(tables, symbols))
      batches.append(x)
    if not stack.is_empty:
      raise DataError("the payload holds more bits than its examples take; it is not of this model.")
    x = np.concatenate(batches)
    return (x if length is None else np.where(active.T.reshape(x.shape), x, pad)), length

  def _starts(self, num_examples: int) -> range:
    return range(0, num_examples, self._batch_size)

  def _active(self, num: int, length: Integer[np.ndarray, " num"] | None) -> Bool[np.ndarray, "steps num"]:
    """Return which examples have a value at each step."""
    steps = self._chain.num_steps
    if length is None:
      return np.ones((steps, num), bool)
    if not self._chain.in_raster_order:
      raise ConfigError("the data has lengths, but this model takes padding for data; choose a model of sequences.")
    return np.arange(steps)[:, None] < length

  def _rounds(self, active: Bool[np.ndarray, "steps num"],
              chosen: Integer[np.ndarray, " num"]) -> Iterator[tuple[int, int, Integer[np.ndarray, " rows"]]]:
    """(component, step, rows), in the order of decoding: the steps of each component that some example takes."""
    for component in np.unique(chosen).tolist():
      mine = active & (chosen == component)
      for step in range(len(active)):
        yield component, step, np.flatnonzero(mine[step])

  def _tables(self, values: Integer[np.ndarray, "steps num span"],
              component: int) -> Int[np.ndarray, "steps num values"]:
    """Return the tables of all steps, given the values."""
    cache, every = self._init(self._params, jnp.int32(component)), []
    for step in range(self._chain.num_steps):
      cache, probs = self._next(cache, values[max(step - 1, 0)], step, component)
      every.append(probs)
    # Fetched when all steps are on their way, so that the device need not wait for the host.
    return np.stack([quantized(np.asarray(probs)[:values.shape[1]]) for probs in every])

  def _next(self, cache: PyTree, previous: Integer[np.ndarray, "num span"], step: int, component: int
                ) -> tuple[PyTree, Float[Array, "batch values"]]:
    """Return the compiled step, for a full batch."""
    padded = np.zeros((self._batch_size, self._span), np.int32)
    if step:  # the first one has nothing before it
      padded[:len(previous)] = previous
    return self._step(self._params, cache, padded, np.int32(step), np.int32(component))


def _init(chain: SymbolChain, batch_size: int, params: Params, component: Int[Array, ""]) -> PyTree:
  return chain.init_cache(params, batch_size, component)


def _step(chain: SymbolChain, params: Params, cache: PyTree, previous: Int[Array, "batch span"], index: Int[Array, ""],
          component: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch values"]]:
  """Probabilities of the alphabet and, where there is one, of the escape, which has what is left."""
  cache, log_probs = chain.step(params, cache, previous, index, component)
  probs = jnp.exp(log_probs.astype(jnp.float32))
  if chain.has_escape:
    rest = jnp.clip(1.0 - jnp.sum(probs, axis=1, keepdims=True), 0.0, 1.0)
    probs = jnp.concatenate([probs, rest], axis=1)
  return cache, probs


def _posterior(tables: list[Int[np.ndarray, "steps num values"]],
               symbols: list[Integer[np.ndarray, "steps num"]]) -> Int[np.ndarray, "num components"]:
  """Tables of an example's component, given all of the example: what escapes spell out is the same in all."""
  costs = np.stack([bits(*pair).sum(axis=0) for pair in zip(tables, symbols, strict=True)], axis=1)
  weights = np.exp2(costs.min(axis=1, keepdims=True) - costs)
  return quantize(weights / weights.sum(axis=1, keepdims=True))


# Lengths cost next to nothing where they are mostly the same: each is coded by how often it came up so far.


def _push_lengths(stack: Stack, length: Integer[np.ndarray, " examples"], most: int) -> None:
  chunks, counts = [], np.zeros(most, np.int64)
  for start in range(0, len(length), _LENGTHS_AT_ONCE):
    places = length[start:start + _LENGTHS_AT_ONCE].astype(np.int64) - 1
    seen = np.cumsum(places[:, None] == np.arange(most), axis=0)
    chunks.append((places, _length_tables(counts + np.concatenate([np.zeros_like(seen[:1]), seen[:-1]]))))
    counts = counts + seen[-1]
  for places, tables in reversed(chunks):
    stack.push(places, tables)


def _pop_lengths(stack: Stack, num: int, most: int) -> Int[np.ndarray, " examples"]:
  length, counts = np.zeros(num, np.int32), np.zeros((1, most), np.int64)
  for index in range(num):
    (place,) = stack.pop(_length_tables(counts))
    length[index] = place + 1
    counts[0, place] += 1
  return length


def _length_tables(counts: Int[np.ndarray, "num lengths"]) -> Int[np.ndarray, "num lengths"]:
  """Return all lengths together start as one observation."""
  num_lengths = counts.shape[1]
  weights = counts * num_lengths + 1
  return quantize(weights / weights.sum(axis=1, keepdims=True))
