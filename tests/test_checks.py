"""Each rule passes what is right, and names the setting, its value and what would be right of all else, NaN too."""

import math

import pytest

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError

UNLABELLED, LABELLED = DataSpec((2,), 2), DataSpec((2,), 2, num_classes=3)

RIGHT = {
    "at_least": ("n", 1, 1), "positive": ("n", 1e-9), "rate": ("n", 0.0), "one_of": ("n", "b", ("a", "b")),
    "multiple_of": ("n", 6, 3, "the channels"), "divides": ("n", 2, 6, "the width"), "sizes": ("n", (1, 2)),
    "equal_sizes": ("n", (3, 2), False), "classes": (UNLABELLED, False), "has_labels": ({"x": 0, "y": 0}, object()),
    "unconditional": (object(), None),
}
WRONG = [
    ("at_least", ("n", 0, 1), "n is 0; it must be at least 1"), ("at_least", ("n", math.nan, 1), "n is nan"),
    ("at_least", ("n", math.inf, 1), "n is inf"), ("at_least", ("n", 0, 1, "(8 in the paper)"), r"8 in the paper"),
    ("positive", ("n", 0.0), "n is 0.0; it must be finite and above 0"), ("positive", ("n", math.nan), "n is nan"),
    ("rate", ("n", 1.0), "n is 1.0; it must be at least 0 and below 1"), ("rate", ("n", math.nan), "n is nan"),
    ("one_of", ("n", "addam", ("adam", "sgd")), "n is 'addam'; did you mean 'adam'"),
    ("multiple_of", ("n", 4, 3, "the channels"), "n is 4; it must be a positive multiple of the channels, 3"),
    ("multiple_of", ("n", 0, 3, "the channels"), "n is 0"),
    ("divides", ("n", 4, 6, "the width"), "n is 4; it must divide the width, 6"),
    ("divides", ("n", 0, 6, "w"), "n is 0"),
    ("sizes", ("n", ()), r"n is \(\); a network needs one or more sizes of at least 1"),
    ("sizes", ("n", (2, 0)), "n is"),
    ("equal_sizes", ("n", (3, 2), True), r"n is \(3, 2\) and residual"),
]


@pytest.mark.parametrize("rule", RIGHT)
def test_what_is_right_passes(rule):
  getattr(checks, rule)(*RIGHT[rule])


@pytest.mark.parametrize(("rule", "arguments", "words"), WRONG)
def test_what_is_wrong_is_named(rule, arguments, words):
  with pytest.raises(ConfigError, match=words):
    getattr(checks, rule)(*arguments)


def test_labels_are_asked_for():
  checks.classes(LABELLED, True)
  with pytest.raises(SpecError, match="class_conditional is True, but the data has no labels"):
    checks.classes(UNLABELLED, True)
  with pytest.raises(SpecError, match="object is class-conditional; the batch must have labels y"):
    checks.has_labels({"x": 0}, object())
  with pytest.raises(SpecError, match="object is not conditional; condition must be None"):
    checks.unconditional(object(), 3)
