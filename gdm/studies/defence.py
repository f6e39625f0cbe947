"""Trained runs under attack: accuracy on examples, on attacked and on purified ones, and whether a density notices."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Num

from gdm.batches import filled
from gdm.errors import ConfigError, DataError
from gdm.evaluation.detection import Detection, detection, p_values
from gdm.evaluation.intervals import Measured, brackets, share_interval
from gdm.evaluation.ranking import scores
from gdm.model import HasConditionals, HasDenoise, HasLogLikelihood
from gdm.precision import at_highest_precision
from gdm.robustness.attack import Attack, fgsm, iterated, projected_gradient
from gdm.robustness.diffusion_purifier import DiffusionPurifier
from gdm.robustness.pixel_defend import PixelDefend, threshold_of
from gdm.robustness.purifier import Purifier
from gdm.robustness.target import AttackTarget
from gdm.runs.features import served
from gdm.runs.plotting import save_panels
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import write_json
from gdm.studies.outlier_scores import named_run, spread

Examples = Num[np.ndarray, "num *event"]
Labels = Int[np.ndarray, " num"]
SHOWN = 36  # examples of each attack in the picture
FALSE_ALARMS = 0.05  # p-value below which an input counts as no data


@dataclasses.dataclass(frozen=True, eq=False)
class DefenceScene:
  """A classifier, a purifier before it or none, and examples of the classifier's data.

  Attributes:
    bare: the classifier alone.
    behind: it behind the purifier; None where there is none.
    x, y: examples and labels.
    batch_size: examples that are attacked at a time.
    seed: of starts and draws.
  """

  bare: AttackTarget
  behind: AttackTarget | None
  x: Examples
  y: Labels
  batch_size: int
  seed: int = 0

  def attacked(self, attack: Attack, target: AttackTarget) -> Examples:
    """Return the worst inputs that an attack on the target met."""
    return self._each(lambda key, x, y: attack.run(target, key, {"x": x, "y": y}).x, 0)

  def purified(self, x: Examples) -> Examples:
    """Return purified inputs. Raise ConfigError where there is no purifier."""
    target = self.behind
    if target is None:
      raise ConfigError("there is no purifier; name one by --purifier.")
    purify = jax.jit(target.purified)
    return self._each(lambda key, x, y: purify(key, jnp.asarray(x)), 1, x)

  def accuracy(self, x: Examples, target: AttackTarget) -> Measured:
    """Return the share of inputs that the target labels right, by draws of its own, with Clopper and Pearson's
    interval."""
    told = jax.jit(lambda key, x: jnp.argmax(target.log_probs(key, x), axis=1))
    share = float(np.mean(self._each(lambda key, x, y: told(key, jnp.asarray(x)), 2, x) == self.y))
    return Measured(share, share_interval(share, len(self.y)))

  def _each(self, function: Callable[[Any, Any, Any], Any], purpose: int, x: Examples | None = None) -> np.ndarray:
    """Return a function of key, examples and labels, batch by batch, all of one size."""
    x, size, parts = self.x if x is None else x, min(self.batch_size, len(self.y)), []
    key = jax.random.fold_in(jax.random.key(self.seed), purpose)
    for index, start in enumerate(range(0, len(x), size)):
      rows = slice(start, start + size)
      found = function(jax.random.fold_in(key, index), filled(x[rows], size), filled(self.y[rows], size))
      parts.append(np.asarray(found)[:len(self.y[rows])])
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class AttackRow:
  """What an attack does.

  Attributes:
    accuracy: of the bare classifier, attacked.
    purified: of the classifier behind the purifier, on inputs made against the bare one; None without a purifier.
    aware: of the classifier behind the purifier, on inputs made against both; None where that was not asked for.
    noticed: how well the purifier's density tells the inputs from the examples; None where it has none.
    alarms: share of the inputs whose p-value is at most 5 %.
    num_slopes: gradients for each example, against the bare classifier.
  """

  accuracy: Measured
  purified: Measured | None = None
  aware: Measured | None = None
  noticed: Detection | None = None
  alarms: float | None = None
  num_slopes: int = 0


def examples_of(run: TrainedRun, split: str, num: int) -> tuple[Examples, Labels]:
  """Return so many examples of a split with their labels, spread over it. Raise DataError where it has no labels."""
  rows = run.dataset.split(split).rows(spread(run.dataset.num_examples(split), num))
  if "y" not in rows:
    raise DataError(f"the split {split!r} of {run.dataset.name} has no labels to attack at; choose data that has.")
  return rows["x"], np.asarray(rows["y"])


@at_highest_precision
def attack_run(run: TrainedRun, attacks: Mapping[str, Attack], *, purifier: str = "", purifier_epsilon: float = 32.0,
               keep: float = 0.0, deviation: float = 30.0, num_draws: int = 1, split: str = "test", num: int = 1000,
               is_aware: bool = False, seed: int = 0) -> Iterator[str]:
  """Attack a run's classifier, alone and behind a purifier; yield a line about it, and one for each attack.

  Writes `attack_<norm>.json` and `attack_<norm>.png` into the run's folder at the end.

  Args:
    run: of a classifier.
    attacks: by name, all in the ball of one norm.
    purifier: folder of the run that purifies; "" for none.
    purifier_epsilon, keep, deviation: see `purifier_of`.
    num_draws: draws of the purifier for each gradient.
    split: whose examples are attacked.
    num: how many examples, spread over the split; 0 for all.
    is_aware: whether to attack through the purifier too.
    seed: of starts and draws.

  Raise ConfigError where the purifier can be none, SpecError where it is of other data, and DataError where the split
  has no labels.
  """
  for flag, is_set in (("--aware", is_aware), ("--keep", keep != 0.0), ("--num_draws", num_draws != 1)):
    if is_set and not purifier:
      raise ConfigError(f"{flag} is set, but there is no purifier; name one by --purifier, or leave it out.")
  bare, by = target_of(run), None
  if purifier:
    by = named_run("--purifier", purifier, run, "a run of an autoregressive model or a denoiser")
  behind = None if by is None else target_of(run, purifier_of(by, purifier_epsilon, deviation, keep), by, num_draws)
  x, y = examples_of(run, split, num)
  scene = DefenceScene(bare, behind, x, y, run.config.evaluation.batch_size, seed)
  noticed_by = by if by is not None and isinstance(by.model, HasLogLikelihood) else None
  first = next(iter(attacks.values()))
  yield (f"{run.config.model.name} on {run.dataset.name} · {split} · {len(y)} examples · {first.norm} "
         f"{first.epsilon:g}" + ("" if by is None else f" · purified by {by.config.model.name} on {by.dataset.name}"))
  rows, panels = {}, {}
  for name, row, inputs in rows_of(scene, attacks, is_aware, noticed_by):
    rows[name] = row
    panels |= {title: images[spread(len(y), SHOWN)] for title, images in inputs.items()}
    yield _line(name, row)
  write_json(run.folder / f"attack_{first.norm}.json", {
      "model": run.config.model.name, "dataset": run.dataset.name, "step": run.step, "parameters": run.parameters,
      "purifier": None if by is None else {"folder": purifier, "model": by.config.model.name,
                                           "dataset": by.dataset.name, "step": by.step},
      "num": num, "split": split, "seed": seed, "purifier_epsilon": purifier_epsilon, "keep": keep,
      "deviation": deviation, "num_draws": num_draws,
      "attacks": {name: dataclasses.asdict(attack) for name, attack in attacks.items()},
      "rows": {name: _plain(row) for name, row in rows.items()}})
  save_panels(run, f"attack_{first.norm}", panels)


def _line(name: str, row: AttackRow) -> str:
  """Return a line about an attack: accuracies, the area under the ROC curve of detection, alarms."""
  shown = [f"{name}: right {brackets(*row.accuracy)}"]
  for words, measured in (("purified", row.purified), ("attacked through the purifier", row.aware),
                          ("AUROC of detection", row.noticed and row.noticed.auroc)):
    if measured is not None:
      shown.append(f"{words} {brackets(*measured)}")
  if row.alarms is not None:
    shown.append(f"p-value at most 0.05 in {row.alarms:.3f}")
  return ", ".join(shown)


def _plain(row: AttackRow) -> dict[str, Any]:
  """Return a row's numbers as JSON has them."""
  fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
  fields["noticed"] = row.noticed and {name: each._asdict() for name, each in row.noticed._asdict().items()}
  return {name: value._asdict() if isinstance(value, Measured) else value for name, value in fields.items()}


def attacks_of(norm: str, epsilon: float, num_steps: int, num_restarts: int) -> dict[str, Attack]:
  """Return the attacks by name: in a ball of radius epsilon, in the data's units, by the norm "linf" or "l2".

  Raise ConfigError for settings out of range.
  """
  return {"fgsm": fgsm(epsilon, norm), "iterated": iterated(epsilon, norm, num_steps),
          "projected gradient": projected_gradient(epsilon, norm, num_steps, num_restarts=num_restarts)}


def target_of(run: TrainedRun, purifier: Purifier | None = None, by: TrainedRun | None = None,
              num_draws: int = 1) -> AttackTarget:
  """Return a run's classifier as a target, behind a purifier of another run where one is given."""
  if purifier is None or by is None:
    return AttackTarget(run.model, run.params, run.carry)
  return AttackTarget(run.model, run.params, run.carry, purifier, by.params, by.carry, num_draws)


def purifier_of(run: TrainedRun, epsilon: float, deviation: float, keep: float) -> Purifier:
  """Return the purifier that a run's model can be: PixelDefend by its conditionals, else by noise and denoising.

  Args:
    run: of an autoregressive model, a diffusion model, an energy or an autoencoder.
    epsilon: of PixelDefend, in levels.
    deviation: of the noise, in the data's units.
    keep: share of clean validation examples that PixelDefend leaves alone; 0 to purify all.

  Raise ConfigError where the model can do neither.
  """
  if isinstance(run.model, HasConditionals):
    return PixelDefend(run.model, epsilon, _threshold(run, keep) if keep else None)
  if isinstance(run.model, HasDenoise) and keep:
    raise ConfigError(f"--keep is {keep}, but {run.config.model.name} purifies by noise, and all inputs; set it to 0.")
  if isinstance(run.model, HasDenoise):
    return DiffusionPurifier(run.model, deviation)
  raise ConfigError(f"--purifier names a run of {run.config.model.name}, which has neither conditionals of its values "
                    "nor a denoiser; name one of an autoregressive model of images or of a diffusion model.")


def rows_of(scene: DefenceScene, attacks: Mapping[str, Attack], aware: bool, noticed_by: TrainedRun | None
            ) -> Iterator[tuple[str, AttackRow, Mapping[str, Examples]]]:
  """Yield each attack's name, what it does, and its inputs by name; without an attack first ("clean").

  Args:
    scene: what is attacked.
    attacks: by name.
    aware: whether attacks from random starts are made on both together too.
    noticed_by: a run whose log-likelihood is to tell attacked inputs from examples; None for none.
  """
  clean = None if noticed_by is None else _nats(noticed_by, scene.x)
  reference = None if noticed_by is None else _nats(noticed_by, _training(noticed_by, len(scene.x)))
  found, inputs = AttackRow(scene.accuracy(scene.x, scene.bare)), {"clean": scene.x}
  if clean is not None:
    found = dataclasses.replace(found, alarms=_alarms(reference, clean))
  if scene.behind is not None:
    inputs["purified"] = scene.purified(scene.x)
    found = dataclasses.replace(found, purified=scene.accuracy(inputs["purified"], scene.bare))
  yield "clean", found, inputs
  for name, attack in attacks.items():
    x = scene.attacked(attack, scene.bare)
    found = AttackRow(scene.accuracy(x, scene.bare), num_slopes=attack.num_restarts * attack.num_steps)
    inputs = {name: x}
    if noticed_by is not None and clean is not None:
      nats = _nats(noticed_by, x)
      found = dataclasses.replace(found, noticed=detection(clean, nats), alarms=_alarms(reference, nats))
    if scene.behind is not None:
      inputs[f"{name}, purified"] = back = scene.purified(x)
      found = dataclasses.replace(found, purified=scene.accuracy(back, scene.bare))
      if aware and attack.random_start:
        worst = scene.attacked(attack, scene.behind)
        inputs[f"{name} through the purifier"] = worst
        found = dataclasses.replace(found, aware=scene.accuracy(worst, scene.behind))
    yield name, found, inputs


def _threshold(run: TrainedRun, keep: float) -> float:
  if not isinstance(run.model, HasLogLikelihood):
    raise ConfigError(f"--keep is {keep}, but {run.config.model.name} has no log-likelihood to decide by; set it to 0.")
  split = run.dataset.split("valid")
  x = split.rows(spread(split.num_examples, 1000))["x"]
  return threshold_of(jnp.asarray(_nats(run, x)), run.dataset.spec.num_dims, keep)


def _training(run: TrainedRun, num: int) -> Examples:
  split = run.dataset.split("train")
  return split.rows(spread(split.num_examples, num))["x"]


def _nats(run: TrainedRun, x: Examples) -> Float[np.ndarray, " num"]:
  return scores(run.model, run.params, run.carry, served(x, run), jax.random.key(0), run.config.evaluation.batch_size)


def _alarms(reference: np.ndarray | None, nats: Float[np.ndarray, " num"]) -> float | None:
  return None if reference is None else float(np.mean(p_values(reference, nats) <= FALSE_ALARMS))
