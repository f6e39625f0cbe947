"""Finished runs of energy-based models multiplied: one whose energy is the weighted sum of theirs."""

from collections.abc import Iterator, Sequence

from gdm.energy.continuous.product import Product
from gdm.errors import ConfigError
from gdm.precision import at_highest_precision
from gdm.runs.load import load_run
from gdm.runs.plotting import draw_model
from gdm.runs.workdir import Workdir
from gdm.studies.composition import (
  composed_config,
  load_runs,
  require_free,
  require_same_spec,
  require_unseen,
  write_run,
)

ANNEALING = ("normalizer", "num_temperatures", "num_chains", "hmc_step_size", "num_leapfrog")


@at_highest_precision
def multiply_runs(place: str, paths: Sequence[str], weights_text: str = "") -> Iterator[str]:
  """Multiply the densities of runs in a workdir of its own, and draw its pictures; yield a line about each run.

  Args:
    place: the product's workdir, a fresh one or that of the same product.
    paths: workdirs of two finished runs or more; the first one's data and settings of annealing are the product's.
    weights_text: a positive weight of each run's energy, as "1,0.5"; all 1 for "".

  Raises:
    ConfigError: fewer than two runs, weights that are not as many numbers, or runs that cannot be multiplied.
    WorkdirError: a run is not finished, or the workdir holds something else.
  """
  workdir = Workdir(place)
  if len(paths) < 2:
    raise ConfigError(f"a product has two runs or more, but {len(paths)} are named.")
  weights = _weights(weights_text, len(paths))
  require_free(workdir, "product", paths)
  runs = load_runs(paths)
  require_same_spec(paths, runs)
  spec, components = runs[0].spec, tuple(run.model for run in runs)
  first = Product(spec, components=components, weights=weights).parts[0]
  require_unseen(paths, runs)
  settings = {field: getattr(first, field) for field in ANNEALING}
  model = Product(spec, components=components, weights=weights, **settings)
  params, carry = model.join([(run.params, run.carry) for run in runs])
  config = composed_config(runs, {"name": "product", "weights": weights, **settings})
  config.sampling = {field: value for field, value in config.sampling.items() if field != "start"}  # it has no chains
  if write_run(workdir, config, runs, model, params, carry):
    draw_model(load_run(workdir, {}, dataset=runs[0].dataset))
  else:
    yield f"{workdir.path} is finished already."
  for path, weight in zip(paths, weights, strict=True):
    yield f"{weight:g}  {path}"


def _weights(text: str, num: int) -> tuple[float, ...]:
  """Return a weight for each run. Raise ConfigError where the text is no list of so many numbers."""
  try:
    weights = tuple(float(part) for part in text.split(",")) if text else (1.0,) * num
  except ValueError:
    weights = ()
  if len(weights) != num:
    raise ConfigError(f"--weights is {text!r}; it must be {num} numbers, one for each run, as {','.join('1' * num)}.")
  return weights
