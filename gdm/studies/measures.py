"""Further measures of samples beside kernel distances: each a table of samplers and the floor, other data."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gdm import checks
from gdm.data.dataset import Modes
from gdm.data.sources.chosen_labels import parts_of
from gdm.errors import ConfigError, DataError
from gdm.evaluation import quality_tables
from gdm.evaluation.distances import Neighbours, nearest
from gdm.evaluation.frechet import frechet_distance
from gdm.evaluation.histograms import distinct, divergence
from gdm.evaluation.intervals import Measured
from gdm.evaluation.manifolds import manifold_scores
from gdm.evaluation.memorization import copy_test
from gdm.evaluation.modes import count_modes
from gdm.evaluation.quality_tables import plain
from gdm.precision import at_highest_precision
from gdm.runs.comparison import ComparedSet, SampleComparison
from gdm.runs.trained import TrainedRun
from gdm.studies.labels import Labeler, accuracy

FRECHET, MANIFOLDS, MODES, LABELS, MEMORIZATION = "frechet", "manifolds", "modes", "labels", "memorization"
MEASURES = (FRECHET, MANIFOLDS, MODES, LABELS, MEMORIZATION)
NEIGHBOURS = 3  # nearest training examples that are shown of a sample
MAX_FRECHET_DIMS = 2048  # as many as Inception has: roots of larger matrices take minutes each
_SEED = 20261202  # of the halves of held-out data


class MeasureTable(NamedTuple):
  """A measure of all samplers.

  Attributes:
    name: one of `MEASURES`.
    text: a table, or why there is none.
    contents: the same for JSON: "rows" by name, the floor among them, and facts; or "left_out", why.
  """

  name: str
  text: str
  contents: dict[str, Any]


class FurtherMeasures(NamedTuple):
  """Tables of all measures; and the nearest training examples of the first sampler's samples, where they were sought.
  """

  tables: tuple[MeasureTable, ...]
  neighbours: Neighbours | None


class MeasureChoice(NamedTuple):
  """Measures to take, of `MEASURES`, and whether they were asked for by name: then what cannot be taken is an error."""

  names: tuple[str, ...]
  by_name: bool


def choose_measures(text: str, run: TrainedRun, has_classifier: bool) -> MeasureChoice:
  """Return the measures that "frechet,modes" names; of "" all that the data and the flags allow.

  Raise ConfigError where one is unknown, or needs what is not there.
  """
  names = tuple(part.strip() for part in text.split(",") if part.strip())
  for name in names:
    checks.one_of("--measures", name, MEASURES)
  if LABELS in names and not has_classifier:
    raise ConfigError("--measures has labels, which a classifier tells; name its run by --classifier=<workdir>.")
  if MODES in names and run.dataset.modes is None:
    raise ConfigError(f"--measures has modes, but {run.data.name} is no mixture whose modes are known, as "
                      "toy2d:grid is; leave it out.")
  possible = {LABELS: has_classifier, MODES: run.dataset.modes is not None}
  return MeasureChoice(names or tuple(name for name in MEASURES if possible.get(name, True)), bool(names))


@at_highest_precision
def measure(run: TrainedRun, found: SampleComparison, choice: MeasureChoice, labeler: Labeler | None = None
            ) -> FurtherMeasures:
  """Take further measures of the samples of a comparison.

  Args:
    run: the run whose samples they are.
    found: samples, data and features.
    choice: which measures; where data are too few for one that was not asked for by name, its table says so.
    labeler: tells labels.

  Raise DataError where data or samples are too few for a measure that was asked for by name.
  """
  tables, neighbours = [], None
  for name in choice.names:
    try:
      if name == MEMORIZATION:
        table, neighbours = _memorization(run, found)
      elif name == LABELS and labeler is not None:
        table = _labels(run, found, labeler)
      elif name == MODES and run.dataset.modes is not None:
        table = _modes(run.dataset.modes, found)
      else:
        table = _FROM_POINTS[name](found)
    except DataError as error:
      if choice.by_name:
        raise
      table = MeasureTable(name, f"{name}: left out. {error}", {"left_out": str(error)})
    tables.append(table)
  return FurtherMeasures(tuple(tables), neighbours)


def _frechet(found: SampleComparison) -> MeasureTable:
  dims = found.data.points.shape[1]
  if dims > MAX_FRECHET_DIMS:
    raise DataError(f"{dims} features are too many for a Frechet distance, at most {MAX_FRECHET_DIMS}; choose features "
                    "of fewer dimensions by --features.")
  rows = {name: frechet_distance(each.points, found.data.points) for name, each in _sets(found)}
  return MeasureTable(FRECHET, quality_tables.frechet_table(rows), {"rows": plain(rows)})


def _manifolds(found: SampleComparison) -> MeasureTable:
  rows = {name: manifold_scores(each.points, found.data.points) for name, each in _sets(found)}
  return MeasureTable(MANIFOLDS, quality_tables.manifold_table(rows), {"rows": plain(rows)})


_FROM_POINTS: dict[str, Callable[[SampleComparison], MeasureTable]] = {FRECHET: _frechet, MANIFOLDS: _manifolds}


def _modes(modes: Modes, found: SampleComparison) -> MeasureTable:
  """Count modes in the data's own space, whatever the features."""
  centers, deviation = modes.centers.reshape(len(modes.centers), -1), modes.deviation.ravel()
  rows = {name: count_modes(each.x.reshape(len(each.x), -1).astype(np.float64), centers, deviation)
          for name, each in _sets(found)}
  return MeasureTable(MODES, quality_tables.mode_table(rows), {"rows": plain(rows)})


def _labels(run: TrainedRun, found: SampleComparison, labeler: Labeler) -> MeasureTable:
  """Tell labels of all sets; of the data the classifier's labels, too, so that its errors are in both histograms."""
  split = f"{found.about['split']} data"
  sets = [*_sets(found), (split, found.data)]
  labels = {name: labeler(each.x) for name, each in sets}
  counts = {name: np.bincount(each, minlength=labeler.num_labels) for name, each in labels.items()}
  # Three digits of stacked images are drawn alike by construction: data could not count a thousand labels.
  reference = np.full(labeler.num_labels, 1 / labeler.num_labels) if labeler.is_stacked else counts[split]
  same = run.spec.num_classes == labeler.num_labels  # labels of the data are those that it tells
  rows = {name: {"asked": None if each.y is None or not same else accuracy(labels[name], each.y),
                 "found": distinct(counts[name]),
                 "kl": None if each is found.data and not labeler.is_stacked else divergence(counts[name], reference),
                 "shares": counts[name] / len(labels[name]), "num": len(labels[name])} for name, each in sets}
  own = labeler.own_accuracy()
  share, (low, high) = own.accuracy
  text = (f"{quality_tables.label_table(rows, labeler.num_labels)}\nby {labeler.folder}, right of "
          f"{100 * share:.2f} % [{100 * low:.2f}, {100 * high:.2f}] of {own.data}, {own.split}")
  if labeler.is_stacked:
    text += f", so of about {100 * share**3:.1f} % of three"
  parts = _asked_parts(run, labels, dict(sets)) if same else {}
  if parts:
    text += f".\n{quality_tables.part_table(parts)}"
  contents = {"rows": plain(rows), "own_accuracy": plain(own), **({"parts": plain(parts)} if parts else {})}
  return MeasureTable(LABELS, text + ".", {**contents, **labeler.about})


def _asked_parts(run: TrainedRun, labels: Mapping[str, np.ndarray], sets: Mapping[str, ComparedSet]
                 ) -> dict[str, dict[str, Measured]]:
  """Return how often each part of a label that is several came out as asked, by name of the set; {} of other labels."""
  found = {}
  for name, each in sets.items():
    asked = {} if each.y is None else parts_of(each.y, run.data.info)
    told = parts_of(labels[name], run.data.info)
    if asked:
      found[name] = {part: accuracy(told[part], y) for part, y in asked.items()}
  return found


def _memorization(run: TrainedRun, found: SampleComparison) -> tuple[MeasureTable, Neighbours]:
  """Compare with held-out data: the split, or where that is the training split, the other one. The floor is one half
  of it beside the other, since its training data would be copies."""
  of_train = found.about["split"] == "train"
  heldout, split = (found.other, found.floor.name) if of_train else (found.data, f"{found.about['split']} data")
  # One pass over the training split for all sets.
  names = [*found.samples, split]
  points = [*(each.points for each in found.samples.values()), heldout.points]
  near = nearest(np.concatenate(points), found.features.of_split(run.dataset, "train"), NEIGHBOURS)
  ends = np.cumsum([len(each) for each in points])
  distances = dict(zip(names, np.split(near.distances[:, 0], ends[:-1]), strict=True))
  half = np.random.default_rng(_SEED).permutation(len(heldout.x)) % 2 == 0
  rows = {name: copy_test(distances[name], distances[split]) for name in found.samples}
  rows[f"half of {split}"] = copy_test(distances[split][half], distances[split][~half])
  first = Neighbours(near.distances[:ends[0]], near.places[:ends[0]])
  return MeasureTable(MEMORIZATION, quality_tables.memorization_table(rows), {"rows": plain(rows)}), first


def _sets(found: SampleComparison) -> Iterator[tuple[str, ComparedSet]]:
  """Yield samples by their names, then the floor."""
  yield from found.samples.items()
  yield found.floor.name, found.other
