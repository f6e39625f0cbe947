"""Scores of a text as a whole, by what of it each token is predicted from: one text has many published numbers.

  windows     independent windows of the context: each starts afresh
  stride:S    windows that move on by S tokens, of which each scores its last S: context - S tokens or more are given
  carried     the state is carried over the whole text, of models without a limit

Each is a log-probability of all of the text, since every token is scored once, given some of those before it: exact of
characters; of words and byte pairs a lower bound, since other tokens may read as the same text. So they may share a
table, in which the way is told. Examples are blocks of characters, the same whatever a token is: a token counts in the
block that it ends in, so that models of characters, words and byte pairs can be compared, block by block.
"""

import dataclasses
import functools
import hashlib
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from gdm import checks
from gdm.data.dataset import Dataset
from gdm.data.tokens import CHARACTERS, Tokenizer
from gdm.errors import ConfigError, DataError, NotFiniteError
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.likelihood import Kind
from gdm.model import HasContext, Params, PyTree
from gdm.precision import highest_precision

BLOCK = 1000  # characters of an example
MOST_TOKENS = 1 << 27  # of a text on disk, since a whole text is scored in memory
WAYS = ("windows", "stride", "carried")
_AT_ONCE = 4096  # tokens of a compiled call, where the state is carried
_TOKENS = 1 << 16  # tokens of a batch of windows, at most


@dataclasses.dataclass(frozen=True)
class TextWay:
  """How much of a text each of its tokens is predicted from.

  Attributes:
    name: windows, stride or carried.
    context: tokens of a window.
    stride: tokens that a window scores, at most the context; of windows it is the context.
  """

  name: str
  context: int
  stride: int

  @classmethod
  def of(cls, text: str, context: int) -> "TextWay":
    """Return the way that a text asks for: "windows", "stride:16" or "carried". Raise ConfigError for another."""
    name, _, number = text.partition(":")
    checks.one_of("--text", name, WAYS)
    if name != "stride":
      if number:
        raise ConfigError(f"--text is {text!r}; {name} takes no number.")
      return cls(name, context, context)
    if not number.isdecimal() or not 1 <= int(number) <= context:
      raise ConfigError(f"--text is {text!r}; it must be stride:S with S from 1 to the context, {context} tokens.")
    return cls(name, context, int(number))

  def __str__(self) -> str:
    return {"windows": f"windows of {self.context}", "carried": "carried",
            "stride": f"stride {self.stride} of {self.context}"}[self.name]


def text_of(dataset: Dataset, split: str) -> Integer[np.ndarray, " tokens"]:
  """Return the tokens of a split that is one text. Raise ConfigError where it is none."""
  if dataset.tokenizer is None or dataset.info.get("unit") != "stream" or dataset.transforms:
    raise ConfigError(f"--text is given, but {dataset.name} is not one text; take data of `text:` with unit=stream, "
                      "without transforms.")
  if not dataset.split(split).in_memory and dataset.units[split]["tokens"] > MOST_TOKENS:
    raise ConfigError(f"--text is given, but split {split} of {dataset.name} has {dataset.units[split]['tokens']:,} "
                      f"tokens, and at most {MOST_TOKENS:,} are scored as one text; leave --text out, which scores "
                      "windows of the context.")
  rows = dataset.split(split).rows(slice(None))
  real = np.arange(rows["x"].shape[1]) < np.asarray(rows["length"])[:, None]
  return np.asarray(rows["x"])[real]


def text_digest(tokenizer: Tokenizer, tokens: Integer[np.ndarray, " tokens"]) -> str:
  """Return 16 hex digits of the sha256 of the text, whatever its tokens are."""
  return hashlib.sha256(tokenizer.decode(tokens).encode()).hexdigest()[:16]


def score_text(model: Any, params: Params, tokens: Integer[np.ndarray, " tokens"], tokenizer: Tokenizer,
               way: TextWay) -> SplitLikelihood:
  """Return the log-likelihood, in nats, of every block of `BLOCK` characters; dimensions are characters. It is exact of
  characters, and of other tokens a lower bound.

  Raises:
    ConfigError: the model has no steps, or a limit where the state is to be carried.
    NotFiniteError: a token's score is not finite.
  """
  if not isinstance(model, HasContext):
    raise ConfigError(f"--text is given, but {type(model).__name__} is no model that goes through a text token by "
                      "token; choose one of sequences.")
  if way.name == "carried" and model.context is not None:
    raise ConfigError(f"--text is 'carried', but {type(model).__name__} sees {model.context} tokens at most; use "
                      "stride:S.")
  nats = carried_scores(model, params, tokens) if way.name == "carried" else window_scores(model, params, tokens, way)
  if not np.isfinite(nats).all():
    raise NotFiniteError(f"token {int(np.flatnonzero(~np.isfinite(nats))[0])} of the text has a score that is not "
                         "finite.")
  ends = character_ends(tokenizer, tokens)
  blocks = (ends - 1) // BLOCK
  num = int(blocks[-1]) + 1
  sizes = np.full(num, BLOCK)
  sizes[-1] = int(ends[-1]) - (num - 1) * BLOCK
  kind = Kind.EXACT if tokenizer.rule == CHARACTERS else Kind.LOWER_BOUND  # of the text, which other tokens may make
  return SplitLikelihood(np.bincount(blocks, nats, num), sizes, kind, (), 1, True)


def character_ends(tokenizer: Tokenizer, tokens: Integer[np.ndarray, " tokens"]) -> Int[np.ndarray, " tokens"]:
  """Return how many characters of the text come up to the end of each token.

  Raise DataError where tokens do not make the text one after the other.
  """
  words = [tokenizer.vocabulary[int(token)] for token in tokens]
  join = functools.lru_cache(maxsize=None)(lambda *pair: len(tokenizer.rule.join(list(pair))))
  # A join depends on the two tokens that it is between; bytes of one character that are apart are seen in the whole.
  sizes = [join(words[0]), *(join(one, other) - join(one) for one, other in itertools.pairwise(words))]
  whole = len(tokenizer.rule.join(words))
  ends = np.cumsum(sizes)
  if ends[-1] != whole:  # byte pairs may cut a character: share the text out by the tokens' bytes
    bytes_of = np.cumsum([len(word) for word in words])
    ends = -(-bytes_of * whole // bytes_of[-1])
  if np.any(np.diff(ends) < 0) or ends[0] < 1:
    raise DataError("tokens do not make the text one after the other; they can't be counted by its characters.")
  return ends


def window_scores(model: HasContext, params: Params, tokens: Integer[np.ndarray, " tokens"],
                  way: TextWay) -> Float[np.ndarray, " tokens"]:
  """Return log p of each token in nats, given the tokens before it in the window that scores it."""
  num, context, stride = len(tokens), way.context, way.stride
  starts = np.arange(0, max(num - context, 0) + stride, stride)
  size = max(1, min(len(starts), _TOKENS // context))
  padded = np.zeros(starts[-1] + context, np.int32)
  padded[:num] = tokens
  scored = np.zeros(len(padded))
  for first in range(0, len(starts), size):
    places = starts[first:first + size, None] + np.arange(context)
    rows = np.zeros((size, context), np.int32)
    rows[:len(places)] = padded[places]
    cache = model.init_cache(params, size)
    nats, _, _ = _steps(model, params, cache, jnp.zeros(size, jnp.int32), jnp.asarray(rows), 0)
    nats = np.asarray(nats, np.float64)[:len(places)]
    new = np.ones_like(places, bool)
    new[:, :context - stride] = starts[first:first + size, None] == 0  # the first window scores all
    scored[places[new]] = nats[new]
  return scored[:num]


def carried_scores(model: HasContext, params: Params, tokens: Integer[np.ndarray, " tokens"]
                   ) -> Float[np.ndarray, " tokens"]:
  """Return log p of each token in nats, given all tokens before it."""
  cache, previous, found = model.init_cache(params, 1), jnp.zeros(1, jnp.int32), []
  for start in range(0, len(tokens), _AT_ONCE):
    part = tokens[start:start + _AT_ONCE]
    rows = np.zeros((1, _AT_ONCE), np.int32)  # what is beyond the end is scored too, and left out
    rows[0, :len(part)] = part
    nats, cache, previous = _steps(model, params, cache, previous, jnp.asarray(rows), start)
    found.append(np.asarray(nats, np.float64)[0, :len(part)])
  return np.concatenate(found)


@functools.partial(jax.jit, static_argnames=("model",))
@highest_precision()
def _steps(model: HasContext, params: Params, cache: PyTree, previous: Int[Array, " batch"],
           x: Int[Array, "batch steps"], start: int | Int[Array, ""]
           ) -> tuple[Float[Array, "batch steps"], PyTree, Int[Array, " batch"]]:
  """Return log p of each token, and the state and the token after which the next steps go on."""
  def step(state, token):
    cache, previous, index = state
    cache, logits = model.conditional_step(params, cache, previous, index)
    logs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return (cache, token, index + 1), jnp.take_along_axis(logs, token[:, None], axis=1)[:, 0]

  (cache, previous, _), nats = jax.lax.scan(step, (cache, previous, jnp.asarray(start, jnp.int32)), x.T)
  return nats.T, cache, previous
