"""A first state from another run's weights: what has the same name and shape is taken, the rest is initialized."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdm.errors import ConfigError
from gdm.model import Carry, Params, PyTree
from gdm.training.state import TrainState, averages_of

MOST_NAMED = 4  # arrays that a line of the summary names


class Taken(NamedTuple):
  """What a warm start took and left, as names of arrays.

  Attributes:
    taken: those that are as in the other run.
    other_shape: those of another shape or dtype there, which stay as initialized.
    absent: those that the other run lacks, which stay as initialized.
    unused: those of the other run that this model has not.
  """

  taken: tuple[str, ...]
  other_shape: tuple[str, ...]
  absent: tuple[str, ...]
  unused: tuple[str, ...]

  def in_words(self) -> str:
    """Return one line, and one for each kind of what was left."""
    parts = (("of another shape there, left as initialized", self.other_shape),
             ("absent there, left as initialized", self.absent), ("not used", self.unused))
    lines = [f"{len(self.taken)} arrays taken"]
    for words, names in parts:
      if names:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        lines.append(f"{len(names)} {words}: {', '.join(names[:MOST_NAMED])}{more}")
    return "; ".join(lines)


def warm_start(state: TrainState, params: Params, carry: Carry) -> tuple[TrainState, Taken]:
  """Return a first state with the weights of another run where they fit, and what was taken.

  Optimizers begin anew, and averages with the weights that were taken. Chains are not taken: they belong to a model's
  own training.

  Args:
    state: the state as initialized.
    params: the other run's parameters.
    carry: its carry, of which the statistics are taken.

  Raise ConfigError where nothing fits.
  """
  found = what_fits(state, params, carry)
  own, theirs = (_flat(averages_of(*each)) for each in ((state.params, state.carry), (params, carry)))
  chosen = {name: jax.device_put(theirs[name], leaf.sharding) if name in found.taken else leaf
            for name, leaf in own.items()}
  tree = averages_of(state.params, state.carry)
  merged = jax.tree.unflatten(jax.tree.structure(tree), list(chosen.values()))
  averages = jax.tree.map(jnp.copy, merged) if state.ema else {}
  return dataclasses.replace(state, params=merged["params"], carry={**state.carry, **merged["carry"]},
                             ema=averages), found


def what_fits(state: TrainState, params: Params, carry: Carry) -> Taken:
  """Return what `warm_start` would take and leave; the state may be one of shapes.

  Raise ConfigError where nothing fits.
  """
  own, theirs = (_flat(averages_of(*each)) for each in ((state.params, state.carry), (params, carry)))
  fits = {name: (leaf.shape, leaf.dtype) == (theirs[name].shape, theirs[name].dtype)
          for name, leaf in own.items() if name in theirs}
  found = Taken(tuple(name for name, fit in fits.items() if fit), tuple(name for name, fit in fits.items() if not fit),
                tuple(name for name in own if name not in theirs), tuple(name for name in theirs if name not in own))
  if not found.taken:
    raise ConfigError(f"no array of the other run fits this model: {found.in_words()}; name a run of a like model.")
  return found


def _flat(tree: PyTree) -> dict[str, jax.Array]:
  """Return the leaves by their names, in the tree's order."""
  return {jax.tree_util.keystr(place, simple=True, separator="/"): leaf
          for place, leaf in jax.tree_util.tree_leaves_with_path(tree)}
