"""Scored runs ranked: the tables of their likelihoods, labels and samples as text, with means over seeds."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import logging

from gdm.errors import WorkdirError
from gdm.evaluation import label_leaderboard, leaderboard, leaderboard_tables, quality_leaderboard
from gdm.runs.workdir import Workdir, training_fields


def ranking_text(folders: Sequence[Path], split: str | None = None, style: str = "text", width: int | None = None, *,
                 with_seeds: bool = False, against: str | None = None) -> str:
  """Return the tables of scored runs, one for each data set and split.

  Args:
    folders: workdirs, or folders of workdirs.
    split: the only split; all for None.
    style: text, markdown, latex or csv.
    width: columns of the terminal; None for any.
    with_seeds: whether means over seeds are shown as well.
    against: a model or a run whose paired difference from each row is shown.

  Raise WorkdirError where there is no report.
  """
  places = [str(folder) for folder in folders]
  labels = label_leaderboard.collect(places, split)
  quality = quality_leaderboard.collect(places, split) if style != "csv" else []
  tables = leaderboard.collect(places, split, may_be_none=bool(labels or quality))
  if with_seeds:
    trained_in = {row.folder for table in tables for row in table.rows}
    tables = leaderboard.with_seed_means(tables, read_trials(sorted(trained_in)))
  if against and tables:
    tables = leaderboard.with_differences(tables, against)
  parts = [leaderboard_tables.render(tables, style, width)] * bool(tables)
  if labels and (not tables or style != "csv"):
    parts.append(label_leaderboard.render(labels, style, width))
  if quality:
    parts.append(quality_leaderboard.render(quality, style, width))
  return "\n".join(parts)


def read_trials(folders: Iterable[Path]) -> dict[Path, leaderboard.SeededRun]:
  """Return what was run in each folder, by the config beside its reports; folders without a readable one are left
  out."""
  trials = {}
  for folder in folders:
    try:
      fields = training_fields(Workdir(folder).read_config())
    except WorkdirError as error:
      logging.warning("%s Its run is in no mean over seeds.", error)
      continue
    seed = fields.pop("seed")
    trials[folder] = leaderboard.SeededRun(json.dumps(fields, sort_keys=True), seed)
  return trials
