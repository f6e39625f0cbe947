"""A small model of three levels, and its probabilities by enumeration of all sets of masks."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from helpers.enumeration import all_states

from gdm.dataspec import DataSpec
from gdm.discrete_diffusion import MaskedModel, Orders, Perceptron

LEVELS = 3


@functools.cache
def parameters(dims):
  """Parameters of the network below, far from where they start."""
  params, _ = MaskedModel(DataSpec((dims,), LEVELS), Orders(), Perceptron(hidden=(8,))).init(jax.random.key(0), {})
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda leaf: leaf + rng.normal(0.0, 0.5, leaf.shape).astype(np.float32), params)


def small(dims, masking=None, **fields):
  """A model of `dims` dimensions with those parameters."""
  return MaskedModel(DataSpec((dims,), LEVELS), masking or Orders(), Perceptron(hidden=(8,)), **fields)


@functools.cache
def conditionals(dims):
  """All states [states, dims], and log p(x_i | x on a set) of each dimension: a mapping from sets to [states, dims]."""
  model, params, x = small(dims), parameters(dims), all_states(LEVELS, dims)
  log_probs = jax.jit(model.log_probs)
  found = {}
  for known in itertools.product((False, True), repeat=dims):
    given = log_probs(params, jnp.where(np.array(known), x, LEVELS))
    found[known] = np.asarray(jnp.take_along_axis(given, x[..., None], axis=-1)[..., 0], np.float64)
  return x, found


def bound(dims, weight_of_mask):
  """Minus the bound of all states: sum over sets of masks of `weight_of_mask(num)` times the nats of what they hide."""
  _, found = conditionals(dims)
  return sum(weight_of_mask(dims - sum(known)) * -(given * ~np.array(known)).sum(axis=1)
             for known, given in found.items() if not all(known))


def orders_bound(dims):
  """The bound of order-agnostic models by its definition: k masks with weight 1 / k, each set of k alike."""
  return -bound(dims, lambda num: 1.0 / num / math.comb(dims, num))


def steps_bound(dims, schedule, num_steps):
  """The bound of T steps by its definition (arXiv:2107.03006, appendix A.3)."""
  m = np.asarray(schedule.mask_prob(jnp.arange(num_steps + 1) / num_steps), np.float64)

  def weight(num):
    return sum((t - s) / t * t**num * (1.0 - t) ** (dims - num) for s, t in itertools.pairwise(m))

  return -bound(dims, weight)


def one_by_one(dims, first=()):
  """log p of what is not in `first`, given it, of all states: its dimensions unmasked one at a time in any order."""
  start = tuple(i in first for i in range(dims))

  @functools.cache
  def log_f(known):
    if known == start:
      return np.zeros(LEVELS**dims)
    last = [i for i in range(dims) if known[i] and not start[i]]
    before = [tuple(k and j != i for j, k in enumerate(known)) for i in last]
    terms = [log_f(each) + conditionals(dims)[1][each][:, i] for i, each in zip(last, before, strict=True)]
    return np.logaddexp.reduce(terms, axis=0) - math.log(len(last))

  return log_f((True,) * dims)


def in_steps(dims, schedule, num_steps):
  """log p of all states under the model of T steps: at each, every mask is replaced independently."""
  m = np.asarray(schedule.mask_prob(jnp.arange(num_steps + 1) / num_steps), np.float64)
  sets = list(itertools.product((False, True), repeat=dims))
  log_f = {known: np.full(LEVELS**dims, 0.0 if not any(known) else -np.inf) for known in sets}
  for s, t in reversed(list(itertools.pairwise(m))):
    share, new = (t - s) / t, {}
    for after in sets:
      terms = [np.full(LEVELS**dims, -np.inf)]
      for before in sets:
        if all(b <= a for b, a in zip(before, after, strict=True)):
          fresh = np.array(after) & ~np.array(before)
          with np.errstate(divide="ignore"):
            left = (dims - sum(after)) * np.log1p(-share) if sum(after) < dims else 0.0
            chance = fresh.sum() * np.log(share) + left
          terms.append(log_f[before] + chance + conditionals(dims)[1][before][:, fresh].sum(axis=1))
      new[after] = np.logaddexp.reduce(terms, axis=0)
    log_f = new
  return log_f[(True,) * dims]
