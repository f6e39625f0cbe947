"""Generation of token sequences from prompts: many at once, in one compiled loop.

Knows no model: a step function turns a cache and the previous token into the next logits, as in
gdm/inference/ancestral.py. All sequences are at the same position at the same time; one whose prompt is longer than
another's takes its tokens from the prompt while the other already draws. A sequence's draws depend on its own key, its
own prompt and the position, never on what it shares a batch with.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, Key

from gdm.errors import ConfigError, DataError
from gdm.inference.ancestral import Step


@dataclasses.dataclass(frozen=True)
class TokenChoice:
  """A way to draw a token from its logits: divided by a temperature, then cut to the likeliest tokens.

  Attributes:
    temperature: divides the logits; towards 0 each draw is the argmax.
    top_k: draw among the k likeliest tokens; None means all. 1 is greedy.
    top_p: draw among the smallest set of likeliest tokens whose probability, after temperature and top_k, is at least
      p (nucleus sampling, Holtzman et al., arXiv:1904.09751, section 3.1); 1 means all.

  Raises:
    ConfigError: a value outside its range.
  """

  temperature: float = 1.0
  top_k: int | None = None
  top_p: float = 1.0

  def __post_init__(self) -> None:
    if not (self.temperature > 0 and math.isfinite(self.temperature)):
      raise ConfigError(f"temperature is {self.temperature}; it must be finite and above 0 (near 0 gives the argmax, "
                        "and so does top_k=1).")
    if self.top_k is not None and self.top_k < 1:
      raise ConfigError(f"top_k is {self.top_k}; it must be at least 1 (1 is greedy), or None for all tokens.")
    if not 0.0 < self.top_p <= 1.0:
      raise ConfigError(f"top_p is {self.top_p}; it must be above 0 and at most 1 (1 means all tokens).")

  def draw(self, key: Key[Array, ""], logits: Float[Array, "*shape levels"]) -> Int[Array, "*shape"]:
    """Draw tokens in [0, levels)."""
    if self.temperature != 1.0:
      # The largest first shifted to 0, as in gdm/distributions/categorical.py: a quotient may be infinite else.
      logits = logits - jnp.max(logits, axis=-1, keepdims=True)
      logits = logits / min(max(self.temperature, 1e-30), 1e30)
    if self.top_k is None and self.top_p == 1.0:
      return jax.random.categorical(key, logits).astype(jnp.int32)
    # By rank and not by a threshold: tokens of equal probability must not enlarge the set.
    logits, tokens = jax.lax.top_k(logits, min(self.top_k or logits.shape[-1], logits.shape[-1]))
    rank = jax.random.categorical(key, jnp.where(self._kept(logits), logits, -jnp.inf))
    return jnp.take_along_axis(tokens, rank[..., None], axis=-1)[..., 0].astype(jnp.int32)

  def _kept(self, logits: Float[Array, "*shape ranks"]) -> Bool[Array, "*shape ranks"]:
    """Return which ranks, likeliest first, are drawn among: those before which less than top_p was reached."""
    if self.top_p == 1.0:
      return jnp.ones(logits.shape, bool)
    probs = jax.nn.softmax(logits)
    # A set whose probability is p but for rounding is enough; the likeliest token is always in it.
    reached = self.top_p * (1.0 - 8.0 * float(jnp.finfo(probs.dtype).eps))
    return (jnp.cumsum(probs, axis=-1) - probs < reached).at[..., 0].set(True)


class Alternatives(NamedTuple):
  """The likeliest tokens at each position, likeliest first, and their log-probabilities under the model, in nats."""

  tokens: Int[Array, "batch length n"]
  log_probs: Float[Array, "batch length n"]


class Generated(NamedTuple):
  """Sequences that begin with their prompts.

  Attributes:
    tokens: prompt, then what was drawn, then padding.
    lengths: tokens of each sequence that are no padding: the prompt and a final `eos` included.
    log_probs: log-probability, in nats, of each drawn token under the model itself (temperature 1, nothing cut off);
      0 where nothing was drawn. None unless asked for.
    alternatives: what else the model could have drawn there; zeros where nothing was drawn. None unless asked for.
  """

  tokens: Int[Array, "batch length"]
  lengths: Int[Array, " batch"]
  log_probs: Float[Array, "batch length"] | None = None
  alternatives: Alternatives | None = None


# (cache, tokens [batch, prompt], num) -> the cache that the steps at indices 0 to num - 1 would have left.
Prefill = Callable[[Any, Int[Array, "batch prompt"], Int[Array, ""]], Any]


def generate(step: Step, cache: Any, keys: Key[Array, " batch"], prompt: Int[Array, "batch prompt"],
             prompt_length: Int[Array, " batch"], max_length: int, choice: TokenChoice | None = None, *,
             eos: int | None = None, pad: int = 0, with_log_probs: bool = False, num_alternatives: int = 0,
             prefill: Prefill | None = None) -> Generated:
  """Continue prompts to `max_length` tokens, or to their `eos`. Pure, for use under `jax.jit`.

  Args:
    step: `(cache, previous [batch], index) -> (cache, logits [batch, levels])`; at index 0 the previous token means
      nothing.
    cache: the state of `step` before the first token.
    keys: one per sequence, folded with the position at each draw.
    prompt: first tokens of each sequence, padded to one length with anything; [batch, 0] for none.
    prompt_length: how many of them are real, 0 to prompt.
    max_length: tokens of a sequence in all, its prompt included.
    choice: how tokens are drawn; by default from the model's own probabilities.
    eos: the token that ends a sequence when it is drawn (not when a prompt holds it); None for none.
    pad: the token that fills up a sequence after its end.
    with_log_probs: whether to return the log-probabilities of what was drawn.
    num_alternatives: how many likeliest tokens to return per position.
    prefill: takes the part of the prompts that all of them have in one pass; without it they are fed step by step.
  """
  choice = choice or TokenChoice()
  batch, width = prompt.shape
  given = jnp.pad(prompt.astype(jnp.int32), ((0, 0), (0, max(max_length - width, 0))))[:, :max_length]
  start = jnp.zeros((), jnp.int32)
  if prefill is not None and width:
    start = jnp.min(prompt_length).astype(jnp.int32)
    cache = prefill(cache, prompt.astype(jnp.int32), start)
  shape = (batch, max_length)
  blank = Generated(
      tokens=jnp.where(jnp.arange(max_length) < prompt_length[:, None], given, pad),
      lengths=jnp.minimum(prompt_length, max_length).astype(jnp.int32),
      log_probs=jnp.zeros(shape) if with_log_probs else None,
      alternatives=Alternatives(jnp.zeros((*shape, num_alternatives), jnp.int32),
                                jnp.zeros((*shape, num_alternatives))) if num_alternatives else None)

  def unfinished(state):
    index, _, ended, _ = state
    return (index < max_length) & ~jnp.all(ended)

  def body(state):
    index, cache, ended, out = state
    previous = jax.lax.dynamic_index_in_dim(out.tokens, jnp.maximum(index - 1, 0), axis=1, keepdims=False)
    cache, logits = step(cache, previous, index)
    drawn = jax.vmap(choice.draw)(jax.vmap(jax.random.fold_in, (0, None))(keys, index), logits)
    drawing = (index >= prompt_length) & ~ended
    token = jnp.where(drawing, drawn, jax.lax.dynamic_index_in_dim(out.tokens, index, axis=1, keepdims=False))
    out = out._replace(tokens=_put(out.tokens, index, token), lengths=out.lengths + drawing)
    if with_log_probs or num_alternatives:
      out = _explain(out, index, drawing, token, jax.nn.log_softmax(logits))
    return index + 1, cache, ended if eos is None else ended | (drawing & (token == eos)), out

  return jax.lax.while_loop(unfinished, body, (start, cache, jnp.zeros(batch, bool), blank))[-1]


def _explain(out: Generated, index: Int[Array, ""], drawing: Bool[Array, " batch"], token: Int[Array, " batch"],
             log_probs: Float[Array, "batch levels"]) -> Generated:
  """Write down, for sequences that draw, how probable their token was and what else there was."""
  if out.log_probs is not None:
    value = jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0]
    out = out._replace(log_probs=_put(out.log_probs, index, jnp.where(drawing, value, 0.0)))
  if out.alternatives is not None:
    values, tokens = jax.lax.top_k(log_probs, out.alternatives.tokens.shape[-1])
    drawing = drawing[:, None]
    out = out._replace(alternatives=Alternatives(
        _put(out.alternatives.tokens, index, jnp.where(drawing, tokens, 0)),
        _put(out.alternatives.log_probs, index, jnp.where(drawing, values, 0.0))))
  return out


def _put(array: Array, index: Int[Array, ""], value: Array) -> Array:
  """`array` [batch, length, ...] with `value` [batch, ...] at position `index`."""
  return jax.lax.dynamic_update_index_in_dim(array, value.astype(array.dtype), index, axis=1)


def check_prompt(prompt: Integer[np.ndarray, "batch prompt"], prompt_length: Integer[np.ndarray, " batch"],
                 levels: int, context: int | None) -> None:
  """Raise a DataError unless these are prompts, of at least one token each, for a model of `context` tokens."""
  for row, length in enumerate(prompt_length.tolist()):
    if not 1 <= length <= prompt.shape[1]:
      raise DataError(f"prompt_length[{row}] is {length}; it must be 1 to {prompt.shape[1]}, the width of prompt (to "
                      "generate from nothing, leave the prompt out).")
    if context is not None and length > context:
      raise DataError(f"the prompt of sequence {row} has {length} tokens, but the context is {context}; cut it to its "
                      f"last {context} tokens or fewer, or train with a longer context.")
    real = prompt[row, :length]
    for position in np.flatnonzero((real < 0) | (real >= levels))[:1].tolist():
      raise DataError(f"prompt[{row}, {position}] is {real[position]}; tokens are integers in [0, {levels}), the "
                      "vocabulary.")


def check_lengths(max_length: int, context: int | None, longest_prompt: int) -> None:
  """Raise a ConfigError unless sequences of `max_length` fit the context and the prompts fit into them."""
  if max_length < 1 or max_length < longest_prompt:
    raise ConfigError(f"max_length is {max_length}; it counts the prompt and must be at least {max(longest_prompt, 1)}"
                      ", the length of the longest prompt." if longest_prompt else
                      f"max_length is {max_length}; it must be at least 1.")
  if context is not None and max_length > context:
    raise ConfigError(f"max_length is {max_length}, but the context is {context}; it must be at most that.")


def check_token(name: str, token: int, levels: int) -> None:
  """Raise a ConfigError unless the token called `name` is in the vocabulary."""
  if not 0 <= token < levels:
    raise ConfigError(f"{name} is {token}; it must be a token in [0, {levels}), the vocabulary.")
