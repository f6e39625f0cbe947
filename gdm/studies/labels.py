"""Labels of samples by a classifier of ours, whose own accuracy is stated beside them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Num

from gdm.batches import filled, padded_size
from gdm.errors import ConfigError
from gdm.evaluation.intervals import Measured, share_interval
from gdm.model import HasLabelProbs
from gdm.precision import at_highest_precision
from gdm.runs.features import about_run, require_folder, require_same_event, served
from gdm.runs.load import open_run
from gdm.runs.sound import as_heard, can_hear
from gdm.runs.trained import TrainedRun

_MOST = 10_000  # of the classifier's own test examples


class OwnAccuracy(NamedTuple):
  """Accuracy of a classifier on its own data, and which split of which data these are."""

  accuracy: Measured
  data: str
  split: str


class Labeler:
  """Labels by a trained run that tells them.

  Of images with three channels, a classifier of one channel with the same levels labels each of them, and a label is
  the number that the three make, as of stacked MNIST: 1,000 labels by ten digits.

  Of sound, and of spectrograms, what is labelled is what a listener hears: the sound, which of a spectrogram is made
  first.

  Args:
    folder: of the classifier's run.
    run: the run whose samples are labelled.

  Raises:
    ConfigError: its model tells no labels.
    SpecError: it is of other data.
    WorkdirError, CheckpointError: the folder holds no run.
  """

  def __init__(self, folder: str, run: TrainedRun) -> None:
    require_folder("--classifier", folder, "the workdir of a classifier's run")
    other = open_run(folder)
    model = other.model
    if not isinstance(model, HasLabelProbs) or not other.spec.num_classes:
      raise ConfigError(f"--classifier is {folder!r}, whose model {other.config.model.name} tells no labels; name a "
                        "run of a classifier.")
    theirs, ours = other.spec, run.spec
    self.is_stacked = (theirs.is_image and ours.is_image and theirs.levels == ours.levels
                       and theirs.event[-1] == 1 and ours.event == (*theirs.event[:2], 3))
    self.is_heard = can_hear(other.data, run.data)
    if not (self.is_stacked or self.is_heard):
      require_same_event("--classifier", folder, other, run)
    self._data = run.data
    self.folder, self._run = folder, other
    self.num_classes = theirs.num_classes or 0
    self.num_labels = self.num_classes ** (3 if self.is_stacked else 1)
    self._likeliest = jax.jit(lambda x: jnp.argmax(model.log_label_probs(other.params, other.carry, {"x": x}), axis=1))

  @property
  def about(self) -> dict[str, Any]:
    """Facts for a report."""
    return {"classifier": self.folder, **about_run(self._run)}

  def __call__(self, x: Num[np.ndarray, "num *event"]) -> Int[np.ndarray, " num"]:
    """Return the likeliest label of each example."""
    if self.is_heard:
      return self._of_batches(as_heard(self._run.data, self._data, x))
    if not self.is_stacked:
      return self._of_batches(x)
    labels = np.zeros(len(x), int)
    for channel in range(x.shape[-1]):
      labels = labels * self.num_classes + self._of_batches(x[..., channel:channel + 1])
    return labels

  def own_accuracy(self) -> OwnAccuracy:
    """Return the accuracy on the classifier's own test split, or validation split where there is no test split."""
    dataset = self._run.dataset
    split = "test" if "test" in dataset.splits else "valid"
    num = dataset.num_examples(split)
    rows = dataset.split(split).rows(np.linspace(0, num - 1, min(num, _MOST)).astype(int))
    return OwnAccuracy(accuracy(self._of_batches(rows["x"]), rows["y"]), dataset.name, split)

  @at_highest_precision
  def _of_batches(self, x: np.ndarray) -> np.ndarray:
    size = padded_size(len(x), self._run.config.evaluation.batch_size)
    parts = [x[start:start + size] for start in range(0, len(x), size)]
    return np.concatenate([np.asarray(self._likeliest(filled(served(part, self._run), size)))[:len(part)].astype(int)
                           for part in parts])


def accuracy(labels: Int[np.ndarray, " num"], asked: Int[np.ndarray, " num"]) -> Measured:
  """Return the share of labels that are those asked for, with Clopper and Pearson's interval."""
  share = float(np.mean(labels == asked))
  return Measured(share, share_interval(share, len(labels)))
