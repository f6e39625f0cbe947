"""Test examples measured and restored by a trained run, and how well."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdm.batches import given
from gdm.data.dataset import column_moments
from gdm.errors import ConfigError, SpecError, UserError
from gdm.evaluation.kernel_distance import DistanceEstimate
from gdm.inverse.operators import LinearOperator, operator_of
from gdm.inverse.operators.operator import Operator
from gdm.inverse.problem import measure
from gdm.inverse.restoration import Restored, restore
from gdm.inverse.samplers.named import SAMPLERS, fitting, require_fitting
from gdm.inverse.scores import LEAST_SIDE, Coverage, coverage, psnr, ssim
from gdm.inverse.spectrum import spectrum_of
from gdm.paths import write_arrays
from gdm.precision import at_highest_precision
from gdm.runs.comparison import distance_from_split
from gdm.runs.sound import save_sound
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import write_json
from gdm.studies.labels import Labeler, accuracy
from gdm.studies.outlier_scores import spread
from gdm.training.streams import stream_key
from gdm.visualization.images import save_side_by_side

_WITH_PARTICLES = tuple(name for name, method in SAMPLERS.items() if method.particles)
_LEVEL = 0.9  # share of values that intervals are to hold
_SHOWN, _SHOWN_DRAWS = 12, 3  # examples and draws of each that are shown


class MeasuredExamples(NamedTuple):
  """Test examples and their measurements.

  Attributes:
    truth: the examples, as served.
    y: the measurements, in the data's units.
    operator: what measured them.
    noise: deviation of their noise, in the data's units.
    condition: labels or contexts of the examples, where the model is given them.
    labels: labels of the examples, where they have some.
  """

  truth: np.ndarray
  y: jax.Array
  operator: Operator
  noise: float
  condition: Any
  labels: np.ndarray | None = None


class RestorationScores(NamedTuple):
  """Scores of restored examples.

  Attributes:
    psnr: of the mean of the draws, in decibels, a mean over examples.
    psnr_draw: of single draws.
    ssim: structural similarity of the mean of the draws; None of data other than images, and of tiny ones.
    coverage: of intervals between draws.
    distance: squared kernel distance of one draw of each example from the split; None where there are too few.
    nfe: network evaluations of each draw; None where the sampler does not count them.
    seconds: of the call, compiling included; of a second one where `timed`.
    draws_per_second: draws over the seconds of a second call; None where it was not made.
    least_effective_share: of particles, the least effective sample size on the way, a mean over examples; None of
      other samplers.
    temporary_bytes: memory of the call beside its arguments and results; None where it is not known.
  """

  psnr: float
  psnr_draw: float
  ssim: float | None
  coverage: Coverage | None
  distance: DistanceEstimate | None
  nfe: float | None
  seconds: float
  draws_per_second: float | None
  least_effective_share: float | None
  temporary_bytes: int | None


@at_highest_precision
def restore_all(run: TrainedRun, operators: Sequence[str], samplers: Sequence[str] = ("",), *, num: int = 19,
                num_examples: int = 50, noise: float = 0.0, num_steps: int = 0, num_particles: int = 0,
                guidance: float = 1.0, with_labels: bool = False, classifier: str = "", is_timed: bool = False,
                split: str = "test", seed: int = 0) -> Iterator[str]:
  """Restore test examples by each pair of an operator and a sampler; yield lines of scores.

  Writes `restored.json`, and for each pair arrays and a picture, into the run's folder. A pair that cannot be is left
  out, with a line that says why, unless it is the only one.

  Args:
    run: the run that restores examples of its data.
    operators: as `gdm.inverse.operators.operator_of` takes them.
    samplers: names; "" for the model's own first choice.
    num: draws of each example.
    num_examples: examples, spread over the split.
    noise: deviation of the measurements' noise, in the data's units.
    num_steps: steps; 0 is each sampler's own choice.
    num_particles: particles of each example; 0 is the sampler's own choice.
    guidance: with labels, how much more than given the labels.
    with_labels: whether the model is given the examples' labels.
    classifier: folder of a run that tells labels of what was restored; "" for none.
    is_timed: whether to restore twice, to tell the speed without compiling, and the memory.
    split: whose examples are restored.
    seed: of operators, noise and draws.

  Raise ConfigError for an operator or sampler that is unknown, or does not fit the model.
  """
  for name in samplers:
    require_fitting(run.model, name)
  chosen = [name or fitting(run.model)[0] for name in samplers]
  labeler = Labeler(classifier, run) if classifier else None
  rows, without = [], []

  def row(found: MeasuredExamples, text: str, sampler: str) -> tuple[str, dict[str, Any]]:
    """Restore by one sampler, write and draw it; return a line of its scores, and the scores."""
    if num_particles and not any(name in _WITH_PARTICLES for name in samplers):
      raise ConfigError(f"--num_particles is {num_particles}, but {sampler} has none; choose --sampler=particles.")
    particles = num_particles if sampler in _WITH_PARTICLES else 0
    settings = {name: value for name, value in (("num_steps", num_steps), ("num_particles", particles)) if value}
    result, seconds = restored(run, found, sampler, num, guidance, seed, settings, is_timed)
    scores = scores_of(run, found, result, seconds, split, is_timed)
    right = {} if labeler is None or found.labels is None else {
        "told_right": told_right(run, labeler, found.labels, np.asarray(result.x[0]))}
    name = f"restored_{text.replace(':', '')}_{sampler}"
    write_arrays(run.folder / f"{name}.npz", {
        "x": np.asarray(result.x), "truth": found.truth, "y": np.asarray(found.y), "mean": np.asarray(result.mean),
        "deviation": np.asarray(result.deviation)})
    save_restored(run, found, result, name)
    shares = "".join(f", labels told right {100 * share:.1f} % of draws" for share in right.values())
    return line(sampler, scores) + shares, {**as_fields(scores), **right}

  for text in operators:
    found = measured(run, text, noise, num_examples, split, seed, with_labels)
    yield f"{text}, noise {noise:g}, {len(found.truth)} examples of {run.data.name} {split}, {num} draws of each"
    yield from _without_model(run, found, text, labeler, without)
    for sampler in chosen:
      try:
        words, fields = row(found, text, sampler)
      except UserError as error:
        if len(chosen) * len(operators) == 1:
          raise
        words, fields = f"{sampler:12} left out: {error}", {"left_out": str(error)}
      yield words
      rows.append({"operator": text, "sampler": sampler, **fields})
  write_json(run.folder / "restored.json", {
      "noise": noise, "num": num, "examples": num_examples, "split": split, "seed": seed, "step": run.step,
      "rows": rows, "without_model": without})


def _without_model(run: TrainedRun, found: MeasuredExamples, text: str, labeler: Labeler | None,
                   rows: list[dict[str, Any]]) -> Iterator[str]:
  """Yield lines about what is restored without a model, and add a row for each way."""
  ways, right = plain(run, found), {}
  if labeler is not None and found.labels is not None:
    right = {name: told_right(run, labeler, found.labels, x)
             for name, x in {"truth": found.truth, **ways}.items()}
    yield f"{'truth':12} labels told right {100 * right['truth']:.1f} %"
  for name, value in plain_scores(run, found, ways).items():
    yield f"{name:12} PSNR {value:5.2f} dB" + (f", labels told right {100 * right[name]:.1f} %" if right else "")
    rows.append({"operator": text, "way": name, "psnr": value, **({"told_right": right[name]} if right else {})})


def measured(run: TrainedRun, text: str, noise: float, num: int, split: str, seed: int,
             labels: bool) -> MeasuredExamples:
  """Return test examples, spread over a split, and measurements of them.

  Args:
    run: the run whose data they are.
    text: names the operator, see `gdm.inverse.operators.operator_of`.
    noise: deviation, in the data's units.
    num: how many examples.
    split: the split.
    seed: of the operator and the noise.
    labels: whether the model is given the examples' labels.

  Raise ConfigError where the model has nothing to restore by or no labels, or for an operator that is unknown;
  SpecError for examples that are padded.
  """
  require_fitting(run.model)
  operator = operator_of(text, run.spec.event, seed)
  rows = run.dataset.split(split).rows(spread(run.dataset.num_examples(split), num))
  if "length" in rows and np.min(rows["length"]) < run.spec.event[0]:
    raise SpecError(f"examples of {run.data.name} have lengths, and padding is nothing to measure or restore; choose "
                    "data of one length.")
  names = [name for name in given(run.model) if name != "y" or labels]
  if labels and "y" not in names:
    raise ConfigError(f"--labels is set, but {run.config.model.name} is given no labels; leave it out.")
  condition = {name: np.asarray(rows[name]) for name in names}
  y = measure(operator, rows["x"], noise, stream_key(jax.random.key(seed), "measurement", 0))
  return MeasuredExamples(rows["x"], y, operator, noise, condition or None, rows.get("y"))


def restored(run: TrainedRun, found: MeasuredExamples, sampler: str, num: int, guidance: float, seed: int,
             settings: Mapping[str, Any], timed: bool = False) -> tuple[Restored, float]:
  """Return draws of what was measured, and the seconds of the call; of a second one, which compiles nothing, where
  `timed`."""
  def call():
    result = restore(run.model, run.params, run.carry, found.operator, found.y,
                     stream_key(jax.random.key(seed), "restoring", 0), noise=found.noise, sampler=sampler, num=num,
                     condition=found.condition, guidance=guidance, **settings)
    return jax.block_until_ready(result)

  if timed:
    call()
  start = time.perf_counter()
  try:
    return call(), time.perf_counter() - start
  except SpecError as error:
    if "y" in given(run.model) and "y" not in (found.condition or {}):
      raise SpecError(f"{error} --labels gives it the examples' labels.") from error
    raise


def scores_of(run: TrainedRun, found: MeasuredExamples, result: Restored, seconds: float, split: str,
              timed: bool = False) -> RestorationScores:
  """Return the scores of restored examples; see `restored` for seconds and `timed`."""
  truth, mean, draws = found.truth, np.asarray(result.mean), np.asarray(result.x)
  peak = _peak(run, found)
  of_draws = [psnr(each, truth, peak) for each in draws]
  share = result.info.get("least_effective_share")
  has_ssim = run.spec.is_image and min(run.spec.event[:2]) >= LEAST_SIDE
  return RestorationScores(
      float(np.mean(psnr(mean, truth, peak))), float(np.mean(of_draws)),
      float(np.mean(ssim(mean, truth, peak))) if has_ssim else None,
      coverage(draws, truth, _LEVEL) if len(draws) > 1 else None, distance_from_split(run, draws[0], split),
      float(result.info["nfe"]) if "nfe" in result.info else None, seconds,
      draws.shape[0] * draws.shape[1] / seconds if timed else None, None if share is None else float(np.mean(share)),
      result.temporary_bytes)


def plain(run: TrainedRun, found: MeasuredExamples) -> dict[str, np.ndarray]:
  """Return examples restored without a model, by name of the way: by the pseudo-inverse, whose unseen part is 0, and
  with the training examples' mean as the unseen part. {} of operators that are not linear, or cannot be decomposed."""
  operator = found.operator
  if not isinstance(operator, LinearOperator):
    return {}
  try:
    inverse = spectrum_of(operator).inverse
  except SpecError:  # of too many entries to be decomposed
    return {}
  centre = jnp.asarray(column_moments(run.dataset.split("train"))[0][None], jnp.float32)
  zero = inverse(jnp.asarray(found.y))
  filled = zero + centre - inverse(operator.forward(centre))
  return {"unseen 0": np.asarray(zero), "unseen mean": np.asarray(filled)}


def plain_scores(run: TrainedRun, found: MeasuredExamples, ways: Mapping[str, np.ndarray]) -> dict[str, float]:
  """Return the PSNR in decibels of each plain way."""
  return {name: float(np.mean(psnr(x, found.truth, _peak(run, found)))) for name, x in ways.items()}


def told_right(run: TrainedRun, labeler: Labeler, y: np.ndarray, x: np.ndarray) -> float:
  """Return how often a classifier tells the right label of examples [num, *event] that were restored somehow."""
  if run.spec.levels is not None:
    x = np.clip(np.rint(x), 0, run.spec.levels - 1).astype(np.int64)
  return accuracy(labeler(x), y).value


def as_fields(scores: RestorationScores) -> dict[str, Any]:
  """Return scores for JSON; an infinite ratio, of draws that are the truth, is None."""
  fields = {name: value._asdict() if isinstance(value, Coverage | DistanceEstimate) else value
            for name, value in scores._asdict().items()}
  return {name: None if isinstance(value, float) and not np.isfinite(value) else value
          for name, value in fields.items()}


def _peak(run: TrainedRun, found: MeasuredExamples) -> float:
  """Return the range of the data."""
  return float(run.spec.levels - 1 if run.spec.levels else found.truth.max() - found.truth.min())


def line(name: str, scores: RestorationScores) -> str:
  """Return the scores of a sampler as a line."""
  words = [f"{name:12} PSNR {scores.psnr:5.2f} dB of the mean, {scores.psnr_draw:5.2f} of a draw"]
  if scores.ssim is not None:
    words.append(f"SSIM {scores.ssim:.3f}")
  if scores.coverage is not None:
    words.append(f"{100 * scores.coverage.share:.1f} % inside intervals of {100 * scores.coverage.stated:.1f} %")
  if scores.distance is not None:
    words.append(f"kernel distance {1e3 * scores.distance.value:.1f} +- {1e3 * scores.distance.half:.1f} e-3")
  if scores.nfe is not None:
    words.append(f"NFE {scores.nfe:.0f}")
  if scores.draws_per_second is not None:
    words.append(f"{scores.draws_per_second:.3g} draws/s")
    if scores.nfe is not None:
      words.append(f"{scores.draws_per_second * scores.nfe:.3g} NFE/s")
    if scores.temporary_bytes is not None:
      words.append(f"{scores.temporary_bytes / 2**20:.3g} MiB")
  if scores.least_effective_share is not None:
    words.append(f"least effective share {scores.least_effective_share:.2f}")
  return ", ".join(words)


def save_restored(run: TrainedRun, found: MeasuredExamples, result: Restored, name: str) -> None:
  """Write a picture of images: truth, measurement, draws, their mean and deviation, an example in each row; of
  spectrograms sound too, as `<name>_truth_000.wav`, `_seen` and `_drawn`."""
  if not run.spec.is_image:
    return
  shown = slice(0, _SHOWN)
  panels = {"truth": found.truth[shown], "seen": _pictured(found)[shown]}
  panels |= {f"draw {i + 1}": np.asarray(draw)[shown] for i, draw in enumerate(result.x[:_SHOWN_DRAWS])}
  panels["mean"] = np.asarray(result.mean)[shown]
  deviation = np.asarray(result.deviation)[shown]
  if "spectrogram" in run.data.info:
    for title, x in (("truth", panels["truth"]), ("seen", panels["seen"]), ("drawn", panels["draw 1"])):
      save_sound(run, f"{name}_{title}", x)
  levels = run.spec.levels
  low, high = (0.0, levels - 1.0) if levels else (float(found.truth.min()), float(found.truth.max()))
  # Deviations are black at 0 and white at half the data's range.
  panels["dev."] = low + np.clip(2.0 * deviation, 0.0, high - low)
  panels = {title: (np.clip(images, low, high) - low) / (high - low) for title, images in panels.items()}
  save_side_by_side(run.folder / f"{name}.png", panels, levels=None, columns=1)


def _pictured(found: MeasuredExamples) -> np.ndarray:
  """Return measurements as images: by the pseudo-inverse of a linear operator, else as they are where they are images,
  else the examples' mean."""
  operator = found.operator
  if isinstance(operator, LinearOperator):
    return np.asarray(spectrum_of(operator).inverse(jnp.asarray(found.y)))
  if operator.measured == operator.event:
    return np.asarray(found.y)
  return np.broadcast_to(found.truth.mean(axis=0), found.truth.shape)
