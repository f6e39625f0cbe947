"""`help` of every model lists every field, inherited ones too."""

import dataclasses
import inspect
import re

import pytest

from gdm.docstrings import DocumentsFields
from gdm.runs import registry


def described(obj):
  """The names that a docstring explains, or that its text quotes."""
  doc = inspect.getdoc(obj) or ""
  entries = re.findall(r"^ +(\w+(?:, \w+)*):", doc, re.MULTILINE)
  return {name for entry in entries for name in entry.split(", ")}


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_field_of_a_model_is_described(name):
  builder = registry.load_object(*registry.MODELS[name])
  if inspect.isclass(builder):
    fields = {field.name for field in dataclasses.fields(builder) if field.init}
  else:  # a recipe; what its **settings are the class says that it returns
    fields = {each.name for each in inspect.signature(builder).parameters.values()
              if each.kind is not inspect.Parameter.VAR_KEYWORD and each.name != "spec"}
  assert fields <= described(builder)


def test_a_subclass_describes_what_it_changes_and_inherits_the_rest():
  class Base(DocumentsFields):
    """A base.

    Attributes:
      a, b: two numbers, which
        take two lines.
      c: a third.
    """

  class Middle(Base):
    """A class without fields of its own."""

  class Last(Middle):
    """A class.

    Attributes:
      c: changed.
      d: a fourth.

    Example: `Last()`.
    """

  assert inspect.getdoc(Middle).splitlines()[:4] == ["A class without fields of its own.", "", "Attributes:",
                                                     "  a, b: two numbers, which"]
  assert inspect.getdoc(Last) == ("A class.\n\nAttributes:\n  c: changed.\n  d: a fourth.\n"
                                  "  a, b: two numbers, which\n    take two lines.\n\nExample: `Last()`.")
