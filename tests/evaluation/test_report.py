"""A report says everything about its number, survives its file, and refuses what is damaged."""

import json
import math

import numpy as np
import pytest

from gdm.errors import ConfigError, DataError, NotFiniteError, WorkdirError
from gdm.evaluation.recording import Recording
from gdm.evaluation.report import build_report, one_line, read_report, recording_report, write_report
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.likelihood import Kind


def split_likelihood(nats=(-80.0, -90.0, -85.0), dims=64, kind=Kind.EXACT, discrete=True, **fields):
  fields = {"given": (), "num_draws": 1} | fields
  return SplitLikelihood(np.array(nats), np.full(len(nats), dims), kind, discrete=discrete, **fields)


def report_of(likelihood=None, **fields):
  fields = {"model": "made", "dataset": "digits", "split": "test", "step": 5000, "data_fingerprint": "ab12",
            "parameters": "ema", "num_params": 1234, "train_seconds": 5.5, "evaluation": {"batch_size": 500}} | fields
  return build_report(split_likelihood() if likelihood is None else likelihood, **fields)


def test_fields_are_those_of_the_format():
  report = report_of()
  assert set(report) == {
      "model", "dataset", "split", "step", "kind", "given", "nats_mean", "nats_stderr", "nats_ci95", "nats_skewness",
      "is_interval_doubtful", "bits_per_dim", "bits_per_dim_stderr", "bits_per_dim_ci95", "num_examples", "num_dims",
      "num_draws", "data_fingerprint", "transforms", "parameters", "num_params", "train_seconds", "precision", "dtype",
      "evaluation"}
  assert (report["kind"], report["given"], report["num_examples"], report["num_dims"]) == ("exact", [], 3, 64)
  assert report["nats_mean"] == -85.0
  assert math.isclose(report["nats_stderr"], 5 / math.sqrt(3))
  assert math.isclose(report["bits_per_dim"], 85 / (64 * math.log(2)))
  half = 4.302653 * 5 / math.sqrt(3)  # Student's, of two degrees of freedom
  np.testing.assert_allclose(report["nats_ci95"], [-85 - half, -85 + half], rtol=1e-6)
  np.testing.assert_allclose(report["bits_per_dim_ci95"], [(85 - half) / (64 * math.log(2)),
                                                           (85 + half) / (64 * math.log(2))], rtol=1e-6)


def test_a_report_of_before_has_students_intervals_when_read(tmp_path):
  now, before = report_of(), report_of()
  for name in ("bits_per_dim_ci95", "nats_skewness", "is_interval_doubtful"):
    del before[name]
  before["nats_ci95"] = [-90.0, -80.0]
  write_report(tmp_path / "likelihood_test.json", before)
  read = read_report(tmp_path / "likelihood_test.json")
  for name in ("nats_ci95", "bits_per_dim_ci95"):
    np.testing.assert_allclose(read[name], now[name])
  assert one_line(read) == one_line(now)


def test_a_single_example_has_no_interval_and_the_line_says_so():
  line = one_line(report_of(split_likelihood(nats=(-80.0,))))
  assert "no interval" in line and "95 %" not in line and "±" not in line


def test_skewed_scores_have_an_interval_that_says_so():
  few = split_likelihood(nats=(-80.0,) * 39 + (-800.0,))
  report = report_of(few)
  assert report["is_interval_doubtful"] and report["nats_skewness"] < -6.0
  assert "exact, interval of 95 % at most, since scores are skewed, 40 examples" in one_line(report)


def test_writing_then_reading_is_the_identity(tmp_path):
  path = tmp_path / "likelihood_test.json"
  report = report_of()
  write_report(path, report)
  assert read_report(path) == report
  write_report(path, report_of(step=6000))  # replaces
  assert read_report(path)["step"] == 6000
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_continuous_data_has_null_bits(tmp_path):
  report = report_of(split_likelihood(discrete=False))
  write_report(tmp_path / "likelihood_test.json", report)
  text = (tmp_path / "likelihood_test.json").read_text()
  assert '"bits_per_dim": null' in text
  assert '"bits_per_dim_stderr": null' in text
  assert read_report(tmp_path / "likelihood_test.json") == report


def test_the_line():
  assert one_line(report_of()) == ("made · digits · test: 1.9161 ± 0.2800 bits/dim "
                                   "(-85.0000 nats, exact, 95 % interval, 3 examples, ema, step 5000)")
  assert one_line(report_of(split_likelihood(discrete=False), parameters="live")) == (
      "made · digits · test: -85.0000 ± 12.4207 nats (exact, 95 % interval, 3 examples, live, step 5000)")


def test_text_has_nats_per_token_and_per_character(tmp_path):
  units = {"tokens": 192, "characters": 510, "unknown": 12}
  report = report_of(units=units)
  assert report["units"] == {**units, "nats_per_token": 255 / 192, "nats_per_character": 0.5}
  assert one_line(report) == (
      "made · digits · test: 1.9161 ± 0.2800 bits/dim (-85.0000 nats, 1.3281 nats/token, 0.5000 nats/character, "
      "12 of 192 tokens [UNK], exact, 95 % interval, 3 examples, ema, step 5000)")
  write_report(tmp_path / "r.json", report)
  assert read_report(tmp_path / "r.json") == report
  characters = report_of(units={"tokens": 192, "characters": 192, "unknown": 0})
  assert "(-85.0000 nats, 1.3281 nats/character, exact" in one_line(characters)


def test_repeated_reals_have_no_bound_and_the_probability_of_their_cells_is_beside_the_density(tmp_path):
  recording = Recording(np.array([0.1, 1.0]), np.zeros(2), np.array([0.98, 0.5]))
  cells = split_likelihood(nats=(-8.0, -9.0, -10.0), dims=2, kind=Kind.LOWER_BOUND)
  report = report_of(split_likelihood(discrete=False, dims=2), recording=recording_report(recording, cells))
  found = report["recording"]
  assert found["unbounded"] and found["repeated_share"] == 0.74 and found["step"] == [0.1, 1.0]
  assert found["repeated_share_of_columns"] == [0.98, 0.5]
  assert (found["cells"]["kind"], found["cells"]["nats_mean"]) == ("lower_bound", -9.0)
  assert found["cells"]["bits_per_dim"] == pytest.approx(9.0 / (2 * math.log(2)))
  assert ("exact, 95 % interval, 74 % of values repeat, so that densities have no upper bound, cells of the record "
          "≥ -9.0000 ± 2.4841 nats, 3 examples") in one_line(report)
  write_report(tmp_path / "likelihood_test.json", report)
  assert read_report(tmp_path / "likelihood_test.json") == report
  without = report_of(split_likelihood(discrete=False), recording=recording_report(recording, None))
  assert "no upper bound, 3 examples" in one_line(without)


def test_padding_is_not_taken_for_text():
  with pytest.raises(DataError, match="scored 192 dimensions, but the text has 190 tokens"):
    report_of(units={"tokens": 190, "characters": 190, "unknown": 0})


def test_the_line_says_on_which_side_of_the_truth_a_bound_lies():
  bound = split_likelihood(kind=Kind.LOWER_BOUND, num_draws=8, given=("y",))
  line = one_line(report_of(bound))
  assert line.startswith("made · digits · test · log p(x | y): ≤ 1.9161 ")
  assert "lower bound" in line
  assert "8 draws" in line
  continuous = split_likelihood(kind=Kind.LOWER_BOUND, discrete=False)
  assert ": ≥ -85.0" in one_line(report_of(continuous))
  assert ": ≈ 1.9" in one_line(report_of(split_likelihood(kind=Kind.ESTIMATE)))
  assert ": ≥ 1.9" in one_line(report_of(split_likelihood(kind=Kind.UPPER_BOUND)))


def test_a_single_example_has_no_interval(tmp_path):
  report = report_of(split_likelihood(nats=(-85.0,)))
  write_report(tmp_path / "r.json", report)
  assert read_report(tmp_path / "r.json")["nats_ci95"] is None
  assert "1.9161 bits/dim" in one_line(report)


def test_further_estimates_are_written():
  other = split_likelihood(nats=(-81.0, -91.0, -86.0), kind=Kind.UPPER_BOUND)
  report = report_of(split_likelihood(kind=Kind.LOWER_BOUND, alternatives=(other,)))
  assert [(x["kind"], x["nats_mean"]) for x in report["alternatives"]] == [("upper_bound", -86.0)]
  estimate = split_likelihood(nats=(-81.0, -91.0, -86.0), kind=Kind.ESTIMATE)
  assert "otherwise -86.0000 nats, estimate, " in one_line(report_of(
      split_likelihood(kind=Kind.LOWER_BOUND, alternatives=(estimate,))))


def test_nan_is_never_written_and_leaves_the_old_file(tmp_path):
  path = tmp_path / "likelihood_test.json"
  write_report(path, report_of())
  with pytest.raises(NotFiniteError, match="train_seconds"):
    write_report(path, report_of(train_seconds=math.nan))
  assert read_report(path) == report_of()


def test_where_nothing_can_be_written_is_a_user_error(tmp_path):
  with pytest.raises(WorkdirError, match="cannot be written"):
    write_report(tmp_path / "missing" / "likelihood_test.json", report_of())


def test_parameters_are_ema_or_live():
  with pytest.raises(ConfigError, match="'best'"):
    report_of(parameters="best")


@pytest.mark.parametrize("damage", ["", "{", "[]", "\x00", "null", '{"model": "made"}'])
def test_damaged_files_are_named(tmp_path, damage):
  path = tmp_path / "likelihood_test.json"
  path.write_text(damage)
  with pytest.raises(DataError, match=r"likelihood_test\.json is no likelihood report"):
    read_report(path)


def test_bytes_that_are_no_text_are_named(tmp_path):
  path = tmp_path / "likelihood_test.json"
  path.write_bytes(b"\xff\xfe\x00{")
  with pytest.raises(DataError, match=r"likelihood_test\.json"):
    read_report(path)
  with pytest.raises(DataError, match=r"cannot read .*missing\.json"):
    read_report(tmp_path / "missing.json")


@pytest.mark.parametrize(("field", "value"), [
    ("kind", "precise"), ("nats_mean", "low"), ("nats_mean", math.nan), ("nats_ci95", [1.0]), ("given", "y"),
    ("bits_per_dim_ci95", 0.1),
    ("num_examples", -1), ("parameters", "best"), ("bits_per_dim", True), ("model", None)])
def test_wrong_fields_are_named_with_their_value(tmp_path, field, value):
  path = tmp_path / "likelihood_test.json"
  path.write_text(json.dumps(report_of() | {field: value}))
  with pytest.raises(DataError, match=f"{field} is .*must be"):
    read_report(path)


def test_a_report_of_frames_says_nats_per_frame():
  likelihood = split_likelihood()
  found = report_of(likelihood, frame_dims=2)
  frames = int(likelihood.num_dims.sum()) // 2
  assert found["frames"] == {"frames": frames, "nats_per_frame": pytest.approx(-likelihood.nats.sum() / frames)}
  assert f"nats/frame over {frames:,} frames" in one_line(found) and "frames" not in report_of(likelihood)
