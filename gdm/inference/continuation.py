"""Prompts continued by a model whose steps are conditionals: checked, compiled once, many at once.

Asks for a model by protocol, `gdm.model.HasConditionals` with its vocabulary and context; the loop is that of
gdm/inference/generation.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, Key

from gdm.errors import ConfigError
from gdm.inference import generation
from gdm.inference.generation import Generated, TokenChoice
from gdm.model import HasContext, HasPrefill, Params


def generate(model: HasContext, params: Params, key: Key[Array, "..."], num: int | None = None,
             prompt: Integer[Array | np.ndarray, "batch prompt"] | None = None,
             prompt_length: Integer[Array | np.ndarray, " batch"] | None = None, max_length: int | None = None,
             temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0, eos: int | None = None,
             pad: int = 0, with_log_probs: bool = False, num_alternatives: int = 0) -> Generated:
  """Continue prompts, compiled once per model, shapes and options; see `gdm.inference.generation.generate`.

  Args:
    model: hashable.
    params: its parameters.
    key: one key, of which each sequence gets its part, or one per sequence.
    num: how many sequences, where there is no prompt.
    prompt: concrete first tokens of each sequence, padded to one length.
    prompt_length: how many of them are real; all of them by default.
    max_length: tokens of a sequence in all, its prompt included; `num_steps` by default.
    temperature, top_k, top_p: how tokens are drawn; see `TokenChoice`.
    eos: the token that ends a sequence.
    pad: the token that fills up a sequence after its end.
    with_log_probs: whether to return log-probabilities of what was drawn.
    num_alternatives: how many likeliest tokens to return per position.

  Raises:
    ConfigError: an option outside its range.
    DataError: prompts that are empty, longer than the context, or hold tokens outside the vocabulary.
  """
  choice = TokenChoice(temperature, top_k, top_p)
  if (num is None) == (prompt is None):
    raise ConfigError(f"num is {num} and prompt is {'not ' * (prompt is not None)}None; give one of the two.")
  tokens = np.zeros((num or 0, 0), np.int32) if prompt is None else np.asarray(prompt)
  lengths = np.full(len(tokens), tokens.shape[1], np.int32) if prompt_length is None else np.asarray(prompt_length)
  if len(tokens) < 1:
    raise ConfigError(f"num is {len(tokens)}; at least one sequence must be generated.")
  if prompt is not None:
    generation.check_prompt(tokens, lengths, model.levels, model.context)
  max_length = model.num_steps if max_length is None else max_length
  generation.check_lengths(max_length, model.context, int(lengths.max()))
  generation.check_token("pad", pad, model.levels)
  if eos is not None:
    generation.check_token("eos", eos, model.levels)
  if not 0 <= num_alternatives <= model.levels:
    raise ConfigError(f"num_alternatives is {num_alternatives}; it must be in [0, {model.levels}], the vocabulary.")
  keys = jax.random.split(key, len(tokens)) if key.ndim == 0 else key
  tokens, lengths = jnp.asarray(tokens[:, :lengths.max()], jnp.int32), jnp.asarray(lengths, jnp.int32)
  return _generate(params, keys, tokens, lengths, model=model, max_length=max_length, choice=choice, eos=eos, pad=pad,
                   with_log_probs=with_log_probs, num_alternatives=num_alternatives)


@functools.partial(jax.jit, static_argnames=("model", "max_length", "choice", "eos", "pad", "with_log_probs",
                                             "num_alternatives"))
def _generate(params, keys, prompt, prompt_length, *, model, max_length, **options) -> Generated:
  def step(cache, previous, index):
    return model.conditional_step(params, cache, previous, index)

  cache = model.init_cache(params, len(prompt))
  prefill = functools.partial(model.prefill, params) if isinstance(model, HasPrefill) else None
  return generation.generate(step, cache, keys, prompt, prompt_length, max_length, prefill=prefill, **options)
