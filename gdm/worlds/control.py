"""Linear controllers, trained by an evolution strategy: CMA-ES of the package cma (Hansen, arXiv:1604.00772)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from gdm import checks
from gdm.extras import load_extra

# weights [population, parameters] -> score of each, the higher the better
Scores = Callable[[Float[np.ndarray, "population parameters"]], Float[np.ndarray, " population"]]


def num_parameters(dims: int, width: int) -> int:
  """Return how many weights a linear controller has: one for each dimension and action, and a bias of each action."""
  return (dims + 1) * width


def linear(weights: Float[np.ndarray, "*lead parameters"], observation: Float[np.ndarray, "*lead dims"]) -> Any:
  """Return actions [*lead, width], W observation + b; works with arrays of numpy and of JAX."""
  dims = observation.shape[-1]
  table = weights.reshape(*weights.shape[:-1], dims + 1, -1)
  return (observation[..., None] * table[..., :dims, :]).sum(axis=-2) + table[..., dims, :]


def evolve(scores: Scores, parameters: int, generations: int, population: int, seed: int) -> Float[np.ndarray, " _"]:
  """Return the weights to which CMA-ES comes: the mean of its distribution, at first zero with unit deviations.

  Args:
    scores: of a population, the higher the better; may be noisy.
    parameters: number of weights.
    generations: how many.
    population: candidates of each.
    seed: of its draws, above 0.

  Raise ConfigError where cma is missing or a number is out of range.
  """
  for name, value, least in (("generations", generations, 1), ("population", population, 2), ("seed", seed, 1)):
    checks.at_least(name, value, least)
  cma: Any = load_extra("cma", "worlds", "training of a controller")
  strategy = cma.CMAEvolutionStrategy(np.zeros(parameters), 1.0, {"popsize": population, "seed": seed, "verbose": -9})
  for _ in range(generations):
    candidates = np.stack(strategy.ask())
    strategy.tell(list(candidates), list(-np.asarray(scores(candidates), np.float64)))
  return np.asarray(strategy.result.xfavorite)
