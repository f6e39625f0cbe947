"""Multiplies the densities of finished runs, by the sum of their energies.

  python -m experiments.compose --workdir=runs/both runs/left runs/right [--weights=1,1]

log f(x) = sum_i w_i log f_i(x), of energy-based models of real numbers (ebm, jem, tilted) on data of the same kind, say
of the same size: what one run knows of one thing and another of another, the product knows of both. So the runs' data
may differ; but no run may have been trained on validation or test examples of the first, whose data, settings of
annealing and way of scoring the product keeps. The result is a workdir like any other, with its pictures: evaluate,
sample and leaderboard take it.
"""

from collections.abc import Sequence

from absl import flags

from experiments import cli
from gdm.energy.continuous.product import Product
from gdm.errors import ConfigError
from gdm.runs.composition import (
  composed_config,
  load_runs,
  require_free,
  require_same_spec,
  require_unseen,
  write_run,
)
from gdm.runs.load import load_run
from gdm.runs.plotting import draw_model
from gdm.runs.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the product; made if absent.")
_WEIGHTS = flags.DEFINE_string("weights", "", "A positive weight of each run's energy, as 1,0.5; all 1 by default.")

ANNEALING = ("normalizer", "num_temperatures", "num_chains", "hmc_step_size", "num_leapfrog")


def main(argv: Sequence[str]) -> None:
  workdir = Workdir(cli.require_flag("workdir"))
  paths = argv[1:]
  if len(paths) < 2:
    raise ConfigError(f"a product has two runs or more, but {len(paths)} are named.")
  weights = _weights(len(paths))
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
    print(f"{workdir.path} is finished already.")
  for path, weight in zip(paths, weights, strict=True):
    print(f"{weight:g}  {path}")


def _weights(num: int) -> tuple[float, ...]:
  """Return a weight for each run. Raise ConfigError where the flag is no list of so many numbers."""
  text = _WEIGHTS.value
  try:
    weights = tuple(float(part) for part in text.split(",")) if text else (1.0,) * num
  except ValueError:
    weights = ()
  if len(weights) != num:
    raise ConfigError(f"--weights is {text!r}; it must be {num} numbers, one for each run, as {','.join('1' * num)}.")
  return weights


if __name__ == "__main__":
  cli.run(main)
