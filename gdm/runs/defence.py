"""Trained runs under attack: accuracy on examples, on attacked and on purified ones, and whether a density notices."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Num

from gdm.errors import ConfigError, DataError
from gdm.evaluation.detection import Detection, detection, p_values
from gdm.evaluation.intervals import Measured, share_interval
from gdm.evaluation.ranking import scores
from gdm.model import HasConditionals, HasDenoise, HasLogLikelihood
from gdm.robustness.attack import Attack
from gdm.robustness.diffusion_purifier import DiffusionPurifier
from gdm.robustness.pixel_defend import PixelDefend, threshold_of
from gdm.robustness.purifier import Purifier
from gdm.robustness.target import Target
from gdm.runs.features import filled, served
from gdm.runs.outlier_scores import spread
from gdm.runs.trained import TrainedRun

Examples = Num[np.ndarray, "num *event"]
Labels = Int[np.ndarray, " num"]
FALSE_ALARMS = 0.05  # p-value below which an input counts as no data


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
  """A classifier, a purifier before it or none, and examples of the classifier's data.

  Attributes:
    bare: the classifier alone.
    behind: it behind the purifier; None where there is none.
    x, y: examples and labels.
    batch_size: examples that are attacked at a time.
    seed: of starts and draws.
  """

  bare: Target
  behind: Target | None
  x: Examples
  y: Labels
  batch_size: int
  seed: int = 0

  def attacked(self, attack: Attack, target: Target) -> Examples:
    """Return the worst inputs that an attack on the target met."""
    return self._each(lambda key, x, y: attack.run(target, key, {"x": x, "y": y}).x, 0)

  def purified(self, x: Examples) -> Examples:
    """Return purified inputs. Raise ConfigError where there is no purifier."""
    target = self.behind
    if target is None:
      raise ConfigError("there is no purifier; name one by --purifier.")
    purify = jax.jit(target.purified)
    return self._each(lambda key, x, y: purify(key, jnp.asarray(x)), 1, x)

  def accuracy(self, x: Examples, target: Target) -> Measured:
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
class Row:
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


def target_of(run: TrainedRun, purifier: Purifier | None = None, by: TrainedRun | None = None,
              num_draws: int = 1) -> Target:
  """Return a run's classifier as a target, behind a purifier of another run where one is given."""
  if purifier is None or by is None:
    return Target(run.model, run.params, run.carry)
  return Target(run.model, run.params, run.carry, purifier, by.params, by.carry, num_draws)


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
  if isinstance(run.model, HasDenoise):
    return DiffusionPurifier(run.model, deviation)
  raise ConfigError(f"--purifier names a run of {run.config.model.name}, which has neither conditionals of its values "
                    "nor a denoiser; name one of an autoregressive model of images or of a diffusion model.")


def rows_of(scene: Scene, attacks: Mapping[str, Attack], aware: bool, noticed_by: TrainedRun | None
            ) -> Iterator[tuple[str, Row, Mapping[str, Examples]]]:
  """Yield each attack's name, what it does, and its inputs by name; without an attack first ("clean").

  Args:
    scene: what is attacked.
    attacks: by name.
    aware: whether attacks from random starts are made on both together too.
    noticed_by: a run whose log-likelihood is to tell attacked inputs from examples; None for none.
  """
  clean = None if noticed_by is None else _nats(noticed_by, scene.x)
  reference = None if noticed_by is None else _nats(noticed_by, _training(noticed_by, len(scene.x)))
  found, inputs = Row(scene.accuracy(scene.x, scene.bare)), {"clean": scene.x}
  if clean is not None:
    found = dataclasses.replace(found, alarms=_alarms(reference, clean))
  if scene.behind is not None:
    inputs["purified"] = scene.purified(scene.x)
    found = dataclasses.replace(found, purified=scene.accuracy(inputs["purified"], scene.bare))
  yield "clean", found, inputs
  for name, attack in attacks.items():
    x = scene.attacked(attack, scene.bare)
    found = Row(scene.accuracy(x, scene.bare), num_slopes=attack.num_restarts * attack.num_steps)
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
