"""The notebooks run from their first cell to their last, hold no outputs, and are in the index."""

import json

import pytest
from helpers.commands import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(path):
  return json.loads(path.read_text())["cells"]


def test_they_are_in_the_index_without_outputs():
  index = (ROOT / "docs" / "index.md").read_text()
  assert len(NOTEBOOKS) == 6
  for path in NOTEBOOKS:
    assert f"notebooks/{path.stem}\n" in index
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(path)
               if cell["cell_type"] == "code")
    assert "".join(cells(path)[0]["source"]).startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run(path, monkeypatch):
  """They train small models: up to half a minute each."""
  monkeypatch.chdir(ROOT)
  names = {"__name__": "notebook"}
  for number, cell in enumerate(cells(path)):
    if cell["cell_type"] == "code":
      exec(compile("".join(cell["source"]), f"{path.stem}, cell {number}", "exec"), names)
