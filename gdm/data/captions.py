"""Captions, or other short texts that examples are conditional on: the prefix of a batch, as numbers of words.

Upper and lower case are one. Number 0 is no word, and fills up shorter texts. The last number is [UNK], any word that
few captions of the training split have: by them a model would learn which example is meant, and nothing of others.
"""

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int32, Integer

from gdm.data.tokens import UNKNOWN, WORDS, Tokenizer
from gdm.errors import DataError

NOTHING = "[PAD]"
LEAST = 2  # captions that have a word which counts


def tokenizer_of(texts: Iterable[str], least: int = LEAST) -> Tokenizer:
  """Return the tokenizer of the words that at least so many texts have, in order of their frequency.

  Raise DataError where there are none.
  """
  counts: dict[str, int] = {}
  for text in texts:
    for word in set(_words(text)):
      counts[word] = counts.get(word, 0) + 1
  words = sorted((word for word in counts if counts[word] >= least), key=lambda word: (-counts[word], word))
  if not words:
    raise DataError(f"no word is in {least} captions of the training split or more; set #least lower.")
  return Tokenizer.of(WORDS, (NOTHING, *words), unknown=True, end=False)


def longest(texts: Iterable[str]) -> int:
  """Return the number of words of the longest text."""
  return max((len(_words(text)) for text in texts), default=0)


def encode(tokenizer: Tokenizer, texts: Sequence[str], steps: int, where: str) -> Int32[np.ndarray, "texts steps"]:
  """Return the numbers of the words of each text, 0 after its end.

  Raise DataError for a text without words, or with more than `steps`, saying which.
  """
  found = np.zeros((len(texts), steps), np.int32)
  for row, text in enumerate(texts):
    words = tokenizer.find(_words(text))
    if not 1 <= len(words) <= steps:
      raise DataError(f"{where}: {text[:60]!r} has {len(words)} words; it must have 1 to {steps}.")
    found[row, :len(words)] = np.asarray(words, np.int32)
  return found


def encode_prompts(tokenizer: Tokenizer, texts: Sequence[str], steps: int) -> Int32[np.ndarray, "texts steps"]:
  """Return `encode` of what a user asks for. Raise DataError for an unknown word, naming near ones."""
  known = [word for word in tokenizer.vocabulary if word not in (NOTHING, UNKNOWN)]
  for text in texts:
    for word in _words(text):
      if word not in known:
        near = difflib.get_close_matches(word, known, n=3)
        raise DataError(f"prompt {text[:60]!r}: {word!r} is none of the {len(known)} words that the model knows of its "
                        f"training captions; {f'near are {near}' if near else 'choose others'}.")
  return encode(tokenizer, texts, steps, "prompt")


def decode(tokenizer: Tokenizer, prefix: Integer[np.ndarray, " steps"]) -> str:
  """Return the text of a prefix."""
  return tokenizer.decode(prefix[prefix > 0])


def _words(text: str) -> list[str]:
  return [word for word, _ in WORDS.split(text.lower())]
