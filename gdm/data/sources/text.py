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
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from gdm.data.byte_pairs import BytePairs
from gdm.data.dataset import Dataset, smallest_dtype
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.data.text_shards import DIVIDERS, pieces_of
from gdm.data.tokens import CHARACTERS, UNKNOWN, WORDS, Rule, Tokenizer
from gdm.data.windows import at_random_offsets, cut
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError

OPTIONS = ("context", "tokens", "unit", "unknown", "vocabulary")
DEFAULT_CONTEXT = 64
DEFAULT_BYTE_PAIRS = 1024  # tokens at most
TRAIN_FRACTION = 0.9

_WORDS_OF = {True: "allowed", False: "refused"}  # of the option unknown
_RULES = {"characters": CHARACTERS, "words": WORDS}


class Choices(NamedTuple):
  """How a text is cut into tokens and examples: the options tokens, unit, vocabulary and unknown."""

  tokens: str
  unit: str
  limit: int | None
  unknown: bool

  @property
  def shown(self) -> str:
    """Those that are not the default, as they follow the name of the set: "" or "#tokens=words&unit=lines"."""
    chosen = {"tokens": (self.tokens, "characters"), "unit": (self.unit, "stream"), "vocabulary": (self.limit, None),
              "unknown": (_WORDS_OF[self.unknown], _WORDS_OF[_allows_unknown(self.tokens, self.limit)])}
    shown = "&".join(f"{key}={value}" for key, (value, default) in chosen.items() if value != default)
    return f"#{shown}" if shown else ""


def choices_of(request: Request) -> Choices:
  """Return the options of a request. Raise ConfigError for those that cannot be used, or not together."""
  tokens = request.choice("tokens", (*_RULES, "bpe"), "characters")
  unit = request.choice("unit", ("stream", *DIVIDERS), "stream")
  limit = request.integer("vocabulary", minimum=1) if "vocabulary" in request.options else None
  usual = _WORDS_OF[_allows_unknown(tokens, limit)]
  unknown = request.choice("unknown", ("refused", "allowed"), usual) == "allowed"
  if tokens == "bpe" and unknown:
    raise ConfigError("data.name: option unknown=allowed of text, but byte pairs know every text; take it away.")
  if limit is not None and not unknown and tokens != "bpe":
    raise ConfigError(f"data.name: option vocabulary={limit} of text leaves tokens out, which needs [UNK]; take "
                      "unknown=refused away.")
  return Choices(tokens, unit, limit, unknown)


def _allows_unknown(tokens: str, limit: int | None) -> bool:
  """Return whether there is [UNK] by default."""
  return tokens == "words" or (tokens == "characters" and limit is not None)


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
  tokens, unit, limit, unknown = choices = choices_of(request)
  path, stream = pathlib.Path(request.argument), unit == "stream"
  where = f"text file {path}"
  text = _read(path).replace("\r\n", "\n").replace("\r", "\n")
  spans_of = _spans(text, unit)
  if request.tokenizer is not None:
    rule = request.tokenizer.rule
  else:
    rule = rule_of(tokens) or byte_pairs_of(where, [text[start:stop] for start, stop in spans_of["train"]], limit)
  parts = {name: [_piece(rule, text, *span) for span in spans] for name, spans in spans_of.items()}
  counts = collections.Counter(token for piece in parts["train"] for token in piece.tokens)
  require_enough(where, counts, context if stream else 1, rule)
  tokenizer = request.tokenizer or (
      Tokenizer.of(rule, rule.vocabulary, False, end=not stream) if isinstance(rule, BytePairs) else
      tokenizer_of(where, rule, counts, limit, unknown, end=not stream))
  ids = {name: _encode(path, tokenizer, pieces) for name, pieces in parts.items()}
  train = cut(ids["train"], context)
  moves = (at_random_offsets(ids["train"], context, request.seed),) if stream else ()
  splits = {"train": MemorySplit(train, train, moves), "valid": MemorySplit(cut(ids["valid"], context))}
  info = {"source": str(path), "context": context, "tokens": tokens, "unit": unit, "vocabulary": tokenizer.vocabulary}
  return Dataset(f"text:{path.stem}{choices.shown}",
                 DataSpec(event=(context,), levels=len(tokenizer), has_lengths=True), splits, info, tokenizer=tokenizer,
                 units={name: _units(tokenizer, parts[name], ids[name]) for name in splits})


def _spans(text: str, unit: str) -> dict[str, list[tuple[int, int]]]:
  """Return the range of the pieces of each split."""
  if unit == "stream":
    at = int(TRAIN_FRACTION * len(text))
    return {"train": [(0, at)], "valid": [(at, len(text))]}
  spans = pieces_of(text, unit)
  at = int(TRAIN_FRACTION * len(spans))
  return {"train": spans[:at], "valid": spans[at:]}


def byte_pairs_of(where: str, texts: Iterable[str], limit: int | None) -> BytePairs:
  """Return the byte pairs of the texts of a training part. Raise DataError where there are fewer than `limit`."""
  rule = BytePairs.train(texts, limit or DEFAULT_BYTE_PAIRS)
  if limit is not None and len(rule.vocabulary) < limit:
    raise DataError(f"{where}: vocabulary={limit}, but its training part has byte pairs for "
                    f"{len(rule.vocabulary)} only; ask for at most so many, or leave the option out.")
  return rule


def rule_of(tokens: str) -> Rule | None:
  """Return the rule of characters or words; None for byte pairs, which are learned."""
  return _RULES.get(tokens)


def _piece(rule: Rule | BytePairs, text: str, start: int, stop: int) -> _Piece:
  return _Piece(start, text[start:stop], [token for token, _ in rule.split(text[start:stop])])


def require_enough(where: str, counts: Mapping[str, int], needed: int, rule: Rule | BytePairs) -> None:
  """Raise DataError where the training part, of which `counts` are the tokens, cannot be learned from."""
  num, distinct = sum(counts.values()), len(counts)
  if num < needed or distinct < 2:
    raise DataError(f"{where} is too short: its training part has {num} {rule.name}s, {distinct} different; "
                    f"it needs at least {needed} (the context, of a stream), two of them different.")


def tokenizer_of(where: str, rule: Rule, counts: Mapping[str, int], limit: int | None, unknown: bool,
                 end: bool) -> Tokenizer:
  """Return the tokenizer of a training part: characters in the order of their codes, words by how often they occur,
  then by their letters.

  Args:
    where: the subject of messages, as "text file book.txt".
    rule: how the text was cut.
    counts: how often each token occurs in the training part.
    limit: most tokens, special ones apart; None for all.
    unknown: whether there is [UNK].
    end: whether there is [EOS].
  """
  ranked = sorted(counts, key=lambda token: (-counts[token], token))
  if limit is not None and limit > len(ranked):
    raise DataError(f"{where}: vocabulary={limit}, but its training part has only {len(ranked)} distinct "
                    f"{rule.name}s; ask for at most so many, or leave the option out.")
  if limit is not None:
    ranked = ranked[:limit]
  elif unknown:
    ranked = [token for token in ranked if counts[token] > 1]
    if not ranked:
      raise DataError(f"{where} is too short: no {rule.name} occurs twice in its training part, and one that "
                      "occurs once becomes [UNK]; take a longer text, or set vocabulary=N.")
  if unknown:
    ranked = [token for token in ranked if token != UNKNOWN]  # a text may hold it, as a word
  return Tokenizer.of(rule, sorted(ranked) if rule is CHARACTERS else ranked, unknown, end)


def unseen(where: str, token: str, place: int, rule: Rule | BytePairs) -> DataError:
  """Return the error of a token of the validation part that the vocabulary lacks, where there is no [UNK]."""
  return DataError(f"{where}: the {rule.name} {token!r} at position {place}, in the validation part, does not occur in "
                   "the training part (the first 90 %); remove it, or set #unknown=allowed, which makes it [UNK].")


def _encode(path: pathlib.Path, tokenizer: Tokenizer, pieces: list[_Piece]) -> list[Integer[np.ndarray, " _tokens"]]:
  """Return the ids of each piece. Raise DataError naming the first token that has none, and its place in the file."""
  dtype, last = smallest_dtype(len(tokenizer)), [] if tokenizer.end is None else [tokenizer.end]
  encoded = []
  for piece in pieces:
    ids = tokenizer.find(piece.tokens)
    if None in ids:
      token, place = list(tokenizer.rule.split(piece.text))[ids.index(None)]
      raise unseen(f"text file {path}", token, piece.start + place, tokenizer.rule)
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
