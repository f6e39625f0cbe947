"""The test rows that also occur in training, told from those that don't: data that repeats rewards remembering."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from gdm.batches import padded_size
from gdm.data.dataset import Dataset
from gdm.data.loader import eval_batches
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.runs.load import load_run
from gdm.runs.workdir import Workdir
from gdm.training.streams import stream_key


class UnseenScores(NamedTuple):
  """Nats of every test row, and whether it is neither in the training nor in the validation split."""

  nats: Float[np.ndarray, " rows"]
  is_unseen: Bool[np.ndarray, " rows"]


def score(path: Path) -> UnseenScores:
  """Score the test split of the trained run in the workdir `path`, with the parameters that `evaluate` takes."""
  run = load_run(Workdir(path), {})
  settings = run.config.evaluation
  size = padded_size(run.dataset.num_examples("test"), settings.batch_size)
  likelihood = evaluate_likelihood(
      run.model, run.params, run.carry, eval_batches(run.dataset, "test", size),
      key=stream_key(jax.random.key(run.config.seed), "evaluation/test", run.step), num_draws=settings.num_draws,
      num_samples=settings.num_samples, num_examples=run.dataset.num_examples("test"))
  return UnseenScores(likelihood.nats, unseen_rows(run.dataset))


def unseen_rows(dataset: Dataset) -> Bool[np.ndarray, " rows"]:
  """Return which rows of the test split are equal to no row of the training or validation split."""
  seen = {row.tobytes() for split in ("train", "valid") for row in dataset.split(split).rows(slice(None))["x"]}
  return np.array([row.tobytes() not in seen for row in dataset.split("test").rows(slice(None))["x"]])
