"""Rows of other programs stand in one table with ours, and reports say why they can or cannot be compared."""

import json
import re

import numpy as np
import pytest
import scipy.stats
from helpers.commands import ROOT

from gdm.data.load import load_dataset
from gdm.errors import ConfigError, DataError, NotFiniteError, WorkdirError
from gdm.evaluation import add_row, leaderboard
from gdm.evaluation.comparability import compare_reports
from gdm.evaluation.report import read_report


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  rng = np.random.default_rng(0)
  path = tmp_path_factory.mktemp("rows") / "table.npz"
  np.savez(path, **{name: rng.normal(size=(num, 3)) * [1, 10, 0.1] for name, num in (("train", 300), ("valid", 50),
                                                                                   ("test", 80))})
  return path


@pytest.fixture(scope="module")
def workdir(commands, table, tmp_path_factory):
  folder = tmp_path_factory.mktemp("ours") / "mixture"
  commands.good("train", f"--config={ROOT}/configs/baselines/gaussian_mixture.py:npz", f"--workdir={folder}",
                f"--config.data.path={table}", "--config.model.num_components=1")
  commands.good("evaluate", f"--workdir={folder}")
  return folder


def gaussian(data):
  train, test = (data.split(name)["x"].astype(np.float64) for name in ("train", "test"))
  return scipy.stats.multivariate_normal(train.mean(axis=0), np.cov(train.T)).logpdf(test)


def test_a_scorer_in_numpy_stands_in_one_table_with_a_model(commands, table, workdir):
  data = load_dataset(f"npz:{table}", transforms=("standardize?", "standardize_context?", "blocks"))
  nats = gaussian(data)
  add_row(workdir.parent / "numpy", nats, data, "test", num_params=9)
  (ranking,) = leaderboard.with_differences(leaderboard.collect([workdir.parent]), "numpy")
  assert {row.report["model"] for row in ranking.rows} == {"numpy", "gaussian_mixture"}
  ours = next(row for row in ranking.rows if row.report["model"] == "gaussian_mixture")
  expected = ours.scores.nats - nats
  np.testing.assert_allclose(ours.difference.mean, expected.mean(), atol=1e-6)
  half = scipy.stats.t.ppf(0.975, 79) * expected.std(ddof=1) / np.sqrt(80)
  np.testing.assert_allclose(ours.difference.ci95[1] - ours.difference.ci95[0], 2 * half, rtol=1e-5)
  said = commands.good("compare", str(workdir), str(workdir.parent / "numpy"))
  assert "they share a table." in said and "paired over 80 examples" in said
  assert "another dtype: float32 there, float64 here" in said


@pytest.mark.parametrize(("change", "words"), [
    ({"data_fingerprint": "00"}, "other data"),
    ({"data_fingerprint": "00", "transforms": ["quantize:4"]}, "other transforms: .* there, quantize:4 here"),
    ({"split": "valid"}, "other splits: test there, valid here"),
    ({"given": ["y"]}, "another condition: given nothing there, given y here"),
    ({"num_examples": 7}, "another number of examples: 80 there, 7 here"),
    ({"num_dims": 2}, "another number of scored dimensions"),
    ({"bits_per_dim": 1.0}, "a mass and a density: density there, mass here"),
])
def test_what_keeps_reports_apart_is_named(workdir, change, words):
  report = read_report(workdir / "likelihood_test.json")
  found = compare_reports(report, {**report, **change})
  assert any(re.search(words, each) for each in found.apart) and not found.beside
  assert compare_reports(report, report) == ((), ())


@pytest.mark.parametrize(("change", "words"), [
    ({"kind": "lower_bound"}, "another kind: exact there, lower bound here"),
    ({"num_draws": 10}, "other draws: 1 there, 10 here"),
    ({"evaluation": {"num_samples": 50}}, "other importance samples: 1 there, 50 here"),
    ({"precision": "default"}, "another precision of products: highest there, default here"),
])
def test_what_a_reader_must_know_is_named(workdir, change, words):
  report = read_report(workdir / "likelihood_test.json")
  found = compare_reports(report, {**report, **change})
  assert found == ((), (words,))


def test_rows_that_cannot_be_are_errors(tmp_path, table, workdir):
  data = load_dataset(f"npz:{table}")
  good = np.zeros(80)
  for folder, nats, options, error, words in (
      (tmp_path / "a", good[:7], {}, DataError, "80 examples"),
      (tmp_path / "a", np.where(np.arange(80) == 3, np.nan, good), {}, NotFiniteError, "example 3"),
      (tmp_path / "a", good, {"kind": "guess"}, ConfigError, "must be one of exact"),
      (tmp_path / "a", good, {"split": "tset"}, DataError, "did you mean 'test'"),
      (workdir, good, {}, WorkdirError, "workdir of a trained run"),
  ):
    with pytest.raises(error, match=words):
      add_row(folder, nats, data, **options)
  assert not (tmp_path / "a").exists()


def test_a_row_of_bounds_says_so(tmp_path):
  data = load_dataset("digits")
  path = add_row(tmp_path / "bound", np.full(300, -90.0), data, kind="lower_bound", num_draws=5, model="theirs")
  report = json.loads(path.read_text())
  assert (report["kind"], report["model"], report["num_draws"]) == ("lower_bound", "theirs", 5)
  np.testing.assert_allclose(report["bits_per_dim"], 90 / 64 / np.log(2))
  assert leaderboard.collect([tmp_path])[0].rows[0].report["data_fingerprint"] == data.fingerprint("test")
