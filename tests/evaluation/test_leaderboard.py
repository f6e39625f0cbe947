"""Tables never mix what cannot be compared, and stand best first."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdm.errors import ConfigError, DataError, WorkdirError
from gdm.evaluation.leaderboard import (
  ScoredRow,
  SeededRun,
  SeedMean,
  collect,
  with_differences,
  with_seed_means,
)
from gdm.evaluation.leaderboard_tables import latex_escape, render
from gdm.evaluation.report import write_report
from gdm.evaluation.scores import write_scores
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.likelihood import Kind


def write(workdir, nats=-85.0, **fields):
  report = {"model": "made", "dataset": "digits", "split": "test", "step": 5000, "kind": "exact", "given": [],
            "nats_mean": nats, "nats_stderr": 1.0, "nats_ci95": [nats - 1.96, nats + 1.96],
            "bits_per_dim": -nats / 44.0, "bits_per_dim_stderr": 0.02,
            "bits_per_dim_ci95": [-nats / 44.0 - 0.0392, -nats / 44.0 + 0.0392], "num_examples": 300, "num_dims": 64,
            "num_draws": 1, "data_fingerprint": "ab12", "parameters": "ema", "num_params": 12345,
            "train_seconds": 61.25} | fields
  if report["bits_per_dim"] is None:
    report["bits_per_dim_ci95"] = None
  workdir.mkdir(parents=True, exist_ok=True)
  write_report(workdir / f"likelihood_{report['split']}.json", report)
  return workdir


def models(tables):
  return [[row.report["model"] for row in table.rows] for table in tables]


def test_best_stands_first(tmp_path):
  write(tmp_path / "a", -90.0, model="independent")
  write(tmp_path / "b", -70.0, model="nade")
  write(tmp_path / "deep" / "er" / "c", -80.0, model="made")
  assert models(collect([tmp_path])) == [["nade", "made", "independent"]]


@pytest.mark.parametrize("fields", [
    {"data_fingerprint": "cd34"}, {"given": ["y"]}, {"split": "valid"}, {"num_examples": 299}, {"num_dims": 63},
    {"num_dims": 64 - 1 / 300}])
def test_what_cannot_be_compared_never_shares_a_table(tmp_path, fields):
  write(tmp_path / "a", model="first")
  write(tmp_path / "b", model="second", **fields)
  tables = collect([tmp_path])
  assert sorted(models(tables)) == [["first"], ["second"]]
  text = render(tables)
  assert text.count("bits/dim") == 2
  assert ("log p(x | y)" in text) == ("given" in fields)


def test_the_same_data_are_one_table_whatever_the_file_is_called(tmp_path):
  write(tmp_path / "a", model="first", dataset="npz:digits")
  write(tmp_path / "b", -70.0, model="second", dataset="npz:copy")
  write(tmp_path / "c", model="third", dataset="npz:another", data_fingerprint="cd34")
  tables = collect([tmp_path])
  assert models(tables) == [["third"], ["second", "first"]]
  assert render(tables[1:]).startswith("npz:copy, npz:digits · test · 300 examples · data ab12\n")


def test_a_report_found_twice_counts_once(tmp_path):
  write(tmp_path / "runs" / "a")
  write(tmp_path / "runs" / "b", -80.0)
  [table] = collect([tmp_path, tmp_path / "runs", tmp_path / "runs" / "a"])
  assert [row.run for row in table.rows] == ["b", "a"]


def test_split_chooses(tmp_path):
  write(tmp_path / "a")
  write(tmp_path / "a", split="valid")
  assert [table.first["split"] for table in collect([tmp_path], split="valid")] == ["valid"]
  assert len(collect([tmp_path])) == 2


def test_text_lines_up_and_marks_bounds(tmp_path):
  write(tmp_path / "a", -90.0, model="vae", kind="lower_bound", num_draws=16)
  write(tmp_path / "b", -110.125, model="independent", parameters="live", num_params=64)
  title, *lines = render(collect([tmp_path])).splitlines()
  assert title == "digits · test · 300 examples · data ab12"
  assert [line[:74] for line in lines] == [
      "model          bits/dim ± 95 %          nats ± 95 %  kind         params  ",
      "───────────  ─────────────────  ───────────────────  ───────────  ──────  ",
      "vae          ≤ 2.0455 ± 0.0392  ≥ -90.0000 ± 1.9600  lower bound  12,345  ",
      "independent    2.5028 ± 0.0392   -110.1250 ± 1.9600  exact            64  ",
  ]
  assert [line[74:].split() for line in lines[2:]] == [["61.2", "16", "ema", "a"], ["61.2", "1", "live", "b"]]


@pytest.mark.parametrize("kind", ["estimate", "upper_bound", "lower_bound_of_sampler"])
def test_what_may_be_better_than_its_model_wins_over_nothing_that_may_not(tmp_path, kind):
  for name, nats, of in (("a", -60.0, kind), ("b", -90.0, "lower_bound"), ("c", -80.0, "exact"), ("d", -70.0, kind)):
    write(tmp_path / name, nats, kind=of)
  tables = collect([tmp_path])
  assert [row.run for row in tables[0].rows] == ["c", "b", "a", "d"]
  assert "Numbers that may be better than their models stand below the others: a, d." in render(tables)
  for name in "bc":
    (tmp_path / name / "likelihood_test.json").unlink()
  assert "stand below" not in render(collect([tmp_path]))  # where they are alone, they are ranked as they are


def test_continuous_tables_are_in_nats(tmp_path):
  write(tmp_path / "a", -2.5, bits_per_dim=None, bits_per_dim_stderr=None)
  text = render(collect([tmp_path]))
  assert "bits" not in text
  assert "-2.5000 ± 1.9600" in text


def test_narrow_terminals_shorten_the_runs_alone(tmp_path):
  for name in ("a", "b"):
    write(tmp_path / "autoregressive" / "a-very-long-name-of-an-experiment-that-goes-on-and-on" / name)
  write(tmp_path / "c")
  wide, narrow = (render(collect([tmp_path]), width=width).splitlines() for width in (None, 110))
  assert max(map(len, wide)) > 110
  assert max(map(len, narrow)) == 110
  assert narrow[3].endswith("goes-on-and-on/a")
  assert "…" in narrow[3]


def test_markdown_is_a_table_for_each_group(tmp_path):
  write(tmp_path / "a", model="x|y")
  write(tmp_path / "b", data_fingerprint="cd34")
  lines = render(collect([tmp_path]), "markdown").splitlines()
  assert sum(line.startswith("**digits · test") for line in lines) == 2
  rows = [line for line in lines if line.startswith("|")]
  assert len(rows) == 6
  assert {line.replace("\\|", "").count("|") for line in rows} == {10}


def test_csv_keeps_full_precision_and_says_which_table(tmp_path):
  write(tmp_path / "a", -1 / 3, given=["y"])
  write(tmp_path / "b", bits_per_dim=None, bits_per_dim_stderr=None)
  write(tmp_path / "c", -90.0, bits_per_dim=None, bits_per_dim_stderr=None)
  rows = list(csv.DictReader(io.StringIO(render(collect([tmp_path]), "csv"))))
  assert [(row["given"], row["rank"], row["run"]) for row in rows] == [("", "1", "b"), ("", "2", "c"), ("y", "1", "a")]
  assert float(rows[2]["nats_mean"]) == -1 / 3
  assert rows[0]["bits_per_dim"] == ""


def test_errors_name_the_folder_the_file_and_the_format(tmp_path):
  with pytest.raises(WorkdirError, match="nowhere is not a folder"):
    collect([tmp_path / "nowhere"])
  with pytest.raises(WorkdirError, match=r"no likelihood_\*\.json in"):
    collect([tmp_path])
  write(tmp_path / "a")
  with pytest.raises(WorkdirError, match=r"no likelihood_valid\.json"):
    collect([tmp_path], split="valid")
  with pytest.raises(ConfigError, match="did you mean 'markdown'"):
    render(collect([tmp_path]), "markdwon")
  (tmp_path / "a" / "likelihood_valid.json").write_text("{")
  with pytest.raises(DataError, match=r"a/likelihood_valid\.json"):
    collect([tmp_path])


# Means over seeds


def seeded(tmp_path, runs):
  """Tables with means of {name: (setting, seed, nats, fields)}."""
  trials = {}
  for name, (setting, seed, nats, fields) in runs.items():
    trials[write(tmp_path / name, nats, **fields).resolve()] = SeededRun(setting, seed)
  return with_seed_means(collect([tmp_path]), trials)


def test_means_and_standard_errors_over_seeds(tmp_path):
  small, large = [-85.0, -84.0, -85.5], [-80.0, -80.25]
  [table] = seeded(tmp_path, {
      **{f"hidden=10,seed={seed}": ("small", seed, nats, {}) for seed, nats in enumerate(small)},
      **{f"hidden=20,seed={seed}": ("large", seed, nats, {}) for seed, nats in enumerate(large)},
      "alone": ("else", 0, -90.0, {})})
  assert len(table.rows) == 6
  assert [(mean.run, mean.num_seeds) for mean in table.means] == [
      ("hidden=20,seed=*", 2), ("hidden=10,seed=*", 3), ("alone", 1)]
  for mean, nats, quantile in zip(table.means, (large, small), (12.706205, 4.302653), strict=False):
    stderr = np.std(nats, ddof=1) / np.sqrt(len(nats))
    np.testing.assert_allclose(mean.nats, (np.mean(nats), stderr, quantile * stderr), rtol=1e-6)
    np.testing.assert_allclose(mean.bits_per_dim, np.array([-np.mean(nats), stderr, quantile * stderr]) / 44.0)
  assert table.means[-1].nats == (-90.0, None, None) and table.means[-1].bits_per_dim[1:] == (None, None)
  lines = render([table]).splitlines()[-5:]
  assert [re.split("  +", line)[:4] for line in lines] == [
      ["model", "over", "bits/dim ± 95 % over seeds", "nats ± 95 % over seeds"],
      ["─────", "───────────────", "──────────────────────────", "──────────────────────"],
      ["made", "mean of 2 seeds", "1.8210 ± 0.0361", "-80.1250 ± 1.5883"],
      ["made", "mean of 3 seeds", "1.9280 ± 0.0431", "-84.8333 ± 1.8973"],
      ["made", "1 seed", "2.0455", "-90.0000"]]
  assert "| made | mean of 2 seeds | 1.8210 ± 0.0361 | -80.1250 ± 1.5883 |" in render([table], "markdown")
  assert max(map(len, render([table], width=115).splitlines())) <= 115


@pytest.mark.parametrize("fields", [
    {"data_fingerprint": "cd34"}, {"given": ["y"]}, {"dataset": "mnist"}, {"num_examples": 299},
    {"kind": "lower_bound"}, {"num_draws": 16}, {"parameters": "live"}, {"model": "nade"},
    {"evaluation": {"num_samples": 5}}, {"bits_per_dim": None, "bits_per_dim_stderr": None}])
def test_a_mean_is_of_one_kind_of_number(tmp_path, fields):
  tables = seeded(tmp_path, {"a": ("same", 0, -80.0, {}), "b": ("same", 1, -82.0, fields)})
  assert all(table.means == () for table in tables)  # no setting has several seeds


def test_splits_have_means_of_their_own(tmp_path):
  trials = {}
  for seed in (0, 1):
    workdir = write(tmp_path / str(seed), -80.0 - seed)
    trials[write(workdir, -70.0 - seed, split="valid").resolve()] = SeededRun("same", seed)
  means = [mean for table in with_seed_means(collect([tmp_path]), trials) for mean in table.means]
  assert [mean.nats.mean for mean in means] == [-80.5, -70.5]


def test_runs_of_one_seed_count_once(tmp_path):
  [table] = seeded(tmp_path, {"a": ("same", 0, -80.0, {}), "again": ("same", 0, -80.0, {}),
                              "b": ("same", 1, -83.0, {})})
  [mean] = table.means
  assert (mean.num_seeds, mean.nats.mean, len(mean.rows)) == (2, -81.5, 3)
  np.testing.assert_allclose(mean.nats.stderr, 1.5)


def test_what_is_not_known_stands_alone(tmp_path):
  runs = {"a": ("same", 0, -80.0, {}), "b": ("same", 1, -82.0, {})}
  write(tmp_path / "foreign", -70.0)
  [table] = seeded(tmp_path, runs)
  assert [(mean.run, mean.num_seeds) for mean in table.means] == [("foreign", 1), ("*", 2)]
  [table] = with_seed_means(collect([tmp_path]), {})
  assert table.means == ()


def test_bounds_stay_bounds_and_densities_have_no_bits(tmp_path):
  fields = {"kind": "lower_bound", "bits_per_dim": None, "bits_per_dim_stderr": None}
  [table] = seeded(tmp_path, {f"seed_{seed}": ("same", seed, -80.0 - seed, fields) for seed in range(2)})
  text = render([table])
  assert "≥ -80.5000 ± 6.3531" in text and "seed_*" in text and "bits" not in text


def test_means_in_the_sheet(tmp_path):
  [table] = seeded(tmp_path, {f"seed={seed}": ("same", seed, -80.0 - seed, {}) for seed in range(3)})
  *runs, mean = csv.DictReader(io.StringIO(render([table], "csv")))
  assert [row["num_seeds"] for row in (*runs, mean)] == ["", "", "", "3"]
  assert (mean["run"], mean["rank"], float(mean["nats_mean"])) == ("seed=*", "1", -81.0)
  np.testing.assert_allclose(float(mean["nats_seeds_stderr"]), 1 / np.sqrt(3))
  np.testing.assert_allclose(float(mean["nats_seeds_half"]), 4.302653 / np.sqrt(3), rtol=1e-6)
  assert [float(runs[0][f"nats_{end}"]) for end in ("low", "high")] == [-81.96, -78.04]
  assert mean["nats_stderr"] == ""
  assert "seeds" not in render(collect([tmp_path]), "csv")


@given(start=st.sampled_from(["", "made/", "lr=0.1,"]), end=st.sampled_from(["", "/b", ",x=1"]),
       seeds=st.lists(st.integers(0, 1000), unique=True, min_size=2, max_size=4))
def test_a_mean_is_called_by_what_its_runs_share(start, end, seeds):
  rows = tuple(ScoredRow(f"{start}seed={seed}{end}", {}, Path(str(seed))) for seed in seeds)
  assert SeedMean(rows, tuple(seeds)).run == f"{start}seed=*{end}"


def scored(workdir, nats, model, kind=Kind.EXACT, **fields):
  """A run's report with its scores."""
  likelihood = SplitLikelihood(np.asarray(nats, float), np.full(len(nats), 64), kind, (), 1, discrete=True)
  write(workdir, likelihood.nats_mean, bits_per_dim=likelihood.bits_per_dim, model=model, num_examples=len(nats),
        kind=kind, **fields)
  write_scores(workdir / "scores_test.npz", likelihood)


def test_differences_are_paired_by_example(tmp_path):
  scored(tmp_path / "a", [-80.0, -90.0, -100.0], "made")
  scored(tmp_path / "b", [-79.0, -88.0, -99.0], "nade")
  write(tmp_path / "c", -70.0, model="fvsbn", num_examples=3)  # without scores
  [table] = with_differences(collect([tmp_path]), "made")
  found = {row.report["model"]: row.difference for row in table.rows}
  np.testing.assert_allclose(found["nade"].mean, -4.0 / 3 / (64 * np.log(2.0)))
  np.testing.assert_allclose(found["nade"].stderr, np.std([1, 2, 1], ddof=1) / np.sqrt(3) / (64 * np.log(2.0)))
  assert found["made"] == (0.0, 0.0, (0.0, 0.0), Kind.EXACT) and found["fvsbn"] is None
  text = render([table])
  assert "bits/dim - made ± 95 %" in text and "-0.0301 ± 0.0323" in text and "difference is" not in text
  [_, sheet, *_] = csv.DictReader(io.StringIO(render([table], "csv")))
  assert sheet["against"] == "made" and float(sheet["difference"]) == found["nade"].mean
  assert (float(sheet["difference_low"]), float(sheet["difference_high"])) == found["nade"].ci95
  assert sheet["difference_kind"] == "exact"
  with pytest.raises(ConfigError, match="against is 'mode', of which there are no scores; did you mean 'made'"):
    with_differences(collect([tmp_path]), "mode")


def test_a_single_example_has_no_difference(tmp_path):
  scored(tmp_path / "a", [-80.0], "made")
  with pytest.raises(ConfigError, match="against is 'made', but a single example was scored, whose difference has no"):
    with_differences(collect([tmp_path]), "made")


@pytest.mark.parametrize(("kind", "base", "relation", "words"), [
    (Kind.LOWER_BOUND, Kind.EXACT, "≤ -0.0301", "lower bound"),
    (Kind.EXACT, Kind.LOWER_BOUND, "≥ -0.0301", "upper bound"),
    (Kind.LOWER_BOUND, Kind.LOWER_BOUND, "≈ -0.0301", "estimate"), (Kind.ESTIMATE, Kind.EXACT, "≈ -0.0301", "estimate"),
    (Kind.UPPER_BOUND, Kind.LOWER_BOUND, "≥ -0.0301", "upper bound"),
    (Kind.SAMPLER_BOUND, Kind.EXACT, "≈ -0.0301", "lower bound of sampler")])
def test_a_difference_of_unlike_kinds_is_no_more_than_a_bound(tmp_path, kind, base, relation, words):
  scored(tmp_path / "a", [-80.0, -90.0, -100.0], "made", base)
  scored(tmp_path / "b", [-79.0, -88.0, -99.0], "nade", kind)
  [table] = with_differences(collect([tmp_path]), "made")
  text, markdown, sheet = (render([table], style) for style in ("text", "markdown", "csv"))
  assert f"{relation} ± 0.0323  {words} " in text and "difference is" in text and "itself no more than that" in text
  assert f"| {relation} ± 0.0323 | {words} |" in markdown and "itself no more than that" in markdown
  assert re.search(r"  \+?0\.0000 ± 0\.0000  exact ", text)  # from itself, whatever it is
  kinds = {row["model"]: row["difference_kind"] for row in csv.DictReader(io.StringIO(sheet))}
  assert kinds == {"nade": words.replace(" ", "_"), "made": "exact"}


def test_skewed_scores_are_named_below_the_table(tmp_path):
  write(tmp_path / "a", is_interval_doubtful=True)
  write(tmp_path / "b", -90.0)
  for style in ("text", "markdown"):
    assert render(collect([tmp_path]), style).endswith("so that intervals cover 95 % at most: a.\n")


def test_probabilities_of_cells_stand_beside_densities(tmp_path):
  cells = {"kind": "lower_bound", "nats_mean": -9.0, "nats_ci95": [-9.5, -8.5]}
  fields = {"bits_per_dim": None, "bits_per_dim_stderr": None}
  write(tmp_path / "a", 20.0, recording={"unbounded": True, "repeated_share": 0.98, "cells": cells}, **fields)
  write(tmp_path / "b", -3.0, **fields)
  text, markdown, sheet = (render(collect([tmp_path]), style) for style in ("text", "markdown", "csv"))
  assert "nats of cells ± 95 %" in text and "≥ -9.0000 ± 0.5000" in text and "| ≥ -9.0000 ± 0.5000 |" in markdown
  assert "98 % of values repeat, so that densities have no upper bound" in text
  assert [row["cells_nats_mean"] for row in csv.DictReader(io.StringIO(sheet))] == ["-9.0", ""]
  write(tmp_path / "plain" / "c")
  assert "cells" not in render(collect([tmp_path / "plain"]))


def test_differences_of_means_over_seeds(tmp_path):
  scored(tmp_path / "a0", [-80.0, -90.0, -100.0], "made")
  for seed, nats in enumerate([[-79.0, -88.0, -99.0], [-79.0, -90.0, -97.0]]):
    scored(tmp_path / f"b{seed}", nats, "nade")
  trials = {(tmp_path / name).resolve(): SeededRun(name[0], int(name[1])) for name in ("a0", "b0", "b1")}
  [table] = with_differences(with_seed_means(collect([tmp_path]), trials), "a0")
  [nade, made] = table.means
  unit = 64 * np.log(2.0)
  np.testing.assert_allclose(nade.difference.mean, -(1 + 1 + 2) / 3 / unit)
  over_examples = 4.302653 * np.std([1, 1, 2], ddof=1) / np.sqrt(3)
  over_seeds = 12.706205 * np.std([4 / 3, 4 / 3], ddof=1) / np.sqrt(2)  # both seeds have the same mean
  low, high = nade.difference.ci95
  np.testing.assert_allclose(high - low, 2 * np.hypot(over_examples, over_seeds) / unit, rtol=1e-5)
  assert made.difference == (0.0, 0.0, (0.0, 0.0), Kind.EXACT)


def test_what_seeds_do_widens_the_difference_of_their_means(tmp_path):
  for seed in range(3):
    scored(tmp_path / f"a{seed}", np.array([-80.0, -90.0, -100.0]) + seed, "made")
    scored(tmp_path / f"b{seed}", np.array([-79.0, -89.0, -99.0]) - seed, "nade")
  trials = {(tmp_path / f"{name}{seed}").resolve(): SeededRun(name, seed) for name in "ab" for seed in range(3)}
  [table] = with_differences(with_seed_means(collect([tmp_path]), trials), "made")
  found = {mean.rows[0].report["model"]: mean.difference for mean in table.means}
  low, high = found["nade"].ci95  # examples differ by nothing, the seeds of both by one nat
  np.testing.assert_allclose(high - low, 2 * 4.302653 * np.sqrt(2 / 3) / (64 * np.log(2.0)), rtol=1e-5)
  assert found["made"].ci95 == (0.0, 0.0)


def test_latex_tables_have_every_sign_escaped():
  assert latex_escape("a_b & 5 % #1 {x} ~^\\ $") == (
      r"a\_b \& 5 \% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$")
  assert latex_escape("≤ -1.5 ± 0.2, 2-3, 1e-05, n=-1") == r"$\le$ $-$1.5 $\pm$ 0.2, 2-3, 1e-05, n=$-$1"
