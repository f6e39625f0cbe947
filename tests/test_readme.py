"""The README's code runs as it stands there."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_of_reuse_runs():
  blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
  assert blocks
  for block in blocks:
    exec(compile(block, "README.md", "exec"), {})


def test_every_file_that_is_named_exists():
  named = re.findall(r"(?:gdm|experiments|configs|tests)/[\w/]+\.(?:py|png)", README.read_text())
  assert named
  missing = [path for path in named if not (README.parent / path).exists()]
  assert not missing
