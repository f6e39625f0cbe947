"""A page of HTML that needs nothing else: tables to sort and filter, and pictures within the file.

Every text is escaped, and the page's own policy forbids it to load anything. Without scripts it shows the same tables,
in the order in which they were given.
"""

import base64
import dataclasses
import html
import os
import re
from collections.abc import Sequence
from pathlib import Path

from gdm.errors import SpecError
from gdm.paths import write_whole

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
_KINDS = {".png": "image/png", ".svg": "image/svg+xml", ".gif": "image/gif"}


@dataclasses.dataclass(frozen=True)
class PageTable:
  """A table of texts.

  Attributes:
    headings: of its columns.
    rows: texts, as many in each row as there are headings.
    numbers: whether each column holds numbers: these stand at the right, and sort by the first number in the text.
    caption: a line above it.
    notes: sentences below it.
  """

  headings: Sequence[str]
  rows: Sequence[Sequence[str]]
  numbers: Sequence[bool]
  caption: str = ""
  notes: Sequence[str] = ()

  def __post_init__(self) -> None:
    for row in (self.numbers, *self.rows):
      if len(row) != len(self.headings):
        raise SpecError(f"a row has {len(row)} cells; it must have {len(self.headings)}, one for each heading.")


@dataclasses.dataclass(frozen=True)
class PagePicture:
  """A picture within the page.

  Attributes:
    caption: a line below it, which filters find too.
    data: its file: PNG, SVG or GIF.
    kind: the file's ending, as ".png".
  """

  caption: str
  data: bytes
  kind: str = ".png"

  def __post_init__(self) -> None:
    if self.kind not in _KINDS:
      raise SpecError(f"picture {self.caption!r} is a {self.kind!r} file; it must be one of {', '.join(_KINDS)}.")

  @classmethod
  def read(cls, path: Path, caption: str) -> "PagePicture":
    """Return the picture in a file."""
    return cls(caption, path.read_bytes(), path.suffix)


@dataclasses.dataclass(frozen=True)
class PageSection:
  """Tables and pictures under one heading.

  Attributes:
    title: the heading.
    groups: words that the page offers to show alone, by what they are, as {"data": "digits", "split": "test"}.
    tables: its tables.
    pictures: its pictures, below the tables.
  """

  title: str
  groups: dict[str, str] = dataclasses.field(default_factory=dict)
  tables: Sequence[PageTable] = ()
  pictures: Sequence[PagePicture] = ()


def save_page(path: str | os.PathLike, title: str, sections: Sequence[PageSection]) -> None:
  """Write the page, whole or not at all. Raise WorkdirError where it cannot be written."""
  text = page_html(title, sections)
  write_whole(path, lambda file: file.write(text.encode()))


def page_html(title: str, sections: Sequence[PageSection]) -> str:
  """Return the page.

  Args:
    title: of the page.
    sections: its parts, in order.
  """
  names = list(dict.fromkeys(name for section in sections for name in section.groups))
  choices = "".join(_choice(name, sorted({section.groups[name] for section in sections if name in section.groups}))
                    for name in names)
  body = "\n".join(_section(section) for section in sections)
  return _PAGE.format(title=_escape(title), choices=choices, body=body, style=_STYLE, script=_SCRIPT)


def sort_key(text: str) -> float | None:
  """Return the first number in a text, as 1.93 of "≤ 1.93 ± 0.01"; None where there is none."""
  found = _NUMBER.search(text)
  return float(found[0].replace(",", "")) if found else None


def _choice(name: str, values: Sequence[str]) -> str:
  options = "".join(f'<option value="{_escape(value)}">{_escape(value)}</option>' for value in values)
  return (f'<label>{_escape(name)} <select data-group="{_escape(name)}"><option value="">all</option>{options}</select>'
          "</label>")


def _section(section: PageSection) -> str:
  groups = "".join(f' data-group-{_escape(name)}="{_escape(value)}"' for name, value in section.groups.items())
  parts = [f"<section{groups}><h2>{_escape(section.title)}</h2>", *map(_table, section.tables)]
  if section.pictures:
    parts += ['<div class="pictures">', *map(_picture, section.pictures), "</div>"]
  return "\n".join([*parts, "</section>"])


def _table(table: PageTable) -> str:
  headings = "".join(f'<th{" class=n" * is_number}><button type="button">{_escape(text)}</button></th>'
                     for text, is_number in zip(table.headings, table.numbers, strict=True))
  caption = f"<caption>{_escape(table.caption)}</caption>" if table.caption else ""
  rows = "\n".join(f"<tr>{''.join(map(_cell, row, table.numbers))}</tr>" for row in table.rows)
  notes = "".join(f'<p class="note">{_escape(note)}</p>' for note in table.notes)
  return (f'<div class="wide"><table>{caption}<thead><tr>{headings}</tr></thead>\n<tbody>{rows}</tbody></table></div>'
          f"{notes}")


def _cell(text: str, is_number: bool) -> str:
  key = sort_key(text) if is_number else None
  where = "" if not is_number else ' class=n data-key=""' if key is None else f' class=n data-key="{key!r}"'
  return f"<td{where}>{_escape(text)}</td>"


def _picture(picture: PagePicture) -> str:
  data = base64.b64encode(picture.data).decode()
  caption = _escape(picture.caption)
  return (f'<figure><img alt="{caption}" src="data:{_KINDS[picture.kind]};base64,{data}">'
          f"<figcaption>{caption}</figcaption></figure>")


def _escape(text: str) -> str:
  return html.escape(text, quote=True)


_STYLE = """
:root { color-scheme: light; --ink: #333; --faint: #d9d9d9; --blue: #0072b2; }
body { color: var(--ink); background: #fff; font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1500px;
  padding: 0 1.5rem 3rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; overflow-wrap: anywhere; }
form { display: flex; flex-wrap: wrap; gap: 1rem; position: sticky; top: 0; background: #fff; padding: .6rem 0;
  border-bottom: 1px solid var(--faint); }
input, select { font: inherit; color: inherit; padding: .15rem .4rem; max-width: 22rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0; }
caption { text-align: left; color: #666; padding: .3rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--faint); text-align: left; white-space: nowrap; }
th.n, td.n { text-align: right; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort] button { color: var(--blue); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tbody tr:hover { background: #f4f8fb; }
.note { color: #666; margin: .2rem 0; max-width: 75rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; margin-top: .8rem; }
figure { margin: 0; max-width: 100%; } figure img { max-width: min(100%, 46rem); height: auto; display: block; }
figcaption { color: #666; overflow-wrap: anywhere; max-width: 46rem; }
[hidden] { display: none !important; }
"""

_SCRIPT = """
"use strict";
for (const heading of document.querySelectorAll("th")) heading.firstChild.addEventListener("click", () => {
  const column = heading.cellIndex, body = heading.closest("table").tBodies[0];
  const up = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => { const cell = row.cells[column], key = cell.dataset.key;
    return key === undefined ? cell.textContent : key === "" ? null : Number(key); };
  const order = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b, "en", {numeric: true});
  const rows = Array.from(body.rows, row => [key(row), row]);
  rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : (up ? 1 : -1) * order(a, b));
  for (const [, row] of rows) body.append(row);
});
const filter = document.getElementById("filter"), groups = document.querySelectorAll("select[data-group]");
function show() {
  const words = filter.value.toLowerCase().split(/\\s+/).filter(Boolean);
  const has = part => words.every(word => part.textContent.toLowerCase().includes(word));
  for (const part of document.querySelectorAll("tbody tr, figure")) part.hidden = !has(part);
  for (const section of document.querySelectorAll("section")) {
    const chosen = Array.from(groups).every(group => !group.value ||
      [null, group.value].includes(section.getAttribute("data-group-" + group.dataset.group)));
    const shown = section.querySelector("tbody tr:not([hidden]), figure:not([hidden])");
    section.hidden = !chosen || (words.length > 0 && !shown);
  }
}
filter.addEventListener("input", show);
for (const group of groups) group.addEventListener("change", show);
document.querySelector("form").addEventListener("submit", event => event.preventDefault());
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<form><label>rows with <input id="filter" type="search" placeholder="model, run, kind"></label>{choices}</form>
{body}
<script>{script}</script>
</body>
</html>
"""
