"""The report of a model that tells labels and has no p(x): `labels_<split>.json`, and one line."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gdm.errors import DataError
from gdm.evaluation.classification import SplitClassification
from gdm.evaluation.intervals import brackets, plus_minus
from gdm.evaluation.report import Report
from gdm.precision import HIGHEST

LABELS = ("accuracy", "accuracy_ci95", "nats_mean", "nats_ci95", "calibration_error", "brier", "brier_ci95")
FIELDS = ("model", "dataset", "split", "step", "labels", "num_examples", "data_fingerprint", "parameters", "num_params",
          "train_seconds")


def build_label_report(labels: SplitClassification, *, model: str, dataset: str, split: str, step: int,
                       data_fingerprint: str, parameters: str, num_params: int, train_seconds: float,
                       evaluation: Mapping[str, Any]) -> Report:
  """Return the content of `labels_<split>.json`; the arguments are those of `gdm.evaluation.report.build_report`."""
  return {
      "model": model, "dataset": dataset, "split": split, "step": int(step), "labels": labels.summary,
      "num_examples": len(labels.nats), "data_fingerprint": data_fingerprint, "parameters": parameters,
      "num_params": int(num_params), "train_seconds": float(train_seconds), "precision": HIGHEST,
      "evaluation": dict(evaluation)}


def read_label_report(path: str | os.PathLike) -> Report:
  """Read a report of labels. Raise DataError, naming the file and the field, unless it is whole."""
  try:
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    missing = [name for name in FIELDS if name not in report] or [
        f"labels.{name}" for name in LABELS if name not in report["labels"]]
  except OSError as error:
    raise DataError(f"cannot read {path}: {error.strerror}.") from error
  except (ValueError, TypeError) as error:  # not JSON, not UTF-8, or no object
    raise DataError(f"{path} is no report of labels ({error}); evaluate again to replace it.") from error
  if missing:
    raise DataError(f"{path} is no report of labels: {missing[0]} is missing; evaluate again to replace it.")
  return report


def label_line(report: Report) -> str:
  """Return the report for a terminal."""
  labels = report["labels"]
  subject = " · ".join([report["model"], report["dataset"], report["split"]])
  return (f"{subject}: {brackets(labels['accuracy'], labels['accuracy_ci95'])} of labels right (log p(y | x) "
          f"{plus_minus(labels['nats_mean'], labels['nats_ci95'])} nats, calibration error "
          f"{labels['calibration_error']:.4f}, Brier score {plus_minus(labels['brier'], labels['brier_ci95'])}, 95 % "
          f"intervals, {report['num_examples']:,} examples, {report['parameters']}, step {report['step']}; no p(x))")
