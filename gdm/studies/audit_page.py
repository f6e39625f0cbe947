"""The audits of many runs as text, markdown and a page: what was proven, and what is claimed."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gdm.errors import WorkdirError
from gdm.evaluation import leaderboard
from gdm.evaluation.intervals import plus_minus
from gdm.evaluation.leaderboard import run_names
from gdm.runs.load import open_run
from gdm.studies.audit import CHECKS, Audit, Finding, Verdict, audit
from gdm.visualization.page import PageSection, PageTable, save_page

_WIDTH = 80
_MARKS = {Verdict.PROVEN: "+", Verdict.CLAIMED: "?", Verdict.FAILED: "FAILED", Verdict.NOT_TRIED: "-"}
LEGEND = ("proven: tried without trust in the model, and it holds; claimed: by the report alone; not tried: nothing of "
          "the kind can be done, and why")


class Audited(NamedTuple):
  """A run's audit, its name, and its difference from the reference, in words; "" where there is none."""

  name: str
  audit: Audit
  difference: str


def audit_runs(folders: Sequence[Path], split: str, against: str = "") -> Iterator[Audited]:
  """Audit every run at and below folders, one after the other.

  Args:
    folders: workdirs, or folders of workdirs.
    split: the split that numbers are of.
    against: a model or run that all are compared with; "" is the best of each table.

  Raise WorkdirError where there is no run.
  """
  found = sorted({path.parent.resolve() for folder in folders for path in folder.rglob("config.json")
                  if (path.parent / "checkpoints").is_dir()})
  if not found:
    raise WorkdirError(f"no run in {', '.join(map(str, folders))}; name workdirs that experiments.train made.")
  names, differences = run_names(found), _differences(folders, split, against)
  for folder in found:
    yield Audited(names[folder], audit(open_run(folder), split), differences.get(folder, ""))


def text_lines(audited: Audited) -> list[str]:
  """Return an audit as lines of at most 80 columns."""
  lines = [f"{audited.name} · {_model(audited)}: {audited.audit.number or 'no report'}"]
  for finding in audited.audit.findings:
    head = f"  {_MARKS[finding.verdict]:<6} {finding.check}: "
    lines += textwrap.wrap(head + finding.words, _WIDTH, subsequent_indent=" " * 9)
  if audited.difference:
    lines += textwrap.wrap(f"         difference: {audited.difference}", _WIDTH, subsequent_indent=" " * 9)
  return [*lines, f"         trained: {_spent(audited.audit)}"]


def markdown(audited: Sequence[Audited]) -> str:
  """Return all audits as markdown: a table of verdicts, then what was found of each run."""
  table = _verdicts(audited)
  rows = [table.headings, ["---"] * len(table.headings), *table.rows]
  parts = ["# Audit", LEGEND[0].upper() + LEGEND[1:] + ".",
           "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)]
  for each in audited:
    listed = [f"- **{finding.verdict}**, {finding.check}: {finding.words}" for finding in each.audit.findings]
    parts.append(f"## {each.name}: {_model(each)}\n\n" + "\n".join(listed))
  return "\n\n".join(parts) + "\n"


def save_audit_page(path: Path, audited: Sequence[Audited]) -> None:
  """Write all audits as one page of HTML."""
  sections = [PageSection("What is proven, and what is claimed", {}, [_verdicts(audited)])]
  sections += [PageSection(f"{each.name}: {_model(each)}", {}, [_findings(each.audit.findings)]) for each in audited]
  save_page(path, "Audit", sections)


def _verdicts(audited: Sequence[Audited]) -> PageTable:
  headings = ["run", "model", "number", *CHECKS, "difference", "trained"]
  rows = [[each.name, _model(each), each.audit.number, *[str(finding.verdict) for finding in each.audit.findings],
           each.difference, _spent(each.audit)] for each in audited]
  return PageTable(headings, rows, [False] * len(headings), notes=(LEGEND + ".",))


def _findings(findings: Sequence[Finding]) -> PageTable:
  return PageTable(["check", "verdict", "found"], [[each.check, str(each.verdict), each.words] for each in findings],
                   [False] * 3)


def _model(audited: Audited) -> str:
  run = audited.audit.run
  return f"{run.name} on {run.data.name}, {audited.audit.split}"


def _spent(audit: Audit) -> str:
  flops = "" if audit.flops is None else f", {audit.flops:.1e} FLOPs"
  return f"{audit.run.train_seconds:,.0f} s{flops}, step {audit.run.step:,}"


def _differences(folders: Sequence[Path], split: str, against: str) -> dict[Path, str]:
  """Return each run's paired difference in words, by its folder."""
  tables = leaderboard.collect(folders, split, may_be_none=True)
  compared = (leaderboard.with_differences(tables, against) if against and tables else
              [leaderboard.with_differences_from_best(table) for table in tables])
  found = {}
  for table in compared:
    for row in table.rows:
      if row.difference is not None and not row.report.get("text"):
        unit = "bits/dim" if table.is_discrete else "nats"
        number = plus_minus(row.difference.mean, row.difference.ci95, sign="+")
        found[row.folder.resolve()] = ("the reference" if row.run == table.against else
                                       f"{number} {unit} from {table.against}, paired")
  return found
