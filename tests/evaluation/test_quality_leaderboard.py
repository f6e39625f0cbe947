"""Samples rank by their distance from the same data on the same features, with what the data score last."""

import json

import pytest

from gdm.errors import ConfigError, DataError, WorkdirError
from gdm.evaluation import leaderboard
from gdm.evaluation.quality_leaderboard import collect, render


def number(value):
  return {"value": value, "ci95": [value - 0.1, value + 0.1]}


def row(name, distance):
  return {"name": name, "num": 50, "squared": {"cubic": number(distance), "gaussian": number(distance)}}


def write(folder, model, distance, frechet=None, features="pixels"):
  folder.mkdir(parents=True)
  measures = {} if frechet is None else {"frechet": {"rows": {"samples": number(frechet), "train data": number(0.01)}}}
  (folder / "quality_test.json").write_text(json.dumps({
      "model": model, "dataset": "digits", "split": "test", "num_data": 300, "data_fingerprint": "ab" * 16,
      "features": {"name": features}, "rows": [row("samples", distance)], "floor": row("train data", 0.0),
      "measures": measures}))


def test_the_nearest_is_first_and_data_last(tmp_path):
  for name, distance in (("far", 0.5), ("near", 0.1)):
    write(tmp_path / name, name, distance)
  table, = collect([tmp_path])
  assert [each.model for each in table.rows] == ["near", "far", "data"]
  text = render([table])
  assert "100.00 ± 100.00" in text and "Fréchet" not in text  # a column that is empty is left out
  assert render([table], "markdown").count("|") > 12


def test_a_frechet_distance_of_all_decides(tmp_path):
  write(tmp_path / "a", "a", 0.5, frechet=1.0)
  write(tmp_path / "b", "b", 0.1, frechet=2.0)
  table, = collect([tmp_path])
  assert [each.model for each in table.rows] == ["a", "b", "data"]


def test_other_features_make_another_table(tmp_path):
  write(tmp_path / "a", "a", 0.5)
  write(tmp_path / "b", "b", 0.1, features="runs/cnn")
  assert len(collect([tmp_path])) == 2 and collect([tmp_path], split="valid") == []


def test_what_cannot_be_read_is_named(tmp_path):
  write(tmp_path / "a", "a", 0.5)
  path = tmp_path / "a" / "quality_test.json"
  path.write_text("{}")
  with pytest.raises(DataError, match="is no report of quality: model is missing"):
    collect([tmp_path])
  path.write_text("{")
  with pytest.raises(DataError, match="cannot read"):
    collect([tmp_path])
  with pytest.raises(ConfigError, match="format is 'csv'"):
    render([], "csv")
  with pytest.raises(WorkdirError, match="no likelihood"):
    leaderboard.collect([tmp_path])
