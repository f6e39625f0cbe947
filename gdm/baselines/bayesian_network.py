"""A Bayesian network of discrete dimensions over a given directed acyclic graph."""

import dataclasses
import functools
import graphlib
import itertools
from collections.abc import Iterable

import numpy as np
from jaxtyping import Array, Bool, Key, Num

from gdm.baselines import examples, tables
from gdm.baselines.tabular import Tabular
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Params, Samples

Parents = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class BayesianNetwork(Tabular):
  """p(x) = prod_d p(x_d | x_parents(d)). Parameters: "logits" [rows, levels], see `gdm.baselines.tables`.

  The graph is given in one of two ways.

  Attributes:
    spec: discrete data.
    parents: for each flattened dimension its parents, the most telling first.
    offsets: the same relative steps for every dimension, as for the pixels of an image: ((0, -1, 0), (-1, 0, 0)) makes
      the left and the upper neighbour parents; steps of length one go along the flattened dimensions. What falls
      outside is left out.
    alpha: pseudo-counts per level, spread as the table without its last parent does; see `tables.smooth`.
  """

  spec: DataSpec
  parents: Parents = ()
  offsets: Parents = ()
  alpha: float = 1.0

  def __post_init__(self) -> None:
    self.spec.require_whole("BayesianNetwork")
    tables.require_alpha(self.alpha)
    if bool(self.parents) == bool(self.offsets):
      raise SpecError("a Bayesian network needs its graph by one of model.parents and model.offsets; "
                      f"parents is {self.parents}, offsets is {self.offsets}.")
    _ = self.dims_in_order, self.table_layout  # raise when the graph has a cycle or the tables are too large

  @property
  def graph(self) -> Parents:
    """The parents of each flattened dimension."""
    if self.offsets:
      return parents_by_offsets(self.spec.event, _tuples(self.offsets))
    return checked_parents(self.spec.num_dims, _tuples(self.parents))

  @property
  def dims_in_order(self) -> tuple[int, ...]:
    return topological_order(self.graph)

  @property
  def table_layout(self) -> tables.Layout:
    return tables.layout_of(self.graph, self.levels)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact log p(x) in nats."""
    nats = tables.log_prob(self.table_layout, params["model"]["logits"], examples.flat(self.spec, batch))
    return examples.exact(self.spec, batch, nats)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Draw the unknown dimensions from their exact conditional.

    Raises:
      SpecError: a known dimension has an unknown parent; the conditional then asks for inference, not for ancestors.
    """
    flat, is_known = examples.flat(self.spec, {"x": x}), np.ravel(np.asarray(known))
    for dim, parents in enumerate(self.graph):
      if is_known[dim] and (unknown := [parent for parent in parents if not is_known[parent]]):
        raise SpecError("a Bayesian network completes regions whose parents are all known, but dimension "
                        f"{dim} is known and its parent {unknown[0]} is not.")
    return self.draw(params, key, flat, is_known)


@functools.lru_cache(maxsize=64)
def topological_order(parents: Parents) -> tuple[int, ...]:
  """Return all dimensions, parents before children.

  Raises:
    SpecError: the graph has a cycle; the message names it.
  """
  try:
    return tuple(graphlib.TopologicalSorter(dict(enumerate(parents))).static_order())
  except graphlib.CycleError as error:
    cycle = " -> ".join(map(str, error.args[1]))
    raise SpecError(f"model.parents must have no cycle, but it has {cycle} (parent -> child).") from None


@functools.lru_cache(maxsize=64)
def parents_by_offsets(event: tuple[int, ...], offsets: Parents) -> Parents:
  """Parents at the same relative steps from every dimension of the event; steps that leave the event are left out.

  Raises:
    SpecError: a step has neither the event's rank nor length one.
  """
  flat_only = all(len(step) == 1 for step in offsets)
  shape = (int(np.prod(event)),) if flat_only else event
  if any(len(step) != len(shape) for step in offsets):
    raise SpecError(f"model.offsets {offsets} must all have length {len(event)}, as spec.event {event} has, or all "
                    "length one.")
  parents = []
  for position in itertools.product(*map(range, shape)):
    moved = [tuple(np.add(position, step).tolist()) for step in offsets]
    inside = [place for place in moved if all(0 <= i < size for i, size in zip(place, shape, strict=True))]
    parents.append(tuple(int(np.ravel_multi_index(place, shape)) for place in inside))
  return tuple(parents)


@functools.lru_cache(maxsize=64)
def checked_parents(num_dims: int, parents: Parents) -> Parents:
  """`parents`, when there is one entry per dimension and all name other dimensions, each once.

  Raises:
    SpecError: otherwise.
  """
  if len(parents) != num_dims:
    raise SpecError(f"model.parents has {len(parents)} entries; it needs one for each of the {num_dims} dimensions.")
  for dim, own in enumerate(parents):
    if any(not 0 <= parent < num_dims for parent in own) or len(set(own)) != len(own):
      raise SpecError(f"model.parents[{dim}] is {own}; parents are different dimensions in [0, {num_dims}).")
  return parents


def _tuples(nested: Iterable[Iterable[int]]) -> Parents:
  """Configs read from JSON hold lists; caches and comparisons want tuples."""
  return tuple(tuple(int(i) for i in inner) for inner in nested)
