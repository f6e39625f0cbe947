"""Sphinx: `make docs` builds the pages, the notebooks and the API reference into docs/build."""

import json
import os
import sys

from myst_parser.parsers.sphinx_ import MystParser

sys.path.insert(0, os.path.abspath(".."))

project = "gdm"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext", ".ipynb": "ipynb"}
exclude_patterns = ["build"]
html_theme = "furo"
html_title = "gdm"
myst_heading_anchors = 3
autosummary_generate = True
napoleon_use_ivar = True
suppress_warnings = ["docutils", "ref.python"]  # docstrings are plain text: |x|, * and `x` are no markup
autodoc_typehints = "none"  # shapes stand in the docstrings; jaxtyping's are unreadable in HTML
autodoc_member_order = "bysource"
# A package's names are described where they are defined: some are called like their modules, as gdm.diffusion.ddpm.
autodoc_default_options = {"members": True, "undoc-members": False, "ignore-module-all": True}


class NotebookParser(MystParser):
  """Shows a notebook as its text and its code; outputs are left out, as they are in the files."""

  supported = ("ipynb",)

  def parse(self, inputstring, document):
    cells = [("".join(cell["source"]), cell["cell_type"]) for cell in json.loads(inputstring)["cells"]]
    super().parse("\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for text, kind in cells),
                  document)


def setup(app):
  app.add_source_parser(NotebookParser)
