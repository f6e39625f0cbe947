"""The total probability of a space that is small enough to be gone through: the truth that every likelihood rests on.

A trained model's space is far too large. A twin of it is not: a model of the same settings, of data as small as they
let it be, with parameters as far from their start. The same code scores both.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm.dataspec import DataSpec
from gdm.errors import SpecError, UserError
from gdm.likelihood import Kind
from gdm.model import Carry, HasLogLikelihood, HasSolve, Model, Params

MAX_STATES = 1 << 13
DRAWS = 200  # of a noisy score
_EDGE, _STEP = 12.0, 0.15  # of a grid of the plane


class Mass(NamedTuple):
  """The sum of probabilities over a space.

  Attributes:
    total: of exp(nats), the mean over draws.
    noise: four standard errors of it.
    kind: of the likelihoods.
    spec: the space.
    may_be: what the total may be at most.
  """

  total: float
  noise: float
  kind: Kind
  spec: DataSpec
  may_be: float

  @property
  def holds(self) -> bool:
    """Whether the total is one where the likelihood is exact, and at most one where it is a lower bound."""
    if self.kind is Kind.EXACT:
      return abs(self.total - 1.0) <= self.may_be - 1.0
    return self.total <= self.may_be + self.noise


def small_twin(build: Callable[[DataSpec], Model], spec: DataSpec) -> Model:
  """Return the model of the smallest space that its settings allow, among those like the data's.

  Raise SpecError, with what the model says of the last of them, where none is small enough.
  """
  why = "; none is tried of blocks, of real numbers on several axes, and of vectors in sequences of several lengths"
  for small in _small_specs(spec):
    try:
      model = build(small)
      if not isinstance(model, HasSolve):
        jax.eval_shape(model.init, jax.random.key(0), _examples(small, 8))
      return model
    except (UserError, ValueError, TypeError) as error:  # too small for the settings: a stride, a squeeze, a head
      why = f": of shape {small.event}, {error}"
  raise SpecError(f"no space is small enough for these settings{why}")


def total_mass(model: Model, seed: int = 0) -> Mass | None:
  """Return the total probability of all states of a model's space; None where the number promises nothing of it.

  Parameters are drawn, so that nothing holds because of where training starts. Estimates promise nothing, and a class
  or context is the first one.
  """
  if not isinstance(model, HasLogLikelihood):
    return None
  spec = model.spec
  params, carry = _parameters(model, seed)
  x, volume = _space(spec)
  batch = {"x": jnp.asarray(x), **_conditions(spec, len(x))}
  seen = []

  def score(params, carry, batch, key):
    found = model.log_likelihood(params, carry, batch, key)
    seen.append(found)
    return found.nats

  jax.eval_shape(score, params, carry, batch, jax.random.key(0))
  kind = seen[0].kind
  if kind not in (Kind.EXACT, Kind.LOWER_BOUND):
    return None
  keys = jax.random.split(jax.random.key(seed + 1), 1 if kind is Kind.EXACT else DRAWS)
  nats = np.asarray(jax.jit(lambda keys: jax.lax.map(lambda key: score(params, carry, batch, key), keys))(keys),
                    np.float64)
  total, noise = _totals(nats, volume, seen[0].is_mixable)
  return Mass(total, noise, kind, spec, 1.0 + (1e-3 if spec.is_discrete else 0.02))


def _parameters(model: Model, seed: int) -> tuple[Params, Carry]:
  """Return parameters away from their start, or fitted to random examples where they are solved."""
  rng, examples = np.random.default_rng(seed), _examples(model.spec, 64)
  if isinstance(model, HasSolve):
    return model.solve(jax.random.key(seed), [examples])
  params, carry = jax.jit(model.init)(jax.random.key(seed), examples)
  scale = 0.3 if model.spec.is_discrete else 0.1
  moved = {group for objective in model.objectives for group in objective.groups}
  return {name: jax.tree.map(lambda leaf: leaf + scale * rng.normal(size=leaf.shape).astype(leaf.dtype), tree)
          if name in moved else tree for name, tree in params.items()}, carry


def _totals(nats: Float[np.ndarray, "draws states"], volume: float, mixable: bool) -> tuple[float, float]:
  """Return the total, and four standard errors: of exp(nats) where its expectation is a probability, else of the exp
  of their mean."""
  if mixable:
    sums = volume * np.exp(nats).sum(axis=1)
    return float(sums.mean()), float(4 * sums.std() / math.sqrt(len(sums)))
  mean, spread = nats.mean(axis=0), nats.std(axis=0) / math.sqrt(len(nats))
  return float(volume * np.exp(mean).sum()), float(4 * volume * (np.exp(mean) * spread).sum())


def _small_specs(spec: DataSpec) -> Iterator[DataSpec]:
  """Smallest first, of as many axes as the data has."""
  if spec.blocks or (spec.has_lengths and len(spec.event) > 1):
    return
  if not spec.is_discrete:
    if len(spec.event) == 1:
      yield dataclasses.replace(spec, event=(2,))
    return
  channels = spec.event[2] if len(spec.event) == 3 else 1
  sides = [(2, 2, channels), (3, 3, channels), (4, 4, channels)] if spec.is_image else [
      (*(1,) * (len(spec.event) - 1), size) for size in (3, 4, 6, 8)]
  for event, levels in itertools.product(sides, (3, 2)):
    if levels <= (spec.levels or 2) and levels ** math.prod(event) <= MAX_STATES * (4 if levels == 2 else 1):
      yield dataclasses.replace(spec, event=event, levels=levels, has_lengths=False)


def _space(spec: DataSpec) -> tuple[np.ndarray, float]:
  """Return every state, or a grid of the plane, and the volume of each."""
  if spec.is_discrete:
    num = math.prod(spec.event)
    states = np.indices((spec.require_discrete("a sum over states"),) * num).reshape(num, -1).T
    return states.reshape(-1, *spec.event).astype(np.int32), 1.0
  axis = np.arange(-_EDGE, _EDGE, _STEP, dtype=np.float32) + _STEP / 2
  return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2), _STEP**2


def _examples(spec: DataSpec, num: int) -> dict[str, Array]:
  rng = np.random.default_rng(0)
  x = rng.integers(0, spec.levels, (num, *spec.event)) if spec.is_discrete else rng.normal(size=(num, *spec.event))
  # Of all classes: what is fitted to them must have seen each.
  labels = {"y": jnp.arange(num, dtype=jnp.int32) % spec.num_classes} if spec.num_classes else {}
  return {"x": jnp.asarray(x, jnp.int32 if spec.is_discrete else jnp.float32), **_conditions(spec, num), **labels}


def _conditions(spec: DataSpec, num: int) -> dict[str, Array]:
  labels = {"y": jnp.zeros(num, jnp.int32)} if spec.num_classes else {}
  context = {"context": jnp.zeros((num, spec.context_dims))} if spec.context_dims else {}
  prefix = {"prefix": jnp.ones((num, spec.prefix_steps), jnp.int32)} if spec.prefix_steps else {}
  return {**labels, **context, **prefix}
