"""The components of a MADE's ensemble: an ordering of the variables and a mask of the hidden units each.

A mask is given by the degrees of its units (see gdm/networks/masked.py): far smaller than the mask, and all it takes.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from gdm.autoregressive.vectors.heads import Head
from gdm.autoregressive.vectors.layout import input_layout, layout, orderings
from gdm.networks.masked import even_degrees

DEGREES = ("even", "random")


class Components(NamedTuple):
  """Tables of all components.

  Attributes:
    orders: [components, variables] the variable at each position.
    degrees: [components, inputs] of the inputs by slot, then [components, units] of each hidden layer.
    limits: [components, columns] of the outputs by slot.
    slots: [components, variables, width] of the outputs of the variable at each position.
    previous_slots: [components, variables, input width] of the inputs of the variable before; padding before the first.
    units: for each hidden layer, [components, variables, most] the units that become final at each step, padded.
  """

  orders: np.ndarray
  degrees: tuple[np.ndarray, ...]
  limits: np.ndarray
  slots: np.ndarray
  previous_slots: np.ndarray
  units: tuple[np.ndarray, ...]

  def __len__(self) -> int:
    return len(self.orders)

  def component_degrees(self, component: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return degrees of the inputs and of each hidden layer, and limits of the outputs, of one component."""
    return [layer[component] for layer in self.degrees], self.limits[component]

  def traced_component_degrees(self, component: int | Int[Array, ""]) -> tuple[list[Array], Array]:
    """Do as `component_degrees` does, for a component that may be traced."""
    return [jnp.asarray(layer)[component] for layer in self.degrees], jnp.asarray(self.limits)[component]


@functools.lru_cache(maxsize=32)
def components(head: Head, ordering: str, ordering_seed: int, num_orderings: int, hidden: tuple[int, ...], degrees: str,
               mask_seed: int, num_masks: int) -> Components:
  """Return all components; component c has ordering c mod num_orderings and mask c mod num_masks."""
  n, count = head.num_variables, np.arange(max(num_orderings, num_masks))
  distinct = orderings(ordering, ordering_seed, n, num_orderings)
  order = slot_order(head, ordering, ordering_seed, num_orderings)
  outputs, inputs = layout(head, order), input_layout(head, order)
  orders = distinct[count % num_orderings]
  ranks = np.argsort(orders, axis=1)  # [components, variables] the position of each variable
  layers = [layer[count % num_masks] for layer in mask_degrees(hidden, n - 1, num_masks, degrees, mask_seed)]
  slots, before = (side.slots[np.argsort(side.order)][orders] for side in (outputs, inputs))
  previous = np.concatenate([np.full_like(before[:, :1], head.num_inputs), before[:, :-1]], axis=1)
  return Components(orders, (ranks[:, inputs.order[inputs.positions]], *layers),
                    ranks[:, outputs.order[outputs.positions]] - 1, slots, previous,
                    tuple(units_by_step(d, n) for d in layers))


def slot_order(head: Head, ordering: str, ordering_seed: int, num_orderings: int) -> tuple[int, ...]:
  """Return the order in which the network gives the outputs: the one ordering there is, else the data's own."""
  if num_orderings > 1:
    return tuple(range(head.num_variables))
  return tuple(orderings(ordering, ordering_seed, head.num_variables)[0].tolist())


def mask_degrees(hidden: tuple[int, ...], num_degrees: int, num_masks: int, kind: str,
                 seed: int) -> list[Int[np.ndarray, "masks units"]]:
  """Return degrees of each hidden layer's units, in [0, num_degrees).

  Args:
    hidden: sizes of the layers.
    num_degrees: variables less one: no hidden unit may see the last.
    num_masks: how many; a single one is sorted, as hidden units have no order of their own.
    kind: "even" spreads the degrees evenly, and further masks permute them; "random" draws them.
    seed: of the draws.
  """
  generator = np.random.Generator(np.random.Philox(seed))
  layers, low = [], np.zeros(num_masks, int)
  for size in hidden:
    if kind == "even":
      even = even_degrees(size, num_degrees)
      layer = np.stack([even, *(generator.permutation(even) for _ in range(num_masks - 1))])
    else:
      # At least the least degree below, so that every unit has an input (section 4.2).
      layer = np.stack([generator.integers(least, max(num_degrees, least + 1), size) for least in low])
    layers.append(np.sort(layer, axis=1) if num_masks == 1 else layer)
    low = layer.min(axis=1)
  return layers


def units_by_step(degrees: Int[np.ndarray, "components units"],
                  num_steps: int) -> Int[np.ndarray, "components steps most"]:
  """Return the units that become final at each step, of degree step - 1, padded with the number of units."""
  most = max(np.bincount(row).max() for row in degrees)
  units = np.full((len(degrees), num_steps, most), degrees.shape[1])
  for table, row in zip(units, degrees, strict=True):
    for step in range(1, num_steps):
      members = np.flatnonzero(row == step - 1)
      table[step, :len(members)] = members
  return units
