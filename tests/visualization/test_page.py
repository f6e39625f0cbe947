"""Pages escape every text, need no network, and sort by the first number of a cell."""

import re
from html.parser import HTMLParser

import pytest

from gdm.errors import SpecError
from gdm.visualization.compared_curves import compared_curves
from gdm.visualization.page import PagePicture, PageSection, PageTable, page_html, sort_key

EVIL = '"><script>alert(1)</script>&\'<img src=x onerror=alert(1)>'


class Page(HTMLParser):
  """Tags and texts of a page."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.texts = [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.texts.append(data)


@pytest.mark.parametrize(("text", "key"), [("≤ 1.9312 ± 0.01", 1.9312), ("-87.5 ± 1", -87.5), ("1,090,676", 1090676.0),
                                           ("", None), ("+0.35", 0.35), ("1e-05", 1e-5)])
def test_cells_sort_by_their_first_number(text, key):
  assert sort_key(text) == key


def test_whatever_a_name_holds_is_text():
  section = PageSection(EVIL, {"data": EVIL}, [PageTable([EVIL, "n"], [[EVIL, "1"]], [False, True], EVIL, [EVIL])],
                        [PagePicture(EVIL, b"\x89PNG")])
  page = Page(page_html(EVIL, [section]))
  assert [tag for tag, _ in page.tags].count("script") == 1
  assert [attrs["src"][:5] for tag, attrs in page.tags if tag == "img"] == ["data:"]
  assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
  assert "".join(page.texts).count(EVIL) == 9  # title twice, choice, section, caption, column, cell, note, picture


def test_nothing_comes_from_elsewhere():
  text = page_html("Runs", [PageSection("a", {}, [PageTable(["x"], [["1"]], [True])])])
  assert not re.search(r"https?:|//[a-z]|url\(|@import", text.replace("'none'", ""))
  assert "default-src 'none'" in text


def test_rows_that_do_not_fit_are_refused():
  with pytest.raises(SpecError, match="a row has 1 cells; it must have 2"):
    PageTable(["a", "b"], [["1"]], [False, False])
  with pytest.raises(SpecError, match=r"'\.txt' file"):
    PagePicture("a", b"", ".txt")


def test_curves_of_runs_with_a_metric_are_compared():
  rows = [{"step": 10, "valid/nats": -3.0}, {"step": 20, "valid/nats": -2.0}, {"step": 20, "train/nll": 2.0}]
  figure = compared_curves({"$a": rows, "_b": rows, "c": rows[:1]}, "valid/nats", "nll", -1.0)
  assert [(line.get_label(), list(line.get_ydata())) for line in figure.axes[0].lines] == [
      (r"\$a", [3.0, 2.0]), (" _b", [3.0, 2.0])]
  assert compared_curves({"c": rows[:1]}, "valid/nats", "nll") is None
