"""Byte-pair encoding (Sennrich et al. 2016) of UTF-8 bytes, by the library `tokenizers`; needs the extra "bpe".

Every text can be encoded, since each of the 256 bytes is a token; the other tokens are pairs of tokens that were
merged, the most frequent first, and never across words. In a token's name bytes stand as the characters of GPT-2's
table, in which a space is "Ġ" and a line break "Ċ".
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gdm.errors import ConfigError
from gdm.extras import load_extra

NUM_BYTES = 256


@dataclasses.dataclass(frozen=True)
class BytePairs:
  """A rule by which text is cut into tokens, learned from a text.

  Attributes:
    definition: the merges and the tokens, in the JSON of `tokenizers`.
  """

  definition: str

  @classmethod
  def train(cls, texts: Iterable[str], vocabulary: int) -> "BytePairs":
    """Return the rule learned from texts, with at most so many tokens. Raise ConfigError for fewer than the bytes."""
    if vocabulary < NUM_BYTES:
      raise ConfigError(f"data.name: option vocabulary={vocabulary} with tokens=bpe must be at least {NUM_BYTES}, the "
                        "number of bytes.")
    library = _library()
    model = library.Tokenizer(library.models.BPE())
    model.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False, min_frequency=2,
                                          initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet())
    model.train_from_iterator(texts, trainer)
    return cls(model.to_str())

  @property
  def name(self) -> str:
    """What a token is, in one word."""
    return "byte pair"

  @property
  def record(self) -> dict[str, str]:
    """The rule in plain values: `BytePairs(**record)`."""
    return {"definition": self.definition}

  @functools.cached_property
  def vocabulary(self) -> tuple[str, ...]:
    """The token of each id."""
    ids = self._model.get_vocab()
    return tuple(sorted(ids, key=lambda token: ids[token]))

  def split(self, text: str) -> Iterator[tuple[str, int]]:
    """Return a text's tokens in order, with the index of the character in which each begins."""
    found = self._model.encode(text, add_special_tokens=False)
    return zip(found.tokens, (start for start, _ in found.offsets), strict=True)

  def encode(self, text: str) -> list[int]:
    """Return the ids of a text's tokens, places in `vocabulary`."""
    return self._model.encode(text, add_special_tokens=False).ids

  def join(self, tokens: Sequence[str]) -> str:
    """Return the text of tokens; bytes that are no UTF-8 become U+FFFD."""
    return self._model.decoder.decode(list(tokens))

  @functools.cached_property
  def _model(self) -> Any:
    return _library().Tokenizer.from_str(self.definition)


def _library() -> Any:
  return load_extra("tokenizers", "bpe", "option tokens=bpe of text")
