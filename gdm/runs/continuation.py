"""Sequences continued from prompts by a trained model, also beyond its context.

A model with a context of C tokens generates up to C. To go on, it starts anew from the last half of its context, as if
a window of the data began there: a token is drawn given at least the C // 2 before it, and nothing earlier. A model
without a limit (a recurrent one) goes on from its state.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Integer, Key

from gdm.data.dataset import Dataset
from gdm.data.description import Description
from gdm.errors import ConfigError
from gdm.inference.generation import Generated, check_prompt
from gdm.model import HasGenerate, Model, Params
from gdm.training.streams import stream_key


def require_generator(name: str, model: Model, dataset: Description | Dataset) -> HasGenerate:
  """Return the model called `name`. Raise ConfigError unless it continues sequences, and those are text or sound."""
  if not isinstance(model, HasGenerate):
    raise ConfigError(f"{name} is no model of sequences, which alone can go on from a prompt; use experiments.sample.")
  if dataset.tokenizer is None and dataset.sample_rate is None:
    raise ConfigError(f"{name} was trained on {dataset.name}, which is neither text nor sound; use experiments.sample.")
  return model


@dataclasses.dataclass
class Continuation:
  """A prompt and what was drawn after it.

  Attributes:
    prompt: its tokens.
    drawn: the tokens after it, a final `eos` included.
    log_probs: of each drawn token, in nats, under the model itself; [] unless asked for.
    alternatives: for each drawn token the likeliest ones with their log-probabilities; [] unless asked for.
    ended: whether it came to its `eos`.
  """

  prompt: list[int]
  drawn: list[int] = dataclasses.field(default_factory=list)
  log_probs: list[float] = dataclasses.field(default_factory=list)
  alternatives: list[list[tuple[int, float]]] = dataclasses.field(default_factory=list)
  ended: bool = False

  def window(self, context: int | None) -> list[int]:
    """The tokens that the model is given to go on from."""
    tokens = self.prompt + self.drawn
    return tokens if context is None or len(tokens) < context else tokens[len(tokens) - context // 2:]


def continue_prompts(model: HasGenerate, params: Params, key: Key[Array, ""],
                     prompts: Sequence[Integer[np.ndarray, " _prompt"]], length: int, levels: int,
                     eos: int | None = None, batch_size: int = 500, **options: Any) -> list[Continuation]:
  """Draw up to `length` tokens after each prompt.

  Args:
    model: a model of sequences.
    params: its parameters.
    key: round r of a text longer than the context draws by the r-th key of it.
    prompts: the first tokens of each sequence; all of them empty to start from nothing.
    length: how many tokens to draw, fewer where `eos` comes.
    levels: size of the vocabulary.
    eos: the token that ends a sequence.
    batch_size: how many sequences at a time; what is drawn does not depend on it.
    options: of `model.generate`: how tokens are drawn, and what is told about them.

  Raises:
    ConfigError: an option outside its range; a context of one token, from which nothing can go on.
    DataError: a prompt longer than the context.
  """
  found = [Continuation(prompt.tolist()) for prompt in prompts]
  context = model.context
  longest = max(len(item.prompt) for item in found) + length
  if context is not None and context < 2 and longest > context:
    raise ConfigError(f"{longest} tokens are asked for, but the context is {context}; beyond it only a context of at "
                      "least 2 can go on.")
  if longest > length:
    check_prompt(*_padded([item.prompt for item in found]), levels, context)
  turn = 0
  while any(not item.ended and len(item.drawn) < length for item in found):
    windows = [item.window(context) for item in found]
    needed = max(len(window) + length - len(item.drawn) for window, item in zip(windows, found, strict=True))
    # After the first round always the whole context: other lengths would have to be compiled.
    size = needed if context is None else min(needed, context) if turn == 0 else context
    prompt, prompt_length = _padded(windows)
    keys = jax.random.split(stream_key(key, "generation", turn), len(found))
    for start in range(0, len(found), batch_size):
      rows = slice(start, start + batch_size)
      given = {"prompt": prompt[rows], "prompt_length": prompt_length[rows]}
      out = model.generate(params, keys[rows], max_length=size, eos=eos,
                           **given if prompt.size else {"num": len(found[rows])}, **options)
      _extend(found[rows], prompt_length[rows], jax.device_get(out), length, eos)
    turn += 1
  return found


def _extend(found: list[Continuation], starts: Integer[np.ndarray, " batch"], out: Generated, length: int,
            eos: int | None) -> None:
  """Add what one round drew, up to `length` tokens, to those that have not ended."""
  for row, item in enumerate(found):
    if item.ended:
      continue
    new = slice(int(starts[row]), min(int(out.lengths[row]), int(starts[row]) + length - len(item.drawn)))
    item.drawn += out.tokens[row, new].tolist()
    if out.log_probs is not None:
      item.log_probs += out.log_probs[row, new].tolist()
    if out.alternatives is not None:
      tokens, values = (part[row, new].tolist() for part in out.alternatives)
      item.alternatives += [list(zip(*pair, strict=True)) for pair in zip(tokens, values, strict=True)]
    item.ended = eos is not None and item.drawn[-1:] == [eos]


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Integer[np.ndarray, "batch prompt"], Integer[np.ndarray, " batch"]]:
  lengths = np.array([len(row) for row in rows], np.int32)
  tokens = np.zeros((len(rows), lengths.max()), np.int32)
  for row, values in enumerate(rows):
    tokens[row, :len(values)] = values
  return tokens, lengths
