"""Expectation maximization over batches: the statistics of the E-step are summed over the data, the M-step is exact.

Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm, 1977.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from gdm.baselines import examples
from gdm.dataspec import DataSpec
from gdm.errors import NotFiniteError, SpecError
from gdm.model import Batch, PyTree

Report = Callable[[int, Mapping[str, float]], None]


class EMSteps(NamedTuple):
  """The part of EM that depends on the mixture.

  Attributes:
    start: key -> parameters to begin from; random, so that restarts differ.
    expect: (x [batch, dims], weight [batch], params) -> summed statistics, among them "nats", the log-likelihood, and
      "count", the number of examples. Pure; it is compiled.
    maximize: (statistics, params) -> the parameters that maximize the expected log-posterior.
    log_prior: params -> log-density of the prior up to a constant, in nats; 0 for maximum likelihood.
    revise: (iteration, statistics, params) -> parameters changed beyond EM (a component removed, the prior moved), from
      which the M-step goes on, or None. What comes after is another objective, which may begin higher.
  """

  start: Callable[[Key[Array, ""]], PyTree]
  expect: Callable[..., PyTree]
  maximize: Callable[[PyTree, PyTree], PyTree]
  log_prior: Callable[[PyTree], float]
  revise: Callable[[int, PyTree, PyTree], PyTree | None] = lambda iteration, statistics, params: None


class EMSchedule(NamedTuple):
  """When EM stops.

  Attributes:
    num_restarts: random starts; the best after `restart_iterations` goes on.
    restart_iterations: iterations of each start (short runs: Biernacki, Celeux and Govaert, 2003).
    num_iterations: iterations in all of the run that goes on.
    tolerance: it stops once an iteration gains less than this many nats per example.
  """

  num_restarts: int
  restart_iterations: int
  num_iterations: int
  tolerance: float

  def check(self) -> "EMSchedule":
    """Itself; raises a SpecError where a field cannot be used."""
    for name in ("num_restarts", "restart_iterations", "num_iterations"):
      if getattr(self, name) < 1:
        raise SpecError(f"model.{name} is {getattr(self, name)}; it must be at least 1.")
    return self


def fit(key: Key[Array, ""], steps: EMSteps, schedule: EMSchedule, spec: DataSpec, batches: Iterable[Batch],
        report: Report | None = None) -> PyTree:
  """Return the parameters that EM finds.

  `report(iteration, {"nll", "objective"})` follows the run that goes on, before each M-step and after the last, in
  nats per example. The objective, minus log-posterior per example, never rises; without a prior it is the nll.

  Raises:
    NotFiniteError: the likelihood became NaN or infinite.
  """
  steps = steps._replace(expect=jax.jit(steps.expect))
  best = None
  for start_key in jax.random.split(key, schedule.num_restarts):
    history: list[Mapping[str, float]] = []
    params = run(steps, steps.start(start_key), spec, batches, schedule.restart_iterations, schedule.tolerance,
                 lambda _, metrics, history=history: history.append(metrics))
    if best is None or history[-1]["objective"] < best[1][-1]["objective"]:
      best = (params, history)
  assert best is not None
  params, history = best
  report = report or (lambda iteration, metrics: None)
  for iteration, metrics in enumerate(history[:-1]):  # the last is the first of what follows
    report(iteration, metrics)
  done = len(history) - 1
  return run(steps, params, spec, batches, max(schedule.num_iterations - done, 0), schedule.tolerance,
             lambda iteration, metrics: report(done + iteration, metrics))


def run(steps: EMSteps, params: PyTree, spec: DataSpec, batches: Iterable[Batch], num_iterations: int, tolerance: float,
        report: Report) -> PyTree:
  """One run of EM from `params`, as `fit` makes several of; `steps.expect` should be compiled."""
  previous, before = np.inf, params
  for iteration in range(num_iterations + 1):
    statistics = examples.accumulate(spec, steps.expect, batches, params)
    nats, count = float(statistics["nats"]), float(statistics["count"])
    objective = -(nats + steps.log_prior(params)) / count
    if not np.isfinite(objective):
      raise NotFiniteError(f"the log-likelihood is {nats / count} nats per example at EM iteration {iteration}.")
    if objective > previous:  # only rounding can do that, at the maximum
      return before
    report(iteration, {"nll": -nats / count, "objective": objective})
    revised = steps.revise(iteration, statistics, params) if iteration < num_iterations else None
    if revised is not None:
      previous, params = np.inf, steps.maximize(statistics, revised)
      continue
    if iteration == num_iterations or previous - objective < tolerance:
      break
    previous, before = objective, params
    params = steps.maximize(statistics, params)
  return params
