"""Scores of examples by trained runs, by name, and how well they tell a run's test data from other data."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from gdm.batches import filled, padded_size
from gdm.data.load import load_dataset
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.evaluation import outlier_scores as measures
from gdm.evaluation.detection import Detection, detection
from gdm.evaluation.intervals import brackets
from gdm.evaluation.outliers import MADE_OF_DATA, patches
from gdm.evaluation.ranking import has_density, scores
from gdm.likelihood import require_finite
from gdm.model import HasAnomalyScore, HasClasses, HasLabelLogits, HasLabelProbs, HasLatent
from gdm.precision import at_highest_precision
from gdm.runs.features import require_folder, require_same_event, served
from gdm.runs.load import TrainedRun, load_run
from gdm.runs.plotting import save_panels
from gdm.runs.workdir import Workdir, write_json

SHOWN = 64  # examples of each set in the picture
Examples = Num[np.ndarray, "num *event"]
Score = Callable[[Examples], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
  """Runs whose scores are taken, all of the same event.

  Attributes:
    main: the run that decides what data are its own.
    background: a model of mutated data, or any other density; None for none.
    classifiers: runs that tell labels.
    reconstruction: a run that encodes examples and decodes them; None for none.
    seed: of models' noise.
  """

  main: TrainedRun
  background: TrainedRun | None = None
  classifiers: tuple[TrainedRun, ...] = ()
  reconstruction: TrainedRun | None = None
  seed: int = 0

  def scores(self) -> dict[str, Score]:
    """Return the scores that there are, by name; those that correct a likelihood take it from a table of the last
    examples, so that nothing is computed twice. Raise ConfigError where there is none."""
    found: dict[str, Score] = {}
    if has_density(self.main.model):
      nats = _remembered(lambda x: _density(self.main, x, self.seed))
      found["likelihood"] = nats
      if self.background is not None:
        background = self.background
        found["likelihood ratio"] = lambda x: measures.likelihood_ratio(nats(x), _density(background, x, self.seed))
      if _is_coded(self.main.dataset.spec):
        spec = self.main.dataset.spec
        found["complexity corrected"] = lambda x: measures.complexity_corrected(nats(x), measures.coded_bits(x, spec))
    elif isinstance(self.main.model, HasAnomalyScore):
      found["anomaly score"] = lambda x: _density(self.main, x, self.seed)
    classifiers = self.classifiers or ((self.main,) if isinstance(self.main.model, HasLabelProbs) else ())
    found |= _of_classifiers(classifiers)
    if self.reconstruction is not None:
      run = self.reconstruction
      found["reconstruction"] = lambda x: _reconstruction(run, x)
    if not found:
      raise ConfigError(f"{self.main.config.model.name} has no log-density to score by, no anomaly score, and tells no "
                        "labels.")
    return found


@at_highest_precision
def find_outliers(run: TrainedRun, against: Sequence[str], *, pictures: str = "", data_dir: str = "",
                  background: str = "", classifiers: Sequence[str] = (), reconstruction: str = "",
                  batch_sizes: Sequence[int] = (1,), num: int = 0, seed: int = 0) -> Iterator[str]:
  """Tell other data from a run's test split by each score there is; yield a line for each score and other data.

  Writes `outliers.json` and `outliers.png` into the run's folder at the end.

  Args:
    run: decides what data are its own.
    against: other data: rotated, shuffled, patches, or names of data sets.
    pictures: an npz of pictures that patches are cut out of.
    data_dir: where TFDS data lie.
    background: folder of a run whose log-likelihood is subtracted; "" for none.
    classifiers: folders of runs that tell labels.
    reconstruction: folder of a run that encodes and decodes; "" for none.
    batch_sizes: of batches whose typicality is taken.
    num: examples of each set, spread over its test split; 0 for all.
    seed: of orders, places and the models' noise.

  Raise ConfigError where a run cannot do what it is named for, or there is no score; SpecError for data of another
  kind.
  """
  if not run.dataset.spec.is_image and not all(":" in name for name in against):
    raise ConfigError(f"{run.dataset.name} is {run.dataset.spec.event}; other data is made for images only.")
  runs = _runs(run, background, classifiers, reconstruction, seed)
  test = run.dataset.split("test")
  inside = test.rows(spread(test.num_examples, num))["x"]

  def made(name: str) -> np.ndarray:
    if name in MADE_OF_DATA:
      return MADE_OF_DATA[name](inside, seed)
    if name == "patches":
      whole = load_dataset("npz", path=pictures).split("test").rows(slice(None))["x"]
      return patches(whole, run.dataset.spec, len(inside), seed)
    return other_data(name, load_dataset(name, data_dir=data_dir, transforms=run.config.data.transforms),
                      run.dataset.spec, num)

  others = {name: made(name) for name in against}
  if has_density(run.model):
    _require_batches(batch_sizes, {f"the test split of {run.dataset.name}": inside, **others})
  found: dict[str, dict[str, Detection]] = {name: {} for name in others}

  def judged(name: str, score: str, here: np.ndarray, there: np.ndarray) -> str:
    found[name][score] = detection(here, there, seed)
    return _line(name, score, found[name][score], len(here), len(there))

  functions = runs.scores()
  for score, function in functions.items():
    here = function(inside)
    for name, x in others.items():
      yield judged(name, score, here, function(x))
  if has_density(run.model):
    nats, valid = functions["likelihood"], run.dataset.split("valid")
    entropy = -float(np.mean(nats(valid.rows(spread(valid.num_examples, num))["x"])))
    here = nats(inside)
    for name, x in others.items():
      there = nats(x)
      for size in batch_sizes:
        yield judged(name, f"typicality of {size}", *(measures.typicality(each, entropy, size, seed)
                                                      for each in (here, there)))
  write_json(run.folder / "outliers.json", {
      "model": run.config.model.name, "dataset": run.dataset.name, "step": run.step, "parameters": run.parameters,
      "seed": seed, "num_examples": len(inside),
      "runs": {"background": background, "classifiers": list(classifiers), "reconstruction": reconstruction},
      "against": {name: {score: {measure: each._asdict() for measure, each in found._asdict().items()}
                         for score, found in scores.items()} for name, scores in found.items()}})
  if run.dataset.spec.is_image:
    save_panels(run, "outliers", {name: x[spread(len(x), SHOWN)] for name, x in others.items()})


def _runs(run: TrainedRun, background: str, classifiers: Sequence[str], reconstruction: str, seed: int) -> Runs:
  by_density = _named("--background", background, run, has_density, "a run with a density, of mutated data say")
  by_latents = _named("--reconstruction", reconstruction, run, reconstructs,
                      "a run that encodes and decodes, of an autoencoder or a VAE say")
  by_labels = [_named("--classifiers", folder, run, tells_labels, "runs of classifiers") for folder in classifiers]
  return Runs(run, by_density, tuple(filter(None, by_labels)), by_latents, seed)


def _named(flag: str, folder: str, run: TrainedRun, capable: Callable[[Any], bool], what: str
           ) -> TrainedRun | None:
  if not folder:
    return None
  other = named_run(flag, folder, run, what)
  require_capable(flag, [other], capable, what)
  return other


def _require_batches(sizes: Sequence[int], sets: Mapping[str, Examples]) -> None:
  """Raise ConfigError, before anything is scored, where a set does not make two batches of a size."""
  for name, x in sets.items():
    if 2 * max(sizes, default=1) > len(x):
      raise ConfigError(f"size is {max(sizes, default=1)}; {len(x)} examples must make at least two batches, those of "
                        f"{name}: set --batches lower.")


def _line(name: str, score: str, found: Detection, num: int, others: int) -> str:
  shown = ", ".join(f"{label} {brackets(*measure)}" for label, measure in (
      ("AUROC", found.auroc), ("AUPR", found.aupr_inside), ("of others", found.aupr_outside),
      ("FPR at 95 %", found.fpr95)))
  return f"{name} · {score}: {shown} ({num} against {others})"


def named_run(flag: str, folder: str, main: TrainedRun, what: str) -> TrainedRun:
  """Return the run that a flag names, of data of the main run's event. `what` says what it should be.

  Raise ConfigError where there is no such folder, SpecError for another event.
  """
  require_folder(flag, folder, what)
  run = load_run(Workdir(folder), {})
  require_same_event(flag, folder, run, main)
  return run


def require_capable(flag: str, runs: Sequence[TrainedRun], capable: Callable[[Any], bool], what: str) -> None:
  """Raise ConfigError, with what would be right, where a run that a flag names cannot do what it is named for."""
  for run in runs:
    if not capable(run.model):
      raise ConfigError(f"{flag} names a run of {run.config.model.name}; it must be {what}.")


def tells_labels(model: Any) -> bool:
  """Return whether a model tells labels."""
  return isinstance(model, HasLabelProbs)


def reconstructs(model: Any) -> bool:
  """Return whether a model gives examples back from latents, or scores how badly it does so."""
  conditional = isinstance(model, HasClasses) and model.class_conditional
  return isinstance(model, HasAnomalyScore) or (isinstance(model, HasLatent) and not conditional)


def _of_classifiers(runs: Sequence[TrainedRun]) -> dict[str, Score]:
  """Return scores by classifiers: of one its own, of several those of their mean, and their agreement."""
  if not runs:
    return {}
  each = _remembered(lambda x: np.stack([_log_label_probs(run, x) for run in runs]))
  found: dict[str, Score] = {"confidence": lambda x: measures.confidence(
      np.logaddexp.reduce(each(x), axis=0) - np.log(len(runs)))}
  first, model = runs[0], runs[0].model
  if isinstance(model, HasLabelLogits):
    found["energy"] = lambda x: _batched(first, x, lambda x: jax.nn.logsumexp(
        model.label_logits(first.params, first.carry, {"x": x}), axis=1))
  if len(runs) > 1:
    found["agreement"] = lambda x: measures.agreement(each(x))
  return found


def _is_coded(spec: DataSpec) -> bool:
  return spec.levels is not None and spec.levels <= 256


def _density(run: TrainedRun, x: Examples, seed: int) -> Float[np.ndarray, " num"]:
  return scores(run.model, run.params, run.carry, served(x, run), jax.random.key(seed),
                run.config.evaluation.batch_size)


def _log_label_probs(run: TrainedRun, x: Examples) -> Float[np.ndarray, "num classes"]:
  model: Any = run.model
  return _batched(run, x, lambda x: model.log_label_probs(run.params, run.carry, {"x": x}))


def _reconstruction(run: TrainedRun, x: Examples) -> Float[np.ndarray, " num"]:
  """Return minus the mean squared error of what comes back from latents, in units of the data; or minus the model's
  own anomaly score."""
  if isinstance(run.model, HasAnomalyScore):
    return _density(run, x, 0)
  model: Any = run.model
  key = jax.random.key(0)

  def error(x: Any) -> Any:
    latent = model.encode(run.params, run.carry, {"x": x}, key)
    back = model.decode(run.params, run.carry, latent, key)
    return -jnp.mean(jnp.square(back.reshape(len(x), -1) - jnp.asarray(x, jnp.float32).reshape(len(x), -1)), axis=1)

  return _batched(run, x, error)


def _batched(run: TrainedRun, x: Examples, function: Callable[[Any], Any]) -> np.ndarray:
  """Return a function of batches, whole and of one size, in float64. Raise NotFiniteError for what is not finite."""
  size, compiled = padded_size(len(x), run.config.evaluation.batch_size), jax.jit(function)
  parts = [x[start:start + size] for start in range(0, len(x), size)]
  found = np.concatenate([np.asarray(compiled(filled(served(part, run), size)))[:len(part)] for part in parts])
  require_finite(found.reshape(len(found), -1).sum(axis=1), 0, "score")
  return found.astype(np.float64)


def _remembered(function: Score) -> Score:
  """Return the function with its last results kept, by the identity of the examples."""
  kept: dict[int, tuple[Examples, np.ndarray]] = {}

  def call(x: Examples) -> np.ndarray:
    if id(x) not in kept:
      kept[id(x)] = (x, function(x))  # with the examples, so that no others take their identity
    return kept[id(x)][1]

  return call


def other_data(name: str, dataset: Any, spec: DataSpec, num: int) -> Examples:
  """Return up to `num` test examples of another data set, spread over its split, as they are: nothing is resized.

  Raise SpecError where its events or levels are others.
  """
  if (dataset.spec.event, dataset.spec.levels) != (spec.event, spec.levels):
    raise SpecError(f"--against has {name!r}, of events {dataset.spec.event} (spec.levels {dataset.spec.levels}), but "
                    f"the run's data have {spec.event} (spec.levels {spec.levels}); other data are scored at their own "
                    "size.")
  split = dataset.split("test" if "test" in dataset.splits else "valid")
  return split.rows(spread(split.num_examples, num))["x"]


def spread(size: int, num: int) -> np.ndarray:
  """Return `num` rows, or all, evenly spread over a split of a size: some splits are sorted by class."""
  return np.linspace(0, size - 1, min(num or size, size)).astype(int)
