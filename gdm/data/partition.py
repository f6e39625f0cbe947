"""Splits of a set that brings none: by the hash of each example, so that the order of rows never matters.

The rule: the sha256 of an example's x, as bytes, is read as a number in [0, 1); below `test` the example tests, below
`test + valid` it validates, all others train. So equal examples fall into the same split, and an example stays in its
split when others come or go. In a set so small that a split would be empty, the example with the next hash goes there;
of two different examples there is no test split.

Where many rows are equal, as in a table of a few categories, the held-out rows are then of kinds that training never
sees. `#split=rows` hashes each row with the number of its copy, and so holds out rows of all kinds alike; the order of
rows still does not matter, but equal rows stand in several splits.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from gdm.data.dataset import SPLITS, Dataset
from gdm.data.sources.request import Request
from gdm.errors import ConfigError, DataError

OPTIONS = ("valid", "test", "split")
FRACTION = 0.1  # of validation, and of test
WHOLE = "not split"  # the rule of a set that is scored whole
MANY_REPEATS = 0.5  # share of different examples below which the rule says how few they are

Rows = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Fractions:
  """Shares of a set that are held out.

  Attributes:
    valid: of the validation split, above 0.
    test: of the test split; 0 for none.
  """

  valid: float = FRACTION
  test: float = FRACTION


def fractions_of(request: Request) -> Fractions:
  """Return the options valid and test of a request. Raise ConfigError where they are no shares, or leave nothing."""
  found = Fractions(request.number("valid", FRACTION), request.number("test", FRACTION))
  if not 0 < found.valid < 1:
    raise ConfigError(f"data.name: option valid={found.valid:g} of {request.kind} must be above 0 and below 1.")
  if not 0 <= found.test < 1 - found.valid:
    raise ConfigError(f"data.name: option test={found.test:g} of {request.kind} must be at least 0, and valid + test "
                      "below 1, so that something is left to train on.")
  return found


def split_rows(rows: Rows, request: Request, where: str) -> tuple[dict[str, dict[str, np.ndarray]], str]:
  """Return the rows of each split, in their order, and the rule in words.

  Raise ConfigError for shares that cannot be, DataError where all examples are equal.
  """
  names, rule = names_of(lambda by: digests_of(rows["x"]) if by == "distinct" else _row_digests(rows), request, where)
  asked = [name for name in SPLITS if name != "test" or (names == "test").any()]
  return {name: {key: values[names == name] for key, values in rows.items()} for name in asked}, rule


def names_of(digests: Callable[[str], Sequence[bytes] | UInt8[np.ndarray, "examples 32"]], request: Request,
             where: str) -> tuple[np.ndarray, str]:
  """Return the split of each example, and the rule in words; raise as `split_rows` does.

  Args:
    digests: the hash of each example, by "distinct" examples or by "rows" with the numbers of their copies.
    request: for its shares.
    where: the subject of messages.
  """
  by = request.choice("split", ("distinct", "rows"), "distinct")
  fractions = fractions_of(request)
  places = _places(digests(by))
  distinct, rank = np.unique(places, return_inverse=True)
  num = len(distinct)
  if num < 2:
    raise DataError(f"{where} has {len(places)} example(s), all of them equal; training and validation need different "
                    "ones.")
  has_test = fractions.test > 0 and num > 2
  first = int(np.clip(np.searchsorted(distinct, fractions.test), 1, num - 2)) if has_test else 0
  second = int(np.clip(np.searchsorted(distinct, fractions.test + fractions.valid), first + 1, num - 1))
  names = np.where(rank < first, "test", np.where(rank < second, "valid", "train"))
  what = "row" if by == "rows" else "example"
  rule = f"by the hash of each {what}: valid={fractions.valid:g}, test={fractions.test:g}"
  if fractions.test and not has_test:
    rule += "; no test split, since only two examples are different"
  if by == "distinct" and num < MANY_REPEATS * len(places):
    rule += f"; only {num} of {len(places)} examples are different, and none of them is in two splits (#split=rows)"
  return names, rule


def complete_names(of_split: Shaped[np.ndarray, " examples"], digests: UInt8[np.ndarray, "examples 32"],
                   request: Request, where: str) -> tuple[np.ndarray, str]:
  """Return what `complete` returns for examples that are on disk: the split of each, and the rule in words.

  Args:
    of_split: the split that each example is brought in, "train" where there are no splits.
    digests: of `digests_of`, of each example, as bytes: a list of as many objects could be larger than the memory.
    request, where: as for `complete`; option split=rows is refused.
  """
  if request.choice("split", ("distinct", "rows"), "distinct") == "rows":
    raise ConfigError(f"data.name: option split=rows of {request.kind}, but {where} is left on disk, where only "
                      "distinct examples are told apart; take it away.")
  rows = {name: {"x": np.flatnonzero(of_split == name)} for name in SPLITS if (of_split == name).any()}
  if is_whole(rows, request):
    return np.full_like(of_split, "train"), WHOLE
  if "valid" in rows:
    return of_split, complete(rows, request, where)[1]
  train = rows["train"]["x"]
  asked = request
  if "test" in rows:
    if "test" in request.options:
      raise ConfigError(f"data.name: option test of {request.kind} says how to split a set, but {where} brings its "
                        "own splits; take it away.")
    asked = dataclasses.replace(request, options={**request.options, "test": "0"})
  names, rule = names_of(lambda by: digests[train], asked, where)
  found = of_split.copy()
  found[train] = names
  return found, f"test as it is brought; of the training part {rule}" if "test" in rows else rule


def complete(parts: Mapping[str, Rows], request: Request, where: str) -> tuple[dict[str, dict[str, np.ndarray]], str]:
  """Return the splits of data that bring some of them, and the rule in words.

  Args:
    parts: "train", and "valid" and "test" where they are brought. A missing validation split is taken from the training
      split by the hash of its examples, and where both are missing a test split too. A request for the whole of a set
      gets a single part as "train", unless its options say how to split.
    request: for its shares; asking for that of a split that is brought is a ConfigError.
    where: the subject of messages.
  """
  if is_whole(parts, request):
    (only,) = parts.values()
    return {"train": dict(only)}, WHOLE
  if "valid" not in parts and "test" not in parts:
    return split_rows(parts["train"], request, where)
  refused = OPTIONS if "valid" in parts else ("test",)
  for option in (option for option in refused if option in request.options):
    raise ConfigError(f"data.name: option {option} of {request.kind} says how to split a set, but {where} brings its "
                      "own splits; take it away.")
  if "valid" in parts:
    return {name: dict(parts[name]) for name in SPLITS if name in parts}, "as they are brought"
  only_valid = dataclasses.replace(request, options={**request.options, "test": "0"})
  found, rule = split_rows(parts["train"], only_valid, f"the training part of {where}")
  return {**found, "test": dict(parts["test"])}, f"test as it is brought; of the training part {rule}"


def is_whole(names: Collection[str], request: Request) -> bool:
  """Return whether a set that brings splits of these names is to be one split: other data of a trained model."""
  return request.whole and len(names) == 1 and not any(option in request.options for option in OPTIONS)


def repeated(dataset: Dataset) -> dict[str, int]:
  """Return how many examples of validation and test are in the training split too, by split; {} where none are.

  Sets on disk, sequences, and densities that can be sampled at will are not looked at.
  """
  names = [name for name in dataset.splits if name != "train"]
  if dataset.spec.has_lengths or dataset.log_prob is not None or "train" not in dataset.splits:
    return {}
  if not all(dataset.split(name).in_memory for name in dataset.splits):
    return {}
  seen = set(digests_of(dataset.split("train")["x"]))
  counts = {name: sum(digest in seen for digest in digests_of(dataset.split(name)["x"])) for name in names}
  return {name: count for name, count in counts.items() if count}


def repeats_in_words(dataset: Dataset) -> str:
  """Return a sentence about examples that stand in training and in another split too; "" where there are none."""
  counts = dataset.info.get("repeated", {})
  parts = [f"{count} of {dataset.num_examples(name)} {name}" for name, count in counts.items()
           if name in dataset.splits]
  return f"{' and '.join(parts)} examples are in the training split too." if parts else ""


def _places(digests: Sequence[bytes] | UInt8[np.ndarray, "examples 32"]) -> Float[np.ndarray, " examples"]:
  """Return hashes as numbers in [0, 1)."""
  if isinstance(digests, np.ndarray):
    first = np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0]
  else:
    first = np.frombuffer(b"".join(digest[:8] for digest in digests), ">u8")
  return (first >> np.uint64(11)).astype(np.float64) / 2.0**53


def _row_digests(rows: Rows) -> list[bytes]:
  """Return a hash of each row, all its entries and the number of its copy among equal rows."""
  seen: collections.Counter[bytes] = collections.Counter()
  found = []
  for parts in zip(*(digests_of(rows[key]) for key in sorted(rows)), strict=True):
    row = b"".join(parts)
    seen[row] += 1
    found.append(hashlib.sha256(row + str(seen[row]).encode()).digest())
  return found


def digests_of(x: np.ndarray) -> list[bytes]:
  """Return the sha256 of each example's bytes; numbers that are equal have equal bytes."""
  rows = np.ascontiguousarray(x).reshape(len(x), -1)
  if rows.dtype.kind == "f":
    rows = rows + rows.dtype.type(0)  # -0.0 is 0.0
  rows = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
  return [hashlib.sha256(row.data).digest() for row in rows]
