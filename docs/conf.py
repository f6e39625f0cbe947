"""Sphinx: `make docs` builds the pages and the API reference into docs/build."""

import os
import sys

sys.path.insert(0, os.path.abspath(".."))

project = "gdm"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["build"]
html_theme = "furo"
html_title = "gdm"
myst_heading_anchors = 3
autosummary_generate = True
napoleon_use_ivar = True
suppress_warnings = ["docutils", "ref.python"]  # docstrings are plain text: |x|, * and `x` are no markup
autodoc_typehints = "none"  # shapes stand in the docstrings; jaxtyping's are unreadable in HTML
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}
