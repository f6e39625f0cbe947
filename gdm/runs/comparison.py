"""Samples of a run by one or several samplers, compared with a split of its data."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gdm.batches import given
from gdm.data.dataset import Dataset
from gdm.errors import ConfigError, DataError, SpecError
from gdm.evaluation.kernel_distance import (
  LEAST,
  DistanceEstimate,
  Gaussian,
  KernelDistance,
  KernelMoments,
  Scale,
  median_bandwidth,
)
from gdm.evaluation.quality import QualityRow, Yardstick
from gdm.runs.features import Features, find_features
from gdm.runs.sampling import draw_many, options_taken, sampling_options
from gdm.runs.trained import TrainedRun

DEFAULT_SAMPLERS = "ddim:20,ancestral:1000,dpm_solver:10"
MOST_DATA = 10_000  # examples of a split that samples are compared with


class SamplerChoice(NamedTuple):
  """A sampler and its number of steps; None of a model's one way to sample."""

  sampler: str | None
  steps: int | None

  @property
  def name(self) -> str:
    return "samples" if self.sampler is None else f"{self.sampler}:{self.steps}"


class ComparedSet(NamedTuple):
  """Examples or samples x [num, *event], their features, and labels [num] where they have some."""

  x: np.ndarray
  points: np.ndarray
  y: np.ndarray | None


class SampleComparison(NamedTuple):
  """Samples compared with data by kernels, and what further measures are taken of.

  Attributes:
    rows: a row for each sampler.
    floor: the row of other data of the same kind.
    reference: the name of the row that others are compared with.
    about: plain facts for a report.
    features: what all sets are compared on.
    samples: the samples by the names of their rows.
    data: of the split.
    other: of another split, the floor.
  """

  rows: tuple[QualityRow, ...]
  floor: QualityRow
  reference: str | None
  about: dict[str, Any]
  features: Features
  samples: dict[str, ComparedSet]
  data: ComparedSet
  other: ComparedSet


def parse_choices(text: str) -> tuple[SamplerChoice, ...]:
  """"ddim:20,ancestral:1000" as choices. Raise ConfigError where it is none, or names one twice."""
  choices = []
  for part in text.split(","):
    name, _, steps = part.strip().partition(":")
    if not name or not steps.isdecimal() or int(steps) < 1:
      raise ConfigError(f"--samplers has {part!r}; it must be <sampler>:<steps> with at least one step, several "
                        f"separated by commas, as {DEFAULT_SAMPLERS}.")
    choices.append(SamplerChoice(name, int(steps)))
  for choice in choices:
    if choices.count(choice) > 1:
      raise ConfigError(f"--samplers names {choice.name} twice.")
  return tuple(choices)


def choose(run: TrainedRun, samplers: str, reference: str) -> tuple[tuple[SamplerChoice, ...], SamplerChoice | None]:
  """Samplers to draw with, and the reference among them: by default the one of most steps, where there are several.

  Args:
    run: of a model that samples.
    samplers: as `parse_choices` takes them; "" for the usual ones of models that have samplers.
    reference: one of them, or "".

  Raises:
    ConfigError: a list is given and the model has one way to sample only, or the reference is not in it.
  """
  sampling_options(run)  # says whether it can sample at all
  if not {"sampler", "num_steps"} <= {*options_taken(run.model)}:
    for flag, value in (("samplers", samplers), ("reference", reference)):
      if value:
        raise ConfigError(f"--{flag} is {value!r}, but {run.config.model.name} has one way to sample; leave it out.")
    return (SamplerChoice(None, None),), None
  choices = parse_choices(samplers or DEFAULT_SAMPLERS)
  if not reference:
    return choices, max(choices, key=lambda choice: choice.steps or 0) if len(choices) > 1 else None
  named = [choice for choice in choices if choice.name == reference]
  if not named:
    raise ConfigError(f"--reference is {reference!r}; it must be one of --samplers: "
                      f"{', '.join(choice.name for choice in choices)}.")
  return choices, named[0]


def compare(run: TrainedRun, split: str, num: int, choices: Sequence[SamplerChoice], reference: SamplerChoice | None,
            tell: Callable[[str], None] = lambda text: None, features: str = "") -> SampleComparison:
  """Draw `num` samples by each choice, in batches of `evaluation.batch_size`, and take their distances from a split.

  `features` are pixels by default; see `gdm.runs.features.find_features`.

  Raises:
    ConfigError: `num` is too small, the sampler or an option is none of the model's, or there are no such features.
    DataError: the split is unknown, or has too few examples.
    SpecError: the data are text, or examples of several lengths, or the features are of another event.
  """
  if num < LEAST:
    raise ConfigError(f"--num is {num}; it must be at least {LEAST}.")
  dataset, options = run.dataset, sampling_options(run)
  # What else there is of the same kind.
  other = next(name for name in ("train", "test", "valid") if name != split and name in dataset.splits)
  data, train = spread_examples(dataset, split), spread_rows(dataset, "train")
  mapped = find_features(features, run, train)

  def compared(x: np.ndarray, y: np.ndarray | None) -> ComparedSet:
    return ComparedSet(x, mapped(x), y)

  data = compared(data["x"], data.get("y"))
  yardstick = Yardstick.of(mapped(train), data.points)
  samples: dict[str, ComparedSet] = {}
  drawn: list[tuple[QualityRow, dict[str, KernelMoments]]] = []
  for choice in choices:
    chosen = {} if choice.sampler is None else {"sampler": choice.sampler, "num_steps": choice.steps}
    if chosen:
      tell(f"drawing {num:,} samples by {choice.name}")
    found = draw_many(run, num, {**options, **chosen}, choice.name, run.config.evaluation.batch_size)
    if found.failure:
      tell(f"warning: samples by {choice.name} are not from the model: {found.failure}.")
    samples[choice.name] = compared(found.x, found.y)
    moments = yardstick.moments(samples[choice.name].points)
    row = QualityRow(choice.name, num, yardstick.squared(moments), None, choice.sampler, choice.steps, found.nfe,
                     found.samples_per_second)
    drawn.append((row, moments))
  floor_data = spread_examples(dataset, other, num)
  floor_set = compared(floor_data["x"], floor_data.get("y"))
  floor = QualityRow(f"{other} data", len(floor_set.x), yardstick.squared(yardstick.moments(floor_set.points)))
  rows = tuple(_beside(drawn, reference, yardstick))
  about = {"model": run.config.model.name, "dataset": dataset.name, "split": split, "num_data": len(data.x),
           "data_fingerprint": dataset.fingerprint(split), "step": run.step, "parameters": run.parameters,
           "features": {"name": mapped.name, "dims": data.points.shape[1], **mapped.about},
           "kernels": {"cubic": "(x.y / dims + 1)^3", "gaussian": f"bandwidth {yardstick.bandwidth:.6g}"},
           "options": options, "given": list(given(run.model)),
           "device": jax.devices()[0].device_kind}
  return SampleComparison(rows, floor, reference and reference.name, about, mapped, samples, data, floor_set)


def _beside(drawn: Sequence[tuple[QualityRow, dict[str, KernelMoments]]], reference: SamplerChoice | None,
            yardstick: Yardstick) -> Iterator[QualityRow]:
  """Return the rows, each but the reference with its difference from it."""
  others = {row.name: moments for row, moments in drawn}
  for row, moments in drawn:
    if reference is None or row.name == reference.name:
      yield row
    else:
      yield dataclasses.replace(row, difference=yardstick.difference(moments, others[reference.name]))


def distance_from_split(run: TrainedRun, x: np.ndarray, split: str) -> DistanceEstimate | None:
  """Return the squared kernel distance of examples [num, *event] from a split; None where it has too few."""
  try:
    data = spread_rows(run.dataset, split)
    scale = Scale.of(run.spec, data)
    kernel = KernelDistance(Gaussian(median_bandwidth(scale(data))), scale(data))
    return kernel.squared(kernel.moments(scale(x)))
  except DataError:  # fewer than four examples
    return None


def spread_rows(dataset: Dataset, split: str, most: int = MOST_DATA) -> np.ndarray:
  """x of `spread_examples`."""
  return spread_examples(dataset, split, most)["x"]


def spread_examples(dataset: Dataset, split: str, most: int = MOST_DATA) -> dict[str, np.ndarray]:
  """At most so many examples with their labels, spread over the split, since some are sorted by class."""
  rows = dataset.split(split)
  if dataset.tokenizer is not None or "length" in rows:
    raise SpecError(f"{dataset.name} is text; between tokens there is no distance that a kernel could be of.")
  if rows.num_examples < LEAST:
    raise DataError(f"{dataset.name} has {rows.num_examples} examples in {split}; it takes at least {LEAST}.")
  return rows.rows(np.linspace(0, rows.num_examples - 1, min(rows.num_examples, most)).astype(int))
