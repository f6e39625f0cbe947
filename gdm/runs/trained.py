"""A trained run as an object: its model with its parameters, and what can be done with them in one call.

`gdm.load` opens one. It needs no training data: what the model must know of them is in the checkpoint, and `dataset`
reads them where they are asked for.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, Shaped

from gdm.batches import filled
from gdm.data import captions
from gdm.data.dataset import Dataset
from gdm.data.description import GIVEN, Description
from gdm.data.loader import eval_batches
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.marginal import OverLabels, log_label_prior
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.model import Carry, HasClasses, HasComplete, HasLabelProbs, HasLogLikelihood, Model, Params
from gdm.precision import highest_precision
from gdm.runs import sampling
from gdm.runs.latents import Latents
from gdm.runs.scoring import scored_by
from gdm.runs.settings import check_settings
from gdm.training.streams import stream_key

Examples = Num[Array | np.ndarray, "num *event"]
Prefixes = Sequence[str] | Int[Array | np.ndarray, "num steps"]  # captions, or tokens


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun:
  """A trained model with its parameters, config and description of its data.

  Examples are as served: as the model saw them, with the transforms of its config done. Where a method takes `raw`,
  True does these first, with the means, deviations and bins of the training data.

  Attributes:
    config: the whole config of the run.
    data: what is known of the data that it was trained with.
    model: the model.
    params: its parameters.
    carry: its non-parameter state.
    step: the training step that they are of.
    parameters: "ema" (averaged) or "live".
    train_seconds: seconds that training took up to then.
    folder: where results of the run go: its workdir, or `<name>_exported` beside an exported file.
    likelihood: which likelihood it was validated by; "" is the model's own.
    report: what `evaluate` found so far, by name of the report, as {"likelihood_test": {...}}.
    read_data: reads the data.

  Example:

    run = gdm.load("runs/made")
    images = run.sample(16, seed=1)
    scores = run.log_likelihood(images)
    print(scores.kind, scores.nats_mean, scores.nats_ci95, scores.nats)
  """

  config: ml_collections.ConfigDict
  data: Description
  model: Model
  params: Params
  carry: Carry
  step: int
  parameters: str
  train_seconds: float
  folder: Path
  likelihood: str
  report: Mapping[str, Mapping[str, Any]]
  read_data: Callable[[], Dataset]

  @classmethod
  def of(cls, config: ml_collections.ConfigDict, dataset: Dataset, model: Model, params: Params, carry: Carry, *,
         step: int = 0, parameters: str = "live", train_seconds: float = 0.0, folder: Path = Path()) -> "TrainedRun":
    """Return a run of what is in memory: a model that was trained without a workdir, say."""
    return cls(config, Description.of(dataset), model, params, carry, step, parameters, train_seconds, folder,
               config.evaluation.likelihood, {}, lambda: dataset)

  @property
  def name(self) -> str:
    """The model's name."""
    return self.config.model.name

  @property
  def spec(self) -> DataSpec:
    """The kind of one example, as served."""
    return self.data.spec

  @functools.cached_property
  def dataset(self) -> Dataset:
    """The data: those of training, or others where the run was opened with some. Raise DataError where they are
    missing, and WorkdirError where they changed."""
    return self.read_data()

  @property
  def train_labels(self) -> Int[np.ndarray, " examples"]:
    """Labels of the training split, in no order."""
    counts = self.data.class_counts
    return np.repeat(np.arange(len(counts)), counts) if counts else np.asarray(self.dataset.split("train")["y"][:])

  def has_own(self, split: str) -> bool:
    """Return whether a split of `dataset` is that of the data which the run was trained with."""
    return split in self.dataset.splits and self.dataset.split(split).identity == self.data.identity.get(split)

  def __repr__(self) -> str:
    return f"TrainedRun({self.name} on {self.data.name}, step {self.step}, {self.parameters} parameters, {self.folder})"

  def log_likelihood(self, x: Examples, *, y: Shaped[Array | np.ndarray, " num"] | None = None,
                     length: Int[Array | np.ndarray, " num"] | None = None,
                     context: Float[Array | np.ndarray, "num width"] | None = None, prefix: Prefixes | None = None,
                     raw: bool = False, seed: int = 0, likelihood: str | None = None,
                     **settings: int) -> SplitLikelihood:
    """Score examples, compiled once for any number of them.

    Args:
      x: examples [num, *event].
      y: their labels [num], for models of x given y.
      length: of examples with lengths, how many steps of each are real; padding is no data.
      context: real-valued condition of each, for models of x given a context.
      prefix: caption or tokens of each, for models of x given them.
      raw: whether x is as in the data's file.
      seed: of what is random in the score.
      likelihood: which one, of models with several, as "ode,tolerance=1e-5".
      settings: num_draws, num_samples or batch_size in place of those of the config's `evaluation` section.

    Returns:
      `nats` of each example, their mean with its interval, bits/dim, and the kind of these numbers.

    Raises:
      ConfigError: the model has no likelihood, or a setting is out of its range.
      DataError: x is of another shape, or holds values that the data cannot have, or has lengths that are not given.
      NotFiniteError: the score of an example is not finite.
    """
    self._require_lengths(len(x), length)
    own = self.config.evaluation
    chosen = self.config.copy_and_resolve_references()
    chosen.evaluation.update(settings)
    check_settings(chosen)
    more = {name: np.asarray(value) for name, value in (("y", y), ("length", length), ("context", context),
                                                        ("prefix", self.prefixes(prefix))) if value is not None}
    served = self.data.serve(np.asarray(x), raw, **more)
    model = self.model if likelihood in (None, own.likelihood) else scored_by(self.model, likelihood)
    evaluation = chosen.evaluation
    batches = eval_batches(served, GIVEN, self._batch_size(served.num_examples(GIVEN), evaluation.batch_size))
    return evaluate_likelihood(
        model, self.params, self.carry, batches, key=stream_key(jax.random.key(seed), "log_likelihood", 0),
        num_draws=evaluation.num_draws, num_samples=evaluation.num_samples, num_examples=len(x))

  @highest_precision()
  def sample(self, num: int, *, seed: int = 0, labels: Int[Array | np.ndarray, " num"] | None = None,
             context: Float[Array | np.ndarray, "num width"] | None = None, prefix: Prefixes | None = None,
             **options: Any) -> np.ndarray:
    """Draw samples [num, *event], the same ones for the same seed.

    Args:
      num: how many.
      seed: of the draws.
      labels: of models given labels, one for each; by default the classes take turns.
      context: of models given a real-valued context, one for each; by default those of test examples.
      prefix: of models given captions or other tokens, likewise: texts, or numbers [num, steps].
      options: fields of the config's `sampling` section, as temperature, sampler, num_steps or guidance.

    Raise ConfigError where the model cannot sample, or has no such option.
    """
    condition = {name: rows for name, rows in (("y", labels), ("context", context), ("prefix", self.prefixes(prefix)))
                 if rows is not None}
    return np.asarray(sampling.draw(self._with_sampling({**options, "num": num, "seed": seed}), condition=condition).x)

  def prefixes(self, prefix: Prefixes | None) -> np.ndarray | None:
    """Return captions as the model's tokens [num, steps]; tokens, and None, as they are.

    Raise ConfigError where the model takes no captions, and DataError for one that has words it does not know.
    """
    if prefix is None or not isinstance(next(iter(prefix), None), str):
      return None if prefix is None else np.asarray(prefix)
    if self.data.prefix_tokenizer is None:
      raise ConfigError(f"{self.name} was trained on {self.data.name}, which has no captions; leave them out.")
    return captions.encode_prompts(self.data.prefix_tokenizer, [str(text) for text in prefix], self.spec.prefix_steps)

  @highest_precision()
  def complete(self, x: Examples, known: Bool[Array | np.ndarray, "*event"], *, seed: int = 0) -> np.ndarray:
    """Draw the unknown part of examples given the known one.

    Args:
      x: examples [num, *event]; what is unknown may hold anything that the data could.
      known: which dimensions are known, of all examples alike.
      seed: of the draws.

    Returns:
      The examples, filled in.

    Raises:
      ConfigError: the model cannot complete examples.
      DataError: x is of another shape, or holds values that the data cannot have.
      SpecError: it cannot complete this region.
    """
    if not isinstance(self.model, HasComplete):
      raise ConfigError(f"{self.name} cannot complete examples.")
    return np.asarray(sampling.complete(self, self._served(x), np.asarray(known), seed).x)

  @highest_precision()
  def encode(self, x: Examples, *, y: Int[Array | np.ndarray, " num"] | None = None,
             context: Float[Array | np.ndarray, "num width"] | None = None) -> np.ndarray:
    """Return the latents [num, *latent] of examples. Raise ConfigError where the model has none."""
    more = {name: np.asarray(rows) for name, rows in (("y", y), ("context", context)) if rows is not None}
    return self._latents.encode_examples(self._served(x), more)

  @highest_precision()
  def decode(self, z: Shaped[Array | np.ndarray, "num *latent"], *, y: Int[Array | np.ndarray, " num"] | None = None,
             context: Float[Array | np.ndarray, "num width"] | None = None) -> np.ndarray:
    """Return the examples [num, *event] of latents. Raise ConfigError where the model has none."""
    labels, contexts = (None if rows is None else np.asarray(rows) for rows in (y, context))
    return self._latents.decode(z, labels, contexts)

  def labels(self, x: Examples, *, length: Int[Array | np.ndarray, " num"] | None = None) -> Int[np.ndarray, " num"]:
    """Return the likeliest label of each example; `length` as in `log_likelihood`. Raise ConfigError where the model
    tells none."""
    return np.argmax(self.log_label_probs(x, length=length), axis=1)

  @highest_precision()
  def log_label_probs(self, x: Examples, *, length: Int[Array | np.ndarray, " num"] | None = None
                      ) -> Float[np.ndarray, "num classes"]:
    """Return log p(y | x) of every label, in nats; of a model of examples given their labels by Bayes' rule, with the
    training labels' frequencies. `length` is as in `log_likelihood`.

    Raise ConfigError where the model tells none, DataError for lengths that are not given.
    """
    _ = self._log_label_probs
    self._require_lengths(len(x), length)
    more: dict[str, Any] = {} if length is None else {"length": np.asarray(length)}
    rows = self.data.serve(np.asarray(x), **more).split(GIVEN).rows(slice(None))
    num = len(rows["x"])
    size = self._batch_size(num, self.config.evaluation.batch_size)
    found = []
    for start in range(0, num, size):
      batch = {name: jnp.asarray(filled(rows[name][start:start + size], size)) for name in ("x", *more)}
      found.append(np.asarray(self._log_label_probs(self.params, self.carry, batch)))
    return np.concatenate(found)[:num]

  def serve(self, x: Examples) -> np.ndarray:
    """Return examples in their file's values as the model sees them, with the run's transforms done."""
    return self._served(x, raw=True)

  def _require_lengths(self, num: int, length: Any) -> None:
    """Raise DataError where examples have lengths that are not given: their padding would be scored as data."""
    if self.spec.has_lengths and length is None:
      raise DataError(f"examples of {self.data.name} have lengths, and padding is no data; give length, how many steps "
                      f"of each are real: np.full({num}, {self.spec.event[0]}) where all are.")

  def _served(self, x: Examples, raw: bool = False) -> np.ndarray:
    return self.data.serve(np.asarray(x), raw).split(GIVEN).rows(slice(None))["x"]

  def _with_sampling(self, options: Mapping[str, Any]) -> "TrainedRun":
    config = self.config.copy_and_resolve_references()
    with config.unlocked():
      config.sampling.update(options)
    check_settings(config)
    return dataclasses.replace(self, config=config)

  def _batch_size(self, num: int, most: int) -> int:
    """Return a batch size for so many examples: few are padded to a power of two, so that few programs are compiled."""
    return min(most, 1 << math.ceil(math.log2(max(num, 1))))

  @functools.cached_property
  def _log_label_probs(self) -> Callable[..., Array]:
    model: Any = self.model
    if isinstance(model, HasLabelProbs):
      return jax.jit(model.log_label_probs)
    if not (isinstance(model, HasLogLikelihood) and isinstance(model, HasClasses) and model.class_conditional):
      raise ConfigError(f"{self.name} tells no labels.")
    return jax.jit(OverLabels(model, log_label_prior(self.train_labels, self.spec.num_classes or 0)).log_label_probs)

  @functools.cached_property
  def _latents(self) -> Latents:
    return Latents(self)
