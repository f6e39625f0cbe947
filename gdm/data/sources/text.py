"""Text: `text:<path>`, and after "#", joined by "&":

  context=64                      tokens of an example
  tokens=characters | words | bpe see gdm/data/tokens.py; bpe are byte pairs, learned from the training split
  unit=stream | lines | paragraphs
                                  stream: examples are windows of one long text. Otherwise each line, or each paragraph
                                  (blank lines divide them), is an example that ends with [EOS]; one that is longer than
                                  the context is cut into several, of which the last has the [EOS]. Empty ones fall out
  unknown=refused | allowed       whether [UNK] stands for what the vocabulary lacks. Words: allowed by default;
                                  characters: refused, and an unseen one in the validation part is an error
  vocabulary=N                    the N most frequent tokens only, special ones apart; with [UNK]. Of byte pairs the
                                  number of tokens, by default 1024; they need no [UNK]

The first 90 % (of the characters of a stream, of the lines, of the paragraphs) are the training split, the last 10 %
the validation split; there is no test split, as is the custom with small corpora. The vocabulary is that of the
training split; with [UNK] and no N it leaves out what occurs there once, which teaches the model what [UNK] is.

Line breaks are "\\n", whatever the file has, and a byte order mark at its start is left out.

Evaluation, and a pass over the training split, sees windows that don't overlap, so every token is scored once; the last
window is shorter and says so in "length". Training on a stream sees as many windows per epoch, at random offsets.
`units` counts what likelihood is per: tokens, and characters of the text as it is joined again (see `Rule.join`), in
which [EOS] counts as one character, the line break whose place it takes, and a word that became [UNK] with its own.
"""

import collections
import dataclasses
import pathlib
import re

import numpy as np
from jaxtyping import Integer

from gdm.data.byte_pairs import BytePairs
from gdm.data.dataset import Dataset, smallest_dtype
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.data.tokens import CHARACTERS, UNKNOWN, WORDS, Rule, Tokenizer
from gdm.data.windows import at_random_offsets, cut
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError

OPTIONS = ("context", "tokens", "unit", "unknown", "vocabulary")
DEFAULT_CONTEXT = 64
DEFAULT_BYTE_PAIRS = 1024  # tokens at most
TRAIN_FRACTION = 0.9

_RULES = {"characters": CHARACTERS, "words": WORDS}
_DIVIDERS = {"lines": re.compile(r"\n"), "paragraphs": re.compile(r"\n\s*\n")}


@dataclasses.dataclass(frozen=True)
class _Piece:
  """A part of the text that is tokenized as a whole: where it starts in the file, itself, and its tokens."""

  start: int
  text: str
  tokens: list[str]


def load(request: Request) -> Dataset:
  """Windows "x" [N, context] of token ids with "length" [N]; `Dataset.tokenizer` turns them into text again.

  Raises:
    ConfigError: an option that cannot be used, or unknown=refused with words left out.
    DataError: file missing, not UTF-8, empty, too short for one window, with fewer distinct tokens than asked for, or
      with tokens in its last 10 % that the training split does not know.
  """
  context = request.integer("context", DEFAULT_CONTEXT, minimum=1)
  tokens = request.choice("tokens", (*_RULES, "bpe"), "characters")
  unit = request.choice("unit", ("stream", *_DIVIDERS), "stream")
  limit = request.integer("vocabulary", minimum=1) if "vocabulary" in request.options else None
  usual = "refused" if tokens == "bpe" or (tokens == "characters" and limit is None) else "allowed"
  unknown = request.choice("unknown", ("refused", "allowed"), usual) == "allowed"
  if tokens == "bpe" and unknown:
    raise ConfigError("data.name: option unknown=allowed of text, but byte pairs know every text; take it away.")
  if limit is not None and not unknown and tokens != "bpe":
    raise ConfigError(f"data.name: option vocabulary={limit} of text leaves tokens out, which needs [UNK]; take "
                      "unknown=refused away.")
  path, stream = pathlib.Path(request.argument), unit == "stream"
  text = _read(path).replace("\r\n", "\n").replace("\r", "\n")
  spans_of = _spans(text, unit)
  if request.tokenizer is not None:
    rule = request.tokenizer.rule
  else:
    rule = _RULES[tokens] if tokens in _RULES else _byte_pairs(path, text, spans_of["train"], limit)
  parts = {name: [_piece(rule, text, *span) for span in spans] for name, spans in spans_of.items()}
  _require_enough(path, parts["train"], context if stream else 1, rule)
  tokenizer = request.tokenizer or (
      Tokenizer.of(rule, rule.vocabulary, False, end=not stream) if isinstance(rule, BytePairs) else
      _tokenizer(path, rule, parts["train"], limit, unknown, end=not stream))
  ids = {name: _encode(path, tokenizer, pieces) for name, pieces in parts.items()}
  train = cut(ids["train"], context)
  moves = (at_random_offsets(ids["train"], context, request.seed),) if stream else ()
  splits = {"train": MemorySplit(train, train, moves), "valid": MemorySplit(cut(ids["valid"], context))}
  chosen = {"tokens": (tokens, "characters"), "unit": (unit, "stream"), "vocabulary": (limit, None),
            "unknown": ("allowed" if unknown else "refused", usual)}
  shown = "&".join(f"{key}={value}" for key, (value, default) in chosen.items() if value != default)
  info = {"source": str(path), "context": context, "tokens": tokens, "unit": unit, "vocabulary": tokenizer.vocabulary}
  return Dataset(f"text:{path.stem}" + ("#" + shown if shown else ""),
                 DataSpec(event=(context,), levels=len(tokenizer), has_lengths=True), splits, info, tokenizer=tokenizer,
                 units={name: _units(tokenizer, parts[name], ids[name]) for name in splits})


def _spans(text: str, unit: str) -> dict[str, list[tuple[int, int]]]:
  """Return the range of the pieces of each split."""
  if unit == "stream":
    at = int(TRAIN_FRACTION * len(text))
    return {"train": [(0, at)], "valid": [(at, len(text))]}
  breaks = [match.span() for match in _DIVIDERS[unit].finditer(text)]
  starts, stops = [0, *(stop for _, stop in breaks)], [*(start for start, _ in breaks), len(text)]
  spans = [(start, stop) for start, stop in zip(starts, stops, strict=True) if text[start:stop].strip()]
  at = int(TRAIN_FRACTION * len(spans))
  return {"train": spans[:at], "valid": spans[at:]}


def _byte_pairs(path: pathlib.Path, text: str, train: list[tuple[int, int]], limit: int | None) -> BytePairs:
  rule = BytePairs.train([text[start:stop] for start, stop in train], limit or DEFAULT_BYTE_PAIRS)
  if limit is not None and len(rule.vocabulary) < limit:
    raise DataError(f"text file {path}: vocabulary={limit}, but its training part has byte pairs for "
                    f"{len(rule.vocabulary)} only; ask for at most so many, or leave the option out.")
  return rule


def _piece(rule: Rule | BytePairs, text: str, start: int, stop: int) -> _Piece:
  return _Piece(start, text[start:stop], [token for token, _ in rule.split(text[start:stop])])


def _require_enough(path: pathlib.Path, train: list[_Piece], needed: int, rule: Rule | BytePairs) -> None:
  num, distinct = sum(len(piece.tokens) for piece in train), len({token for piece in train for token in piece.tokens})
  if num < needed or distinct < 2:
    raise DataError(f"text file {path} is too short: its training part has {num} {rule.name}s, {distinct} different; "
                    f"it needs at least {needed} (the context, of a stream), two of them different.")


def _tokenizer(path: pathlib.Path, rule: Rule, train: list[_Piece], limit: int | None, unknown: bool,
               end: bool) -> Tokenizer:
  """Characters in the order of their codes, words by how often they occur, then by their letters."""
  counts = collections.Counter(token for piece in train for token in piece.tokens)
  ranked = sorted(counts, key=lambda token: (-counts[token], token))
  if limit is not None and limit > len(ranked):
    raise DataError(f"text file {path}: vocabulary={limit}, but its training part has only {len(ranked)} distinct "
                    f"{rule.name}s; ask for at most so many, or leave the option out.")
  if limit is not None:
    ranked = ranked[:limit]
  elif unknown:
    ranked = [token for token in ranked if counts[token] > 1]
    if not ranked:
      raise DataError(f"text file {path} is too short: no {rule.name} occurs twice in its training part, and one that "
                      "occurs once becomes [UNK]; take a longer text, or set vocabulary=N.")
  if unknown:
    ranked = [token for token in ranked if token != UNKNOWN]  # a text may hold it, as a word
  return Tokenizer.of(rule, sorted(ranked) if rule is CHARACTERS else ranked, unknown, end)


def _encode(path: pathlib.Path, tokenizer: Tokenizer, pieces: list[_Piece]) -> list[Integer[np.ndarray, " _tokens"]]:
  """Return the ids of each piece. Raise DataError naming the first token that has none, and its place in the file."""
  dtype, last = smallest_dtype(len(tokenizer)), [] if tokenizer.end is None else [tokenizer.end]
  encoded = []
  for piece in pieces:
    ids = tokenizer.find(piece.tokens)
    if None in ids:
      token, place = list(tokenizer.rule.split(piece.text))[ids.index(None)]
      raise DataError(f"text file {path}: the {tokenizer.rule.name} {token!r} at position {piece.start + place}, in "
                      "the validation part, does not occur in the training part (the first 90 %); remove it, or set "
                      "#unknown=allowed, which makes it [UNK].")
    encoded.append(np.array(ids + last, dtype))
  return encoded


def _units(tokenizer: Tokenizer, pieces: list[_Piece], ids: list[Integer[np.ndarray, " _tokens"]]) -> dict[str, int]:
  ends = 0 if tokenizer.end is None else len(pieces)
  unknown = 0 if tokenizer.unknown is None else sum(int(np.sum(piece == tokenizer.unknown)) for piece in ids)
  return {"tokens": sum(map(len, ids)), "unknown": unknown,
          "characters": sum(len(tokenizer.rule.join(piece.tokens)) for piece in pieces) + ends}


def _read(path: pathlib.Path) -> str:
  if not path.is_file():
    raise DataError(f"text file {str(path)!r} does not exist; name it by data.path or text:<path>.")
  try:
    text = path.read_bytes().decode("utf-8-sig")  # a byte order mark is no character of the text
  except UnicodeDecodeError as error:
    raise DataError(f"text file {path} is not UTF-8: byte {error.start} is "
                    f"{error.object[error.start]:#04x}.") from error
  if not text.strip():
    raise DataError(f"text file {path} is empty.")
  return text
