"""Initial components of mixtures: a few examples of the data, far from each other."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jaxtyping import Array, Float, Key, Num

from gdm.baselines import examples
from gdm.dataspec import DataSpec
from gdm.model import Batch

# (points [num, dims], centre [dims]) -> [num]
SquaredDistance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def euclidean(points: Num[np.ndarray, "num dims"], centre: Num[np.ndarray, " dims"]) -> Float[np.ndarray, " num"]:
  """Squared Euclidean distance."""
  return np.square(points - centre).sum(axis=1, dtype=np.float64)


def hamming(points: Num[np.ndarray, "num dims"], centre: Num[np.ndarray, " dims"]) -> Float[np.ndarray, " num"]:
  """Return how many dimensions differ: half the squared Euclidean distance of the one-hot codes."""
  return (points != centre).sum(axis=1, dtype=np.float64)


def generator(key: Key[Array, ""]) -> np.random.Generator:
  """Return a NumPy generator that follows from a JAX key, for choices made on the host."""
  return np.random.default_rng(np.asarray(jax.random.key_data(key), np.uint32).tolist())


def subsample(key: Key[Array, ""], spec: DataSpec, batches: Iterable[Batch], size: int) -> Num[np.ndarray, "num dims"]:
  """Up to `size` examples drawn evenly without replacement, in one pass over data of any length.

  Every example gets a random rank and those of lowest rank stay (reservoir sampling by ranks).
  """
  rng = generator(key)
  kept, ranks = None, np.empty(0)
  for batch in batches:
    x = np.asarray(examples.flat(spec, batch))[np.asarray(examples.weights(batch)) > 0]
    kept = x if kept is None else np.concatenate([kept, x])
    ranks = np.concatenate([ranks, rng.random(len(x))])
    lowest = np.argsort(ranks)[:size]
    kept, ranks = kept[lowest], ranks[lowest]
  if kept is None:
    raise examples.no_batch()
  return kept


def spread_out(key: Key[Array, ""], points: Num[np.ndarray, "num dims"], num_centres: int,
               squared_distance: SquaredDistance) -> Num[np.ndarray, "centres dims"]:
  """Some of the points, each drawn with probability proportional to its squared distance to those before.

  Arthur and Vassilvitskii, k-means++, 2007, section 2.2. Where there are not enough different points, some repeat.
  """
  rng = generator(key)
  centres = [points[rng.integers(len(points))]]
  nearest = np.full(len(points), np.inf)
  for _ in range(num_centres - 1):
    nearest = np.minimum(nearest, squared_distance(points, centres[-1]))
    total = nearest.sum()
    chosen = rng.choice(len(points), p=nearest / total) if total > 0 else rng.integers(len(points))
    centres.append(points[chosen])
  return np.stack(centres)
