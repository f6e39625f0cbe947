"""Reports of labels come back as written, and rank by accuracy with what shares their split."""

import json

import numpy as np
import pytest

from gdm.errors import ConfigError, DataError
from gdm.evaluation.classification import SplitClassification
from gdm.evaluation.label_leaderboard import collect, render
from gdm.evaluation.label_report import build_label_report, label_line, read_label_report
from gdm.evaluation.report import write_report


def write(folder, model, num_right, fingerprint="ab", num=20, name="labels_test"):
  right = np.arange(num) < num_right
  found = SplitClassification(np.full(num, -0.3), right, np.full(num, 0.8), np.full(num, 0.1))
  folder.mkdir(parents=True)
  report = build_label_report(found, model=model, dataset="digits", split="test", step=5, data_fingerprint=fingerprint,
                              parameters="live", num_params=7, train_seconds=1.0, evaluation={"batch_size": 5})
  write_report(folder / f"{name}.json", report)
  return report


def test_what_was_written_is_read_and_said(tmp_path):
  report = write(tmp_path / "a", "cnn", 18)
  assert read_label_report(tmp_path / "a" / "labels_test.json") == report
  line = label_line(report)
  assert "0.9000 [" in line and "-0.3000 ± 0.0000 nats" in line and "calibration error 0.1000" in line
  assert line.endswith("no p(x))")


def test_the_most_accurate_is_first_and_other_data_has_a_table_of_its_own(tmp_path):
  for place, (right, fingerprint) in enumerate(((15, "ab"), (18, "ab"), (20, "cd"))):
    write(tmp_path / str(place), f"model_{place}", right, fingerprint)
  tables = collect([tmp_path])
  assert [[row.report["model"] for row in table.rows] for table in tables] == [["model_1", "model_0"], ["model_2"]]
  text = render(tables)
  assert text.index("model_1") < text.index("model_0") < text.index("model_2") and text.count("p(y | x)") == 2
  assert render(tables, "markdown").count("p(y \\| x)") == 2
  assert [line.split(",")[4:6] for line in render(tables, "csv").splitlines()[1:]] == [
      ["1", "model_1"], ["2", "model_0"], ["1", "model_2"]]
  assert collect([tmp_path], "valid") == []
  with pytest.raises(ConfigError, match="format is 'html'"):
    render(tables, "html")


def test_damaged_reports_are_named(tmp_path):
  report = write(tmp_path / "a", "cnn", 18)
  path = tmp_path / "a" / "labels_test.json"
  for text, words in (("{", "is no report of labels"), ("[]", "model is missing"), ("3", "is no report of labels"),
                      (json.dumps({**report, "labels": {}}), "labels.accuracy is missing"),
                      (json.dumps({**report, "labels": None}), "is no report of labels")):
    path.write_text(text)
    with pytest.raises(DataError, match=words):
      read_label_report(path)
  with pytest.raises(DataError, match="cannot read"):
    read_label_report(tmp_path / "nowhere.json")
