"""Orderings of variables, and where their columns lie in a network that works in that order.

Networks of one ordering have their columns sorted by position: *slot* 0 holds the first column of the first variable.
Inputs and outputs have a layout each; it is the same one where a variable has as many inputs as outputs.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm import checks
from gdm.autoregressive.vectors.heads import Head

ORDERINGS = ("natural", "random")


@functools.lru_cache(maxsize=64)
def orderings(kind: str, seed: int, num_variables: int,
              num_orderings: int = 1) -> Int[np.ndarray, "orderings variables"]:
  """Return permutations; row k lists the variables of ordering k, first to last.

  "natural" starts with the data's own order, further orderings are random; "random" draws all of them. Philox is a
  counter-based generator: the same seed gives the same orderings everywhere.

  Raises:
    ConfigError: an unknown kind, a negative seed, or no ordering.
  """
  checks.one_of("ordering", kind, ORDERINGS)
  checks.at_least("ordering_seed", seed, 0)
  checks.at_least("num_orderings", num_orderings, 1)
  generator = np.random.Generator(np.random.Philox(seed))
  rows = [generator.permutation(num_variables) for _ in range(num_orderings)]
  if kind == "natural":
    rows = [np.arange(num_variables), *rows[:num_orderings - 1]]
  return np.stack(rows)


class SlotLayout(NamedTuple):
  """Columns of one side, the inputs' or the outputs', sorted by position.

  Attributes:
    order: [variables] the variable at each position.
    columns: [columns] the head's column in each slot.
    inverse: [columns] the slot of each of the head's columns.
    positions: [columns] the position of each slot's variable, ascending.
    slots: [variables, width] the slots of the variable at each position, padded with the number of columns.
  """

  order: np.ndarray
  columns: np.ndarray
  inverse: np.ndarray
  positions: np.ndarray
  slots: np.ndarray

  @property
  def is_uniform(self) -> bool:
    """True where all variables have as many columns."""
    return self.slots.size == self.columns.size

  @property
  def previous_slots(self) -> np.ndarray:
    """[variables, width] the slots of the variable before each position; before the first there is padding alone."""
    return np.concatenate([np.full_like(self.slots[:1], self.columns.size), self.slots[:-1]])

  def pad(self, values: Float[Array, "columns *rest"]) -> Float[Array, "variables width *rest"]:
    """Return values by slot as values by position, zero where a variable has fewer columns than the widest."""
    if self.is_uniform:
      return values.reshape(*self.slots.shape, *values.shape[1:])
    return jnp.pad(values, ((0, 1),) + ((0, 0),) * (values.ndim - 1))[self.slots]

  def flatten(self, values: Float[Array, "variables width *rest"]) -> Float[Array, "columns *rest"]:
    """Return the inverse of `pad`."""
    flat = values.reshape(-1, *values.shape[2:])
    return flat if self.is_uniform else flat[np.flatnonzero(self.slots.ravel() < self.columns.size)]

  def sort(self, values: Float[Array, "batch columns"]) -> Float[Array, "batch columns"]:
    """Return the head's columns as slots."""
    return values if self._is_identity else values[:, self.columns]

  def unsort(self, values: Float[Array, "batch columns"]) -> Float[Array, "batch columns"]:
    """Return slots as the head's columns."""
    return values if self._is_identity else values[:, self.inverse]

  @property
  def _is_identity(self) -> bool:
    return np.array_equal(self.columns, np.arange(self.columns.size))


@functools.lru_cache(maxsize=64)
def layout(head: Head, order: tuple[int, ...]) -> SlotLayout:
  """Return the layout of a head's output columns under an order of its variables."""
  return _layout(head.columns, head.num_columns, order)


@functools.lru_cache(maxsize=64)
def input_layout(head: Head, order: tuple[int, ...]) -> SlotLayout:
  """Return the layout of a head's input columns under an order of its variables."""
  return _layout(head.inputs, head.num_inputs, order)


def _layout(table: Int[np.ndarray, "variables width"], num_columns: int, order: tuple[int, ...]) -> SlotLayout:
  by_position = table[list(order)]
  real = by_position < num_columns
  columns = by_position[real]
  slots = np.full(by_position.shape, columns.size)
  slots[real] = np.arange(columns.size)
  positions = np.repeat(np.arange(len(order)), real.sum(axis=1))
  return SlotLayout(np.array(order), columns, np.argsort(columns), positions, slots)
