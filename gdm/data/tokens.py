"""Text to tokens and back: characters, words or byte pairs (gdm/data/byte_pairs.py), and a vocabulary.

Characters are Unicode code points, as they are. Words are found by one rule:

  - a word is a run of letters, digits and "_", with single apostrophes and hyphens inside ("king's", "well-known") and
    points and commas between digits ("3.14");
  - a mark is any other character that is no white space, or a run of one such character ("--", "...");
  - a line break is a token; all other white space only separates, and is not kept.

Words are joined to a normal form: one space between tokens, but none around a line break, none before closing marks
(`. , ; : ! ? ) … %`), none after "(" and none at the ends; two tokens that would merge keep their space. Taking that
text apart gives the same tokens again. Upper and lower case differ.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer

from gdm.data.byte_pairs import BytePairs
from gdm.errors import DataError

UNKNOWN, END = "[UNK]", "[EOS]"

_WORD = re.compile(r"\[UNK\]|\n|\w+(?:['\u2019-]\w+|(?<=\d)[.,](?=\d)\w+)*|([^\w\s])\1*")
_CLOSING = frozenset(".,;:!?)…%")
_OPENING = frozenset("(")

Place = tuple[str, int]  # a token, and the index of its first character


@dataclasses.dataclass(frozen=True)
class TokenRule:
  """A rule by which text is cut into tokens.

  Attributes:
    name: what a token is, in one word.
    split: a text's tokens in order, with their places.
    join: the text of tokens.
  """

  name: str
  split: Callable[[str], Iterator[Place]]
  join: Callable[[Sequence[str]], str]

  @property
  def record(self) -> str:
    """The rule in plain values: its name."""
    return self.name


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """A vocabulary and the rule of its tokens.

  Attributes:
    rule: characters, words, or byte pairs.
    vocabulary: the token of each id; the special ones come last.
    unknown: id of [UNK], which stands for every token outside the vocabulary; None where such a token is an error.
    end: id of [EOS], which ends an example; None where the text is one stream.
  """

  rule: TokenRule | BytePairs
  vocabulary: tuple[str, ...]
  unknown: int | None = None
  end: int | None = None

  @classmethod
  def of(cls, rule: TokenRule | BytePairs, tokens: Iterable[str], unknown: bool, end: bool) -> "Tokenizer":
    """Return the tokenizer of these tokens, and the special ones that it is to have."""
    words = tuple(tokens)
    vocabulary = (*words, *[UNKNOWN] * unknown, *[END] * end)
    return cls(rule, vocabulary, len(words) if unknown else None, len(words) + unknown if end else None)

  def __len__(self) -> int:
    return len(self.vocabulary)

  def to_json(self) -> dict[str, Any]:
    """Return the tokenizer as strings, numbers and lists."""
    return {"rule": self.rule.record, "vocabulary": list(self.vocabulary), "unknown": self.unknown, "end": self.end}

  @classmethod
  def from_json(cls, record: Mapping[str, Any]) -> "Tokenizer":
    """Return the tokenizer that `to_json` wrote."""
    rule = record["rule"]
    rule = RULES[rule] if isinstance(rule, str) else BytePairs(**rule)
    return cls(rule, tuple(record["vocabulary"]), record["unknown"], record["end"])

  def encode(self, text: str) -> Int32[np.ndarray, " length"]:
    """Return the ids of a text; [EOS] is not added.

    Raise DataError naming the first token outside the vocabulary and its place, where there is no [UNK].
    """
    places = list(self.rule.split(text))
    ids = self.find([token for token, _ in places])
    if None in ids:
      token, place = places[ids.index(None)]
      raise DataError(f"the {self.rule.name} {token!r} at position {place} is not in the vocabulary, which is that of "
                      f"the training text; use what occurs there, or train with #unknown=allowed.")
    return np.array(ids, np.int32)

  def find(self, tokens: Iterable[str]) -> list[int | None]:
    """Return the id of each token; of one outside the vocabulary that of [UNK], or None where there is no [UNK]."""
    return [self._ids.get(token, self.unknown) for token in tokens]

  @functools.cached_property
  def _ids(self) -> dict[str, int]:
    return {token: i for i, token in enumerate(self.vocabulary) if i not in (self.unknown, self.end)}

  def decode(self, ids: Integer[np.ndarray, " length"] | Sequence[int]) -> str:
    """Return the text of ids, up to the first [EOS]. Characters and words that were unknown read "[UNK]"."""
    tokens = []
    for i in ids:
      if i == self.end:
        break
      tokens.append(self.vocabulary[int(i)])
    return self.rule.join(tokens)


def _split_words(text: str) -> Iterator[Place]:
  return ((match[0], match.start()) for match in _WORD.finditer(text))


def _join_words(tokens: Sequence[str]) -> str:
  parts = list(tokens[:1])
  for before, token in itertools.pairwise(tokens):
    tight = "\n" in (before, token) or (
        (token[0] in _CLOSING or before[0] in _OPENING) and before[-1] != token[0])
    parts.append(token if tight else " " + token)
  return "".join(parts)


CHARACTERS = TokenRule("character", lambda text: zip(text, range(len(text)), strict=True), "".join)
WORDS = TokenRule("word", _split_words, _join_words)
RULES = {rule.name: rule for rule in (CHARACTERS, WORDS)}
