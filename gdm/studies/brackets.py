"""A run's likelihood bracketed: both ends against the number of temperatures, as lines, in a file and as a picture."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np

from gdm import checks
from gdm import mesh as meshes
from gdm.batches import padded_size
from gdm.data.loader import eval_batches
from gdm.errors import ConfigError
from gdm.evaluation.bracket import evaluate_bracket
from gdm.evaluation.intervals import Interval, mean_half, plus_minus
from gdm.evaluation.likelihood import evaluate_likelihood, normalizer_kinds
from gdm.likelihood import Kind
from gdm.model import HasSimulatedBracket, HasUnnormalized
from gdm.precision import at_highest_precision, highest_precision
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import write_json
from gdm.training.streams import stream_key
from gdm.visualization.bracket import save_bracket


@at_highest_precision
def bracket_run(run: TrainedRun, numbers: Sequence[int], split: str = "test", num: int = 100) -> Iterator[str]:
  """Bracket the likelihood of a split, in nats, by each number of temperatures; yield a line for each.

  Writes `bracket.json` and `bracket.png` into the run's folder at the end.

  Args:
    run: of an energy model; or of a latent-variable model, whose simulated examples are bracketed.
    numbers: of temperatures, rising.
    split: the split; of no account to simulated examples.
    num: how many examples are simulated.

  Raise ConfigError where the model has no such ends, or fewer than two examples are simulated.
  """
  if isinstance(run.model, HasSimulatedBracket):
    yield from _simulated(run, run.model, numbers, num)
    return
  mesh, settings = meshes.make_mesh(), run.config.evaluation
  params, carry = meshes.replicate(run.params, mesh), meshes.replicate(run.carry, mesh)
  key = stream_key(jax.random.key(run.config.seed), f"bracket/{split}", run.step)

  def batches() -> Iterable[Mapping[str, np.ndarray]]:
    size = padded_size(run.dataset.num_examples(split), settings.batch_size)
    return eval_batches(run.dataset, split, meshes.round_up(mesh, size))

  brackets = []
  for number in numbers:
    bracket = evaluate_bracket(run.model, params, carry, batches, number, key=key, num_samples=settings.num_samples,
                               mesh=mesh)
    brackets.append(bracket)
    yield bracket.line
  exact = None
  if _is_exact(run):
    found = evaluate_likelihood(run.model, params, carry, batches(), key=key, mesh=mesh)
    exact = found.nats_mean if found.kind is Kind.EXACT else None  # a grid may be too coarse
    yield f"{found.kind}: {found.nats_mean:.4f} nats"
  write_json(run.folder / "bracket.json", {
      "model": run.config.model.name, "dataset": run.dataset.name, "split": split, "step": run.step,
      "data_fingerprint": run.dataset.fingerprint(split), "parameters": run.parameters,
      "num_samples": settings.num_samples, "exact": exact, "points": [bracket.to_json() for bracket in brackets]})
  save_bracket(run.folder / "bracket.png", numbers,
               np.array([bracket.pessimistic.nats_mean for bracket in brackets]),
               np.array([bracket.optimistic.nats_mean for bracket in brackets]),
               np.array([bracket.optimistic.normalizer_halves for bracket in brackets]).T,
               has_upper_end=all(bracket.has_upper_end for bracket in brackets), exact=exact,
               title=f"{run.config.model.name} on {run.dataset.name}, {split}")


def _simulated(run: TrainedRun, model: HasSimulatedBracket, numbers: Sequence[int], num: int) -> Iterator[str]:
  """Bracket log p of examples that the model draws; the same ones for every number of temperatures."""
  checks.at_least("--num", num, 2)
  key, points = stream_key(jax.random.key(run.config.seed), "bracket/simulated", run.step), []
  for number in numbers:
    with highest_precision():
      lower, upper = (np.asarray(end, np.float64) for end in jax.jit(model.simulated_bracket, static_argnums=(3, 4))(
          run.params, run.carry, key, num, number))
    points.append({"num_temperatures": number, "lower_nats": lower.mean(), "upper_nats": upper.mean()})
    width, half = float((upper - lower).mean()), mean_half(upper - lower) or 0.0
    yield (f"{number} temperatures: log p between {lower.mean():.4f} and {upper.mean():.4f} nats, "
           f"{plus_minus(width, Interval.around(width, half, half))} (95 %) apart, over {num} simulated examples")
  write_json(run.folder / "bracket.json", {
      "model": run.config.model.name, "dataset": run.dataset.name, "split": "simulated", "step": run.step,
      "parameters": run.parameters, "num_examples": num, "points": points})
  save_bracket(run.folder / "bracket.png", numbers, np.array([point["lower_nats"] for point in points]),
               np.array([point["upper_nats"] for point in points]), np.zeros((2, len(points))), has_upper_end=True,
               exact=None, title=f"{run.config.model.name} on its own samples ({run.dataset.name})",
               names=("annealed to the posterior: a lower bound of log p",
                      "annealed back from it: an upper bound of log p"))


def _is_exact(run: TrainedRun) -> bool:
  """Return whether the model knows its partition function; only shapes are computed."""
  if not isinstance(run.model, HasUnnormalized):
    return False
  return Kind.EXACT in normalizer_kinds(run.model, run.params, run.carry, jax.random.key(0))


def parse_numbers(texts: Sequence[str]) -> list[int]:
  """Return rising numbers of temperatures. Raise ConfigError, naming --temperatures, for other texts."""
  numbers = [int(text) for text in texts if text.isdecimal()]
  if not numbers or len(numbers) < len(texts) or numbers[0] < 1 or any(a >= b for a, b in itertools.pairwise(numbers)):
    raise ConfigError(f"--temperatures is {','.join(texts)!r}; it must be rising whole numbers of at least 1, as "
                      "100,1000.")
  return numbers
