"""A reader who meets a class by its name knows which one it is."""

import ast
import collections
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
# A split of data, and of channels, as both are called everywhere; sizes of the speed sections, each in its file.
SHARED = {"Split", "Size"}


def test_no_two_public_classes_share_a_name():
  files = collections.defaultdict(list)
  for folder in ("gdm", "experiments", "configs"):
    for path in sorted((ROOT / folder).rglob("*.py")):
      for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
          files[node.name].append(str(path.relative_to(ROOT)))
  assert len(files) > 500
  assert {name: found for name, found in files.items() if len(found) > 1 and name not in SHARED} == {}
