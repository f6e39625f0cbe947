"""Test examples, or a guide of one's own, edited by a trained run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from gdm.errors import ConfigError, DataError
from gdm.inverse.editing import interpolated, inverted, reconstructed, sdedit, variations
from gdm.inverse.guidance import classifier_guided
from gdm.model import Denoiser, HasDenoiser, HasNoisedLabelProbs
from gdm.paths import write_arrays
from gdm.precision import at_highest_precision
from gdm.runs.comparison import distance_from_split
from gdm.runs.plotting import save_panels
from gdm.runs.trained import TrainedRun
from gdm.studies.outlier_scores import named_run, spread
from gdm.training.streams import stream_key
from gdm.visualization.figures import BLUE, INK, ORANGE, save_figure, style_axes

MODES = ("sdedit", "relabel", "vary", "interpolate")
LABELLED = ("sdedit", "relabel")  # those that may be given a label
NUM_COLUMNS = 8  # examples between two


class Guides(NamedTuple):
  """Examples to edit.

  Attributes:
    x: the examples, in the data's units.
    labels: their labels; None where they have none.
  """

  x: np.ndarray
  labels: np.ndarray | None


class Edited(NamedTuple):
  """Edited examples.

  Attributes:
    x: [num, batch, *event], as served.
    guide_distance: root mean squared distance from the guides, in the data's units.
    data_distance: squared kernel distance of the first draw of each guide from the split; None where there are too few.
  """

  x: np.ndarray
  guide_distance: float
  data_distance: float | None


@at_highest_precision
def edit_run(run: TrainedRun, mode: str, strengths: Sequence[float] = (0.5,), *, guide: str = "",
             label: int | None = None, guidance: float = 1.0, classifier: str = "", num: int = 4,
             num_examples: int = 16, num_steps: int = 50, split: str = "test", seed: int = 0) -> Iterator[str]:
  """Edit examples at each strength; yield a line for each, with distances from the guides and from data.

  Writes `edited_<mode>.npz`, and pictures, into the run's folder at the end.

  Args:
    run: of a diffusion model.
    mode: one of `MODES`.
    strengths: 0 (the guide) to 1 (forgets it).
    guide: a .npy file of guides [number, *event], in the data's units; "" for test examples.
    label: of what is wanted, of models that are given labels; None for none.
    guidance: with a label, how much more than given the label.
    classifier: with a label, of sdedit: folder of a run of a classifier of noised examples; "" for none.
    num: draws of each guide, of sdedit and vary.
    num_examples: guides.
    num_steps: steps.
    split: whose examples are guides.
    seed: of the draws.

  Raise ConfigError where the model cannot edit so, or is given no such label, or for a file of other guides.
  """
  if label is not None and not 0 <= label < (run.spec.num_classes or 0):
    raise ConfigError(f"--label is {label}; it must be one of the {run.spec.num_classes or 0} labels of "
                      f"{run.data.name}, from 0.")
  if label is not None and mode not in LABELLED:
    raise ConfigError(f"--label is {label}, but --mode is {mode}, which is given none; leave it out, or choose "
                      f"{' or '.join(LABELLED)}.")
  if label is None and guidance != 1.0:
    raise ConfigError(f"--guidance is {guidance:g}, but there is no --label to guide to; give both.")
  guides = guides_of(run, guide, num_examples, split)
  by = named_run("--classifier", classifier, run, "a run of a classifier") if classifier else None
  edits: dict[str, Callable[[float], np.ndarray]] = {
      "sdedit": lambda strength: by_strength(run, guides, num, strength, num_steps, label, guidance, seed, by),
      "relabel": lambda strength: relabelled(run, guides, label or 0, strength, num_steps, guidance),
      "vary": lambda strength: varied(run, guides, num, strength, num_steps, seed),
      "interpolate": lambda strength: between(run, guides, num_steps)}
  found, arrays, panels = [], {"guide": guides.x}, {"guides": guides.x}
  for strength in strengths if mode != "interpolate" else [1.0]:
    edited = judged(run, guides, edits[mode](strength), split)
    words = f"{mode}, strength {strength:g}: {edited.guide_distance:.4g} from the guides, in the data's units"
    if edited.data_distance is not None:
      words += f", kernel distance from data {1e3 * edited.data_distance:.1f} e-3"
    yield words
    found.append(edited)
    arrays[f"x_{strength:g}"] = edited.x
    if mode == "interpolate":  # all ways between examples are shown, else the first draw of each guide
      panels["between"] = np.swapaxes(edited.x, 0, 1).reshape(-1, *edited.x.shape[2:])
    else:
      panels[f"{strength:g}"] = edited.x[0]
  write_arrays(run.folder / f"edited_{mode}.npz", arrays)
  save_panels(run, f"edited_{mode}", panels)
  if len(found) > 1:
    save_strengths(run.folder / f"edited_{mode}_strengths.png", strengths, found)


def parse_strengths(text: str) -> tuple[float, ...]:
  """Return strengths of a text, as "0.3,0.5". Raise ConfigError, naming --strength, for anything else."""
  try:
    strengths = tuple(float(part) for part in text.split(","))
  except ValueError:
    strengths = ()
  if not strengths or not all(0.0 <= strength <= 1.0 for strength in strengths):
    raise ConfigError(f"--strength is {text!r}; it must be one or several numbers in [0, 1], separated by commas.")
  return strengths


def guides_of(run: TrainedRun, path: str, num: int, split: str) -> Guides:
  """Return the guides in a file of an array [num, *event], or test examples, spread over a split.

  Raise ConfigError where the model has no denoiser, or the file cannot be read or is of another event; DataError where
  the guides hold NaN or infinity.
  """
  if not isinstance(run.model, HasDenoiser):
    raise ConfigError(f"{run.config.model.name} has no denoiser to edit by; choose the run of a diffusion model.")
  if not path:
    rows = run.dataset.split(split).rows(spread(run.dataset.num_examples(split), num))
    return Guides(rows["x"], np.asarray(rows["y"]) if "y" in rows else None)
  try:
    guides = np.load(path, allow_pickle=False)
  except (OSError, ValueError) as error:
    raise ConfigError(f"--guide is {path!r}, which cannot be read as an array: {error}.") from None
  if guides.shape[1:] != run.spec.event:
    raise ConfigError(f"--guide holds an array {guides.shape}; it must be (number, "
                      f"{', '.join(map(str, run.spec.event))}), in the data's units.")
  if not len(guides) or guides.dtype.kind not in "fiub":
    raise DataError(f"--guide holds an array of {guides.dtype} {guides.shape}; it must be of numbers, and at least one "
                    "guide.")
  if not np.all(np.isfinite(guides)):
    raise DataError("--guide holds NaN or infinity.")
  return Guides(guides[:num], None)


def conditioned(run: TrainedRun, labels: np.ndarray | None, num: int, guidance: float) -> Any:
  """Return the denoiser given labels, or of none. Raise ConfigError or SpecError where the model cannot."""
  model: Any = run.model
  if labels is None:
    return model.denoising(run.params, run.carry)
  if not getattr(model, "class_conditional", False):
    raise ConfigError(f"{run.config.model.name} is given no labels; train it with "
                      "--config.model.class_conditional=True and --config.model.label_dropout=0.1, or leave --label "
                      "out.")
  return model.denoising(run.params, run.carry, num, labels, guidance)


def guided(run: TrainedRun, classifier: TrainedRun, labels: np.ndarray, guidance: float) -> Denoiser:
  """Return the denoiser without labels, guided by another run's classifier of noised examples.

  Raise ConfigError where that run is no such classifier, or was not trained on noise.
  """
  model: Any = classifier.model
  if not isinstance(model, HasNoisedLabelProbs):
    raise ConfigError(f"--classifier names a run of {classifier.config.model.name}; it must be a run of a classifier "
                      "that was trained on noise, cnn_classifier with --config.model.noise=80 say.")

  def log_label_probs(x: jax.Array, deviation: jax.Array) -> jax.Array:
    return model.noised_log_label_probs(classifier.params, classifier.carry, x, deviation)

  jax.eval_shape(log_label_probs, jnp.zeros((1, *run.spec.event)), jnp.ones(1))
  return classifier_guided(conditioned(run, None, 1, 1.0), log_label_probs, jnp.asarray(labels), guidance)


def by_strength(run: TrainedRun, guides: Guides, num: int, strength: float, num_steps: int, label: int | None,
                guidance: float, seed: int, classifier: TrainedRun | None = None) -> np.ndarray:
  """Return SDEdit's draws [num, batch, *event], as served; given a label by the model itself or by a classifier."""
  labels = None if label is None else np.full(len(guides.x), label)
  denoiser = (conditioned(run, labels, len(guides.x), guidance) if classifier is None or labels is None
              else guided(run, classifier, labels, guidance))
  call = jax.jit(lambda values, key: sdedit(denoiser, values, key, num, strength=strength, num_steps=num_steps).x)
  return _served(run, call(denoiser.values(guides.x), stream_key(jax.random.key(seed), "editing", 0)))


def varied(run: TrainedRun, guides: Guides, num: int, amount: float, num_steps: int, seed: int) -> np.ndarray:
  """Return variations [num, batch, *event], as served."""
  denoiser = conditioned(run, None, 1, 1.0)
  call = jax.jit(lambda values, key: variations(denoiser, values, key, num, amount=amount, num_steps=num_steps).x)
  return _served(run, call(denoiser.values(guides.x), stream_key(jax.random.key(seed), "editing", 0)))


def between(run: TrainedRun, guides: Guides, num_steps: int) -> np.ndarray:
  """Return examples between each and the one half the batch further [columns, batch, *event], as served."""
  denoiser = conditioned(run, None, 1, 1.0)
  call = jax.jit(lambda values: interpolated(denoiser, values, jnp.roll(values, len(values) // 2, axis=0), NUM_COLUMNS,
                                             num_steps=num_steps))
  return _served(run, call(denoiser.values(guides.x)))


def relabelled(run: TrainedRun, guides: Guides, label: int, strength: float, num_steps: int,
               guidance: float) -> np.ndarray:
  """Return examples [1, batch, *event] inverted under their own labels and taken back under another, as served.

  Raise ConfigError where the guides have no labels.
  """
  if guides.labels is None:
    raise ConfigError("--mode is relabel, which needs the labels of the examples; leave --guide out.")
  own = conditioned(run, guides.labels, len(guides.x), 1.0)
  other = conditioned(run, np.full(len(guides.x), label), len(guides.x), guidance)

  @jax.jit
  def call(values):
    state = inverted(own, values, num_steps=num_steps, strength=strength)
    return reconstructed(other, state, num_steps=num_steps, strength=strength)[None]

  return _served(run, call(own.values(guides.x)))


def judged(run: TrainedRun, guides: Guides, x: np.ndarray, split: str) -> Edited:
  """Return edited examples with their distances from the guides and from data."""
  distance = float(np.sqrt(np.mean((x.astype(np.float64) - guides.x) ** 2)))
  of_data = distance_from_split(run, x[0], split)
  return Edited(x, distance, of_data and of_data.value)


def save_strengths(path: Any, strengths: Sequence[float], found: Sequence[Edited]) -> None:
  """Draw distances from the guides and from data against strength."""
  figure = Figure(figsize=(5.2, 3.6), facecolor="white", layout="constrained")
  axes = figure.subplots()
  style_axes(axes)
  axes.plot(strengths, [each.guide_distance for each in found], color=BLUE, marker="o", label="from the guide")
  axes.set_xlabel("strength", color=INK)
  axes.set_ylabel("root mean squared distance", color=BLUE)
  if all(each.data_distance is not None for each in found):
    other = axes.twinx()
    other.plot(strengths, [1e3 * (each.data_distance or 0.0) for each in found], color=ORANGE, marker="s")
    other.set_ylabel("kernel distance from data, 1e-3", color=ORANGE)
  save_figure(path, figure)


def _served(run: TrainedRun, values: jax.Array) -> np.ndarray:
  model: Any = run.model
  flat = values.reshape(-1, *run.spec.event)
  return np.asarray(model.served(run.carry, flat)).reshape(values.shape)
