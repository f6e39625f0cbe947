"""Records of chains along their way: numbers of each state by which one sees whether chains agree.

log f alone does not show chains that are stuck in modes of the same height: two modes of an Ising model that are each
other's mirror image have the same energies. The mean of x, and its projection on the direction in which states differ
most, do.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

_ITERATIONS = 30  # of the power method; the direction need not be exact

Watch = Callable[[Num[Array, "chains *event"]], dict[str, Float[Array, " chains"]]]


def watch(places: Num[Array, "places *event"]) -> Watch:
  """Return the function from states to "mean" and "component", by what `places` differ in.

  Args:
    places: states of all chains, of all modes that are known of.
  """
  flat = places.reshape(len(places), -1).astype(jnp.result_type(float))
  centre, direction = jnp.mean(flat, axis=0), first_component(flat)

  def values(x):
    x = x.reshape(len(x), -1).astype(flat.dtype)
    return {"mean": jnp.mean(x, axis=1), "component": (x - centre) @ direction}

  return values


def first_component(x: Float[Array, "places dims"]) -> Float[Array, " dims"]:
  """Return the unit vector along which x varies most, by the power method; zeros where x does not vary."""
  centred = x - jnp.mean(x, axis=0)
  begin = centred[jnp.argmax(jnp.sum(jnp.square(centred), axis=1))]  # has a share in it

  def unit(vector):
    length = jnp.linalg.norm(vector)
    return jnp.where(length > 0.0, vector / jnp.where(length > 0.0, length, 1.0), 0.0)

  return jax.lax.fori_loop(0, _ITERATIONS, lambda _, vector: unit(centred.T @ (centred @ vector)), unit(begin))
