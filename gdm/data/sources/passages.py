"""Texts of splits, whatever source they come from, as windows of tokens with a vocabulary of the training split.

Options, after "#" and joined by "&":

  context=64                      tokens of an example
  tokens=characters | words | bpe see gdm/data/tokens.py; bpe are byte pairs, learned from the training split
  unit=stream | lines | paragraphs
                                  stream: examples are windows of one long text. Otherwise each line, or each paragraph
                                  (blank lines divide them), is an example that ends with [EOS]; one that is longer than
                                  the context is cut into several, of which the last has the [EOS]. Empty ones fall out
  unknown=refused | allowed       whether [UNK] stands for what the vocabulary lacks. Words: allowed by default;
                                  characters: refused, and an unseen one in a held-out part is an error
  vocabulary=N                    the N most frequent tokens only, special ones apart; with [UNK]. Of byte pairs the
                                  number of tokens, by default 1024; they need no [UNK]

The vocabulary is that of the training split; with [UNK] and no N it leaves out what occurs there once, which teaches
the model what [UNK] is.

Evaluation, and a pass over the training split, sees windows that don't overlap, so every token is scored once; the last
window is shorter and says so in "length". Training on a stream sees as many windows per epoch, at random offsets.
`units` counts what likelihood is per: tokens, and characters of the text as it is joined again (see `Rule.join`), in
which [EOS] counts as one character, the line break whose place it takes, and a word that became [UNK] with its own.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from gdm.data.byte_pairs import BytePairs
from gdm.data.dataset import Dataset, smallest_dtype
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.data.text_shards import DIVIDERS, pieces_of
from gdm.data.tokens import CHARACTERS, UNKNOWN, WORDS, Tokenizer, TokenRule
from gdm.data.windows import at_random_offsets, cut
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError

OPTIONS = ("context", "tokens", "unit", "unknown", "vocabulary")
DEFAULT_CONTEXT = 64
DEFAULT_BYTE_PAIRS = 1024  # tokens at most
TRAIN_FRACTION = 0.9
FIRST_PART = "training part (the first 90 %)"

_WORDS_OF = {True: "allowed", False: "refused"}  # of the option unknown
_RULES = {"characters": CHARACTERS, "words": WORDS}
_PART_NAMES = {"train": "training part", "valid": "validation part", "test": "test part"}  # in messages


class Choices(NamedTuple):
  """How a text is cut into tokens and examples: the options tokens, unit, vocabulary, unknown and context."""

  tokens: str
  unit: str
  limit: int | None
  unknown: bool
  context: int = DEFAULT_CONTEXT

  def shown(self, usual_unit: str = "stream") -> str:
    """Return those that are not the default, as they follow the name of the set: "" or "#tokens=words&unit=lines"."""
    chosen = {"tokens": (self.tokens, "characters"), "unit": (self.unit, usual_unit), "vocabulary": (self.limit, None),
              "unknown": (_WORDS_OF[self.unknown], _WORDS_OF[_allows_unknown(self.tokens, self.limit)])}
    shown = "&".join(f"{key}={value}" for key, (value, default) in chosen.items() if value != default)
    return f"#{shown}" if shown else ""


def choices_of(request: Request, units: Sequence[str] = ("stream", *DIVIDERS)) -> Choices:
  """Return the options of a request; the first of the units is the default. Raise ConfigError for options that cannot
  be used, or not together."""
  tokens = request.choice("tokens", (*_RULES, "bpe"), "characters")
  unit = request.choice("unit", units, units[0])
  limit = request.integer("vocabulary", minimum=1) if "vocabulary" in request.options else None
  usual = _WORDS_OF[_allows_unknown(tokens, limit)]
  unknown = request.choice("unknown", ("refused", "allowed"), usual) == "allowed"
  if tokens == "bpe" and unknown:
    raise ConfigError(f"data.name: option unknown=allowed of {request.kind}, but byte pairs know every text; take it "
                      "away.")
  if limit is not None and not unknown and tokens != "bpe":
    raise ConfigError(f"data.name: option vocabulary={limit} of {request.kind} leaves tokens out, which needs [UNK]; "
                      "take unknown=refused away.")
  return Choices(tokens, unit, limit, unknown, request.integer("context", DEFAULT_CONTEXT, minimum=1))


def _allows_unknown(tokens: str, limit: int | None) -> bool:
  """Return whether there is [UNK] by default."""
  return tokens == "words" or (tokens == "characters" and limit is not None)


class Passage(NamedTuple):
  """A text that is cut into tokens and windows by itself; no window reaches beyond it.

  Attributes:
    text: the text, with "\\n" for line breaks.
    start: number of characters before it in its file, or in its example.
    example: number of the example of its split that it is from; None where the source is one file.
  """

  text: str
  start: int = 0
  example: int | None = None


def from_passages(parts: Mapping[str, Sequence[Passage]], choices: Choices, request: Request, name: str, where: str,
                  facts: Mapping[str, Any], training: str = "training part") -> Dataset:
  """Return windows "x" [N, context] of token ids with "length" [N]; `Dataset.tokenizer` turns them into text again.

  Args:
    parts: passages by split: "train" and "valid", and "test" where there is one.
    choices: how they are cut into tokens; of unit "stream" they do not end with [EOS].
    request: for the seed, and the tokenizer of a model that has one.
    name: name of the set.
    where: the source, as the subject of messages.
    facts: plain facts for `Dataset.info`, beside the choices.
    training: name of the training part in messages.

  Raises:
    DataError: a training part that is too short for one window, or has fewer distinct tokens than asked for; a held-out
      part with tokens that the training part lacks.
  """
  context, stream = choices.context, choices.unit == "stream"
  if request.tokenizer is not None and stream == (request.tokenizer.end is not None):
    raise ConfigError(f"data.name: option unit={choices.unit} of {request.kind}, but the vocabulary that is given "
                      + ("has [EOS], which ends examples: set unit=lines or unit=paragraphs." if stream else
                         "has no [EOS] to end examples by: set unit=stream."))
  rule = _rule(parts["train"], choices, request.tokenizer, where)
  tokens = {split: [[token for token, _ in rule.split(passage.text)] for passage in passages]
            for split, passages in parts.items()}
  counts = collections.Counter(token for each in tokens["train"] for token in each)
  require_enough(where, counts, context if stream else 1, rule)
  tokenizer = request.tokenizer or (
      Tokenizer.of(rule, rule.vocabulary, False, end=not stream) if isinstance(rule, BytePairs) else
      tokenizer_of(where, rule, counts, choices.limit, choices.unknown, end=not stream))
  ids = {}
  for split, passages in parts.items():
    which = where if passages[:1] and passages[0].example is None else f"{where}, split {split}"
    ids[split] = _encode(tokenizer, passages, tokens[split], which, _PART_NAMES[split], training)
  train = cut(ids["train"], context)
  moves = (at_random_offsets(ids["train"], context, request.seed),) if stream else ()
  splits = {split: MemorySplit(train, train, moves) if split == "train" else MemorySplit(cut(found, context))
            for split, found in ids.items()}
  info = {**facts, "context": context, "tokens": choices.tokens, "unit": choices.unit,
          "vocabulary": tokenizer.vocabulary}
  return Dataset(name, DataSpec(event=(context,), levels=len(tokenizer), has_lengths=True), splits, info,
                 tokenizer=tokenizer, units={split: _units(tokenizer, tokens[split], ids[split]) for split in splits})


def normalized(text: str) -> str:
  """Return the text with "\\n" for every line break."""
  return text.replace("\r\n", "\n").replace("\r", "\n")


def passages_of(text: str, unit: str, example: int | None = None) -> list[Passage]:
  """Return the passages of a text: all of it, or its lines or paragraphs."""
  if unit not in DIVIDERS:
    return [Passage(text, 0, example)]
  return [Passage(text[start:stop], start, example) for start, stop in pieces_of(text, unit)]


def split_text(text: str, unit: str) -> dict[str, list[Passage]]:
  """Return the passages of one text: the first 90 % train, by characters of a stream, else by lines or paragraphs."""
  if unit not in DIVIDERS:
    at = int(TRAIN_FRACTION * len(text))
    return {"train": [Passage(text[:at])], "valid": [Passage(text[at:], at)]}
  return split_passages(passages_of(text, unit))


def split_passages(passages: Sequence[Passage]) -> dict[str, list[Passage]]:
  """Return the first 90 % of the passages as the training part, the others as the validation part."""
  at = int(TRAIN_FRACTION * len(passages))
  return {"train": list(passages[:at]), "valid": list(passages[at:])}


def _rule(train: Sequence[Passage], choices: Choices, given: Tokenizer | None, where: str) -> TokenRule | BytePairs:
  """Return the rule of the given tokenizer, or else the one that is chosen."""
  if given is not None:
    return given.rule
  return rule_of(choices.tokens) or byte_pairs_of(where, [passage.text for passage in train], choices.limit)


def byte_pairs_of(where: str, texts: Iterable[str], limit: int | None) -> BytePairs:
  """Return the byte pairs of the texts of a training part. Raise DataError where there are fewer than `limit`."""
  rule = BytePairs.train(texts, limit or DEFAULT_BYTE_PAIRS)
  if limit is not None and len(rule.vocabulary) < limit:
    raise DataError(f"{where}: vocabulary={limit}, but its training part has byte pairs for "
                    f"{len(rule.vocabulary)} only; ask for at most so many, or leave the option out.")
  return rule


def rule_of(tokens: str) -> TokenRule | None:
  """Return the rule of characters or words; None for byte pairs, which are learned."""
  return _RULES.get(tokens)


def require_enough(where: str, counts: Mapping[str, int], needed: int, rule: TokenRule | BytePairs) -> None:
  """Raise DataError where the training part, of which `counts` are the tokens, cannot be learned from."""
  num, distinct = sum(counts.values()), len(counts)
  if num < needed or distinct < 2:
    raise DataError(f"{where} is too short: its training part has {num} {rule.name}s, {distinct} different; "
                    f"it needs at least {needed} (the context, of a stream), two of them different.")


def tokenizer_of(where: str, rule: TokenRule, counts: Mapping[str, int], limit: int | None, unknown: bool,
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


def unseen(where: str, token: str, place: int, rule: TokenRule | BytePairs, part: str = "validation part",
           training: str = FIRST_PART) -> DataError:
  """Return the error of a token that the vocabulary lacks, where there is no [UNK].

  Args:
    where: the subject of the message, as "text file book.txt".
    token, place: the token, and the number of characters before it.
    rule: how the text was cut.
    part, training: the part that has the token, and the part that the vocabulary is from.
  """
  return DataError(f"{where}: the {rule.name} {token!r} at position {place}, in the {part}, does not occur in "
                   f"the {training}; remove it, or set #unknown=allowed, which makes it [UNK].")


def _encode(tokenizer: Tokenizer, passages: Sequence[Passage], tokens: Sequence[Sequence[str]], where: str, part: str,
            training: str) -> list[Integer[np.ndarray, " _tokens"]]:
  """Return the ids of each passage. Raise DataError naming the first token that has none, and its place."""
  dtype, last = smallest_dtype(len(tokenizer)), [] if tokenizer.end is None else [tokenizer.end]
  encoded = []
  for passage, each in zip(passages, tokens, strict=True):
    ids = tokenizer.find(each)
    if None in ids:
      token, place = list(tokenizer.rule.split(passage.text))[ids.index(None)]
      which = where if passage.example is None else f"{where}, example {passage.example}"
      raise unseen(which, token, passage.start + place, tokenizer.rule, part, training)
    encoded.append(np.array(ids + last, dtype))
  return encoded


def _units(tokenizer: Tokenizer, tokens: Sequence[Sequence[str]], ids: Sequence[Integer[np.ndarray, " _tokens"]]
           ) -> dict[str, int]:
  ends = 0 if tokenizer.end is None else len(tokens)
  unknown = 0 if tokenizer.unknown is None else sum(int(np.sum(each == tokenizer.unknown)) for each in ids)
  return {"tokens": sum(map(len, ids)), "unknown": unknown,
          "characters": sum(len(tokenizer.rule.join(each)) for each in tokens) + ends}
