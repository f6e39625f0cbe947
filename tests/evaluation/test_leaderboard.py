"""Tables never mix what cannot be compared, and stand best first."""

import csv
import io

import pytest

from gdm.errors import ConfigError, DataError, WorkdirError
from gdm.evaluation.leaderboard import collect, render
from gdm.evaluation.report import write_report


def write(workdir, nats=-85.0, **fields):
  report = {"model": "made", "dataset": "digits", "split": "test", "step": 5000, "kind": "exact", "given": [],
            "nats_mean": nats, "nats_stderr": 1.0, "nats_ci95": [nats - 1.96, nats + 1.96],
            "bits_per_dim": -nats / 44.0, "bits_per_dim_stderr": 0.02, "num_examples": 300, "num_dims": 64,
            "num_draws": 1, "data_fingerprint": "ab12", "parameters": "ema", "num_params": 12345,
            "train_seconds": 61.25} | fields
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
    {"data_fingerprint": "cd34"}, {"given": ["y"]}, {"dataset": "mnist"}, {"split": "valid"}, {"num_examples": 299}])
def test_what_cannot_be_compared_never_shares_a_table(tmp_path, fields):
  write(tmp_path / "a", model="first")
  write(tmp_path / "b", model="second", **fields)
  tables = collect([tmp_path])
  assert sorted(models(tables)) == [["first"], ["second"]]
  text = render(tables)
  assert text.count("bits/dim") == 2
  assert ("log p(x | y)" in text) == ("given" in fields)


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
