"""Labels of a split: every example once, averages with their errors, and how sure the model is of what is right."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import DataError, NotFiniteError
from gdm.evaluation.classification import SplitClassification, evaluate_labels
from gdm.evaluation.report import build_report, one_line
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.likelihood import Kind
from gdm.model import HasLabelProbs

TABLE = np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])  # log p(y | x) of x = 0 and 1


@dataclasses.dataclass(frozen=True)
class Toy:
  @property
  def spec(self):
    return DataSpec((1,), 2, num_classes=3)

  def log_label_probs(self, params, carry, batch):
    return params["table"][batch["x"][:, 0]]


def found_of(batches, table=TABLE, **settings):
  return evaluate_labels(Toy(), {"table": jnp.asarray(table)}, {}, batches, **settings)


def test_padding_does_not_count():
  assert isinstance(Toy(), HasLabelProbs)
  x, y = np.array([[0], [1], [1], [0], [1], [0]]), np.array([0, 2, 1, 2, 2, 0])
  batches = [{"x": x[:4], "y": y[:4]}, {"x": x[[4, 5, 5, 5]], "y": y[[4, 5, 5, 5]], "mask": np.array([1., 1., 0., 0.])}]
  found = found_of(batches, num_examples=6)
  nats = TABLE[x[:, 0], y]
  np.testing.assert_allclose(found.nats, nats, rtol=1e-6)
  np.testing.assert_array_equal(found.right, [True, True, False, False, True, True])
  assert found.accuracy.value == 4 / 6
  np.testing.assert_allclose(found.accuracy.ci95, (0.22278, 0.95673), atol=1e-5)  # of four in six, by tables
  half = 2.570582 * nats.std(ddof=1) / np.sqrt(6)
  np.testing.assert_allclose(found.label_nats.value, nats.mean(), rtol=1e-6)
  np.testing.assert_allclose(found.label_nats.ci95, (nats.mean() - half, nats.mean() + half), rtol=1e-5)
  squares = np.square(np.exp(TABLE)[x[:, 0]] - np.eye(3)[y]).sum(axis=1)
  np.testing.assert_allclose(found.brier.value, squares.mean(), rtol=1e-6)
  with pytest.raises(DataError, match="6 examples were classified, but the split has 7"):
    found_of(batches, num_examples=7)


def test_calibration_is_off_by_the_gaps_of_the_bins():
  """Of four examples with confidence 0.65 two are right, of six with 1.0 five."""
  confidence = np.array([0.65] * 4 + [1.0] * 6)
  right = np.array([True, True, False, False] + [True] * 5 + [False])
  found = SplitClassification(np.log(confidence), right, confidence, np.zeros(10))
  np.testing.assert_allclose(found.calibration_error, 0.4 * abs(0.5 - 0.65) + 0.6 * abs(5 / 6 - 1.0))
  sure = SplitClassification(np.zeros(2), np.array([True, True]), np.ones(2), np.zeros(2))
  assert sure.calibration_error == 0.0


def test_what_cannot_be_classified_is_said():
  x = np.array([[0], [1]])
  with pytest.raises(DataError, match="no labels y"):
    found_of([{"x": x}])
  with pytest.raises(DataError, match="no examples"):
    found_of([])
  with pytest.raises(NotFiniteError, match="of example 1 is nan"):
    found_of([{"x": x, "y": np.zeros(2, int)}], table=[[0.0, 0.0, 0.0], [np.nan] * 3])


def test_the_report_says_how_many_labels_are_right():
  one = SplitClassification(np.array([-0.1]), np.array([True]), np.array([0.9]), np.array([0.02]))
  assert one.summary["nats_ci95"] is None
  np.testing.assert_allclose(one.summary["accuracy_ci95"], [0.025, 1.0])  # one that is right says little
  two = SplitClassification(np.array([-0.1, -2.3]), np.array([True, False]), np.array([0.9, 0.9]),
                            np.array([0.02, 1.62]))
  scores = SplitLikelihood(np.array([-80.0, -90.0]), np.full(2, 64), Kind.EXACT, (), 1, True)
  report = build_report(scores, model="jem", dataset="digits", split="test", step=5, data_fingerprint="ab",
                        parameters="ema", num_params=3, train_seconds=1.0, evaluation={}, labels=two.summary)
  assert set(report["labels"]) == {"accuracy", "accuracy_ci95", "nats_mean", "nats_ci95", "calibration_error", "brier",
                                   "brier_ci95"}
  assert one_line(report).endswith("step 5, 0.5000 [0.0126, 0.9874] of labels right)")
