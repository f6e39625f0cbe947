"""Gibbs sampling of binary states, by blocks or site by site. Knows no model; every proposal is accepted."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

Kernel = Callable[[Key[Array, ""], Num[Array, "*shape"]], Num[Array, "*shape"]]


def block_sweep(key: Key[Array, ""], x: Num[Array, "*shape"],
                draw_hidden: Callable[[Key[Array, ""], Array], Array],
                draw_visible: Callable[[Key[Array, ""], Array], Num[Array, "*shape"]],
                known: Bool[Array, "*shape"] | Bool[Array, " dims"] | None = None) -> Num[Array, "*shape"]:
  """Draw all hidden units given x, then x given them; a reversible kernel of x.

  Args:
    key: of this sweep.
    x: the visible units.
    draw_hidden: (key, x) -> hidden.
    draw_visible: (key, hidden) -> x.
    known: visible units that stay as they are, so that the others are drawn given them.
  """
  hidden_key, visible_key = jax.random.split(key)
  drawn = draw_visible(visible_key, draw_hidden(hidden_key, x))
  return drawn if known is None else jnp.where(known, x, drawn)


def site_sweep(key: Key[Array, ""], x: Num[Array, "*lead sites"],
               logit: Callable[[Num[Array, "*lead sites"], Int[Array, ""]], Float[Array, "*lead"]],
               known: Bool[Array, " sites"] | None = None) -> Num[Array, "*lead sites"]:
  """Draw each binary site given all others, from the first to the last and back: a reversible kernel.

  Args:
    key: of this sweep.
    x: states in {0, 1}.
    logit: (x, site) -> log-odds of a one there, given the other sites.
    known: sites that stay as they are, so that the others are drawn given them.
  """
  num_sites = x.shape[-1]
  order = jnp.concatenate([jnp.arange(num_sites), jnp.arange(num_sites)[::-1]])

  def visit(x, indexed):
    index, site = indexed
    drawn = jax.random.bernoulli(jax.random.fold_in(key, index), jax.nn.sigmoid(logit(x, site))).astype(x.dtype)
    if known is not None:
      drawn = jnp.where(known[site], x[..., site], drawn)
    return x.at[..., site].set(drawn), None

  return jax.lax.scan(visit, x, (jnp.arange(2 * num_sites), order))[0]


def repeat(kernel: Kernel, key: Key[Array, ""], x: Num[Array, "*shape"], num_steps: int) -> Num[Array, "*shape"]:
  """Apply a kernel `num_steps` times in one compiled loop; step i's key is `fold_in(key, i)`."""
  if num_steps == 1:  # what contrastive divergence mostly asks for: nothing to loop over
    return kernel(jax.random.fold_in(key, 0), x)

  def step(x, index):
    return kernel(jax.random.fold_in(key, index), x), None

  return jax.lax.scan(step, x, jnp.arange(num_steps))[0]
