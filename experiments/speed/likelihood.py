"""Examples/s of the evaluator over a whole split, host transfers and sums included."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, rates, summary
from gdm.data.dataset import Dataset
from gdm.data.loader import eval_batches
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.runs.registry import build_model


@dataclasses.dataclass(frozen=True)
class Size:
  """The split, the batch, hidden units of MADE and NADE."""

  split: str = "test"
  batch: int = 500
  hidden: int = 500


SIZES = {FULL: Size(), QUICK: Size(split="valid"), TINY: Size(split="valid", batch=5, hidden=3)}


def run(settings: Settings) -> list[Row]:
  size, dataset = SIZES[settings.size], settings.dataset()
  models: Mapping[str, dict[str, Any]] = {
      "FVSBN": {"name": "fvsbn"},
      f"NADE-{size.hidden}": {"name": "nade", "hidden": size.hidden},
      f"MADE-{size.hidden}": {"name": "made", "network": {"hidden": (size.hidden,)}},
  }
  calls = {name: _scorer(fields, dataset, size) for name, fields in models.items()}
  num = dataset.num_examples(size.split)
  how = f"evaluate_likelihood of the {num:,} of the {size.split} split, batch {size.batch}"
  return [summary(f"{name}: log-likelihood", rates(times, num), "examples/s", how)
          for name, times in alternate(calls, settings.repeats).items()]


def _scorer(fields: dict[str, Any], dataset: Dataset, size: Size) -> Callable[[], float]:
  model, key = build_model(fields, dataset.spec), jax.random.key(0)
  params, carry = jax.jit(model.init)(key, dataset.split("train").rows(slice(0, 100)))
  return lambda: evaluate_likelihood(model, params, carry, eval_batches(dataset, size.split, size.batch),
                                     key=key).nats_mean
