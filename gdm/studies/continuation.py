"""Sequences continued from prompts by a trained model, also beyond its context; and examples drawn given captions.

A model with a context of C tokens generates up to C. To go on, it starts anew from the last half of its context, as if
a window of the data began there: a token is drawn given at least the C // 2 before it, and nothing earlier. A model
without a limit (a recurrent one) goes on from its state.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Integer, Key

from gdm.batches import given
from gdm.data.dataset import Dataset
from gdm.data.description import Description
from gdm.data.mu_law import mu_law_decode, mu_law_encode
from gdm.data.sources.audio import read_sound, write_wav
from gdm.data.tokens import Tokenizer
from gdm.errors import ConfigError, DataError, WorkdirError
from gdm.inference.generation import Generated, TokenChoice, check_prompt
from gdm.model import HasGenerate, Model, Params
from gdm.paths import write_arrays
from gdm.precision import at_highest_precision
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import write_json
from gdm.training.streams import stream_key
from gdm.visualization.images import save_grid


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


@dataclasses.dataclass(frozen=True)
class GenerationRequest:
  """What is to be generated.

  Attributes:
    prompts: how texts begin, or captions of pictures.
    prompt_file: a file that the text, or the sound, begins with; None for none.
    num: continuations of each prompt.
    length: tokens to draw: characters, words or samples.
    choice: how tokens are drawn.
    seed: another one draws others.
    with_probs: whether the log-probability of each drawn token, in nats, is written.
    num_alternatives: likeliest tokens at each place that are written.
    out: JSON file of texts, or folder of WAV files; None for `generated.json`, where it is needed, or `generated` in
      the run's folder.
  """

  prompts: tuple[str, ...] = ()
  prompt_file: Path | None = None
  num: int = 4
  length: int = 500
  choice: TokenChoice = TokenChoice(0.8)
  seed: int = 0
  with_probs: bool = False
  num_alternatives: int = 0
  out: Path | None = None


@at_highest_precision
def generate(run: TrainedRun, request: GenerationRequest) -> Iterator[str]:
  """Continue text or sound, or draw examples of captions, and write them; yield lines of what was made.

  Raises:
    ConfigError: the run's model continues nothing, or a part of the request is not for its kind of data.
    DataError: a prompt that cannot be read, is longer than the context, or has tokens that the model does not know.
    WorkdirError: the output cannot be written.
  """
  if "prefix" in given(run.model) and run.data.prefix_tokenizer is not None:
    yield from _generate_examples(run, request)
    return
  model = require_generator(run.config.model.name, run.model, run.data)
  if run.data.tokenizer is not None:
    yield from _generate_text(run, request, model, run.data.tokenizer)
  elif run.data.sample_rate is not None:
    yield from _generate_sound(run, request, model, run.data.sample_rate)


def _generate_text(run: TrainedRun, request: GenerationRequest, model: HasGenerate,
                   tokenizer: Tokenizer) -> Iterator[str]:
  if request.out is not None and not request.out.parent.is_dir():
    raise WorkdirError(f"--out is {request.out}, but there is no folder {request.out.parent}; make it, or name another "
                       "file.")
  found = _continue(run, request, model, _text_prompts(request, tokenizer), eos=tokenizer.end)
  for number, item in enumerate(found, start=1):
    yield f"--- {number} of {len(found)}{', ended' if item.ended else ''} ---"
    yield tokenizer.decode(item.prompt + item.drawn)
  if request.out or request.with_probs or request.num_alternatives:
    path = request.out or run.folder / "generated.json"
    write_json(path, {
        "model": run.config.model.name, "dataset": run.data.name, "step": run.step, "seed": request.seed,
        **dataclasses.asdict(request.choice), "texts": [_described(item, tokenizer) for item in found]})
    yield f"--- written to {path} ---"


def _generate_examples(run: TrainedRun, request: GenerationRequest) -> Iterator[str]:
  """Draw examples given captions, and write them."""
  prompts, num = request.prompts, request.num
  if not prompts or request.prompt_file or request.with_probs or request.num_alternatives:
    raise ConfigError(f"{run.name} makes examples of captions: it takes --prompt, and neither --prompt_file, --probs "
                      "nor --alternatives.")
  for flags, value, default in (("--out", request.out, GenerationRequest.out),
                                ("--length", request.length, GenerationRequest.length),
                                ("--temperature, --top_k or --top_p", request.choice, GenerationRequest.choice)):
    if value != default:
      raise ConfigError(f"{run.name} makes examples of captions, which {flags} is not for; leave it out. How they are "
                        "drawn is set by --config.sampling.")
  captions = [prompt for prompt in prompts for _ in range(num)]
  x = run.sample(len(captions), seed=request.seed, prefix=captions)
  write_arrays(run.folder / "generated.npz", {"x": x, "caption": np.asarray(captions)})
  if run.spec.is_image:
    save_grid(run.folder / "generated.png", x, levels=run.spec.levels, columns=num)
  yield (f"{num} of each of {len(prompts)} prompts in {run.folder / 'generated'}.npz"
         + (" and generated.png, a row for each" if run.spec.is_image else ""))


def _text_prompts(request: GenerationRequest, tokenizer: Tokenizer) -> list[np.ndarray]:
  """Return the prompts' tokens; one prompt without any where the text starts from nothing."""
  texts, path = request.prompts, request.prompt_file
  if path is not None:
    try:
      texts = [path.read_text(encoding="utf-8").removesuffix("\n")]
    except OSError as error:
      raise DataError(f"--prompt_file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
      raise DataError(f"--prompt_file {path} is not UTF-8 text: byte {error.start} cannot be decoded.") from error
  prompts = []
  for text in texts:
    try:
      prompts.append(tokenizer.encode(text))
    except DataError as error:
      raise DataError(f"prompt {text[:40]!r}: {error}") from error
    if not len(prompts[-1]):
      raise DataError(f"prompt {text[:40]!r} is empty; write a {tokenizer.rule.name} or more, or leave it out to start "
                      "from nothing.")
  return prompts or [np.zeros(0, np.int32)]


def _described(item: Continuation, tokenizer: Tokenizer) -> dict[str, Any]:
  """Return one text for the JSON file, with as much about its tokens as was asked for."""
  tokens: list[dict[str, Any]] = [{"token": tokenizer.vocabulary[token]} for token in item.drawn]
  for entry, value in zip(tokens, item.log_probs, strict=False):
    entry["log_prob"] = value
  for entry, others in zip(tokens, item.alternatives, strict=False):
    entry["alternatives"] = [{"token": tokenizer.vocabulary[token], "log_prob": value} for token, value in others]
  return {"prompt": tokenizer.decode(item.prompt), "text": tokenizer.decode(item.prompt + item.drawn),
          "ended": item.ended, **({"tokens": tokens} if item.log_probs else {})}


def _generate_sound(run: TrainedRun, request: GenerationRequest, model: HasGenerate, rate: int) -> Iterator[str]:
  if request.with_probs or request.num_alternatives or request.prompts:
    raise ConfigError(f"--prompt, --probs and --alternatives are for text, but {run.data.name} is sound; it takes "
                      "--prompt_file=FILE.wav.")
  found = _continue(run, request, model, [_sound_prompt(request.prompt_file, rate)], eos=None)
  folder = request.out or run.folder / "generated"
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise WorkdirError(f"--out {folder} cannot be a folder for WAV files: {error.strerror}.") from error
  for number, item in enumerate(found):
    write_wav(folder / f"{number:03}.wav", mu_law_decode(np.array(item.prompt + item.drawn)), rate)
  yield f"{len(found)} WAV files in {folder}, {request.length / rate:.3g} s drawn in each"


def _sound_prompt(path: Path | None, rate: int) -> np.ndarray:
  if path is None:
    return np.zeros(0, np.int32)
  if not path.is_file():
    raise DataError(f"--prompt_file {path} does not exist; name a WAV file.")
  samples, its_rate = read_sound(path)
  if its_rate != rate:
    raise DataError(f"--prompt_file {path} has {its_rate} samples per second, but the model was trained on {rate}; "
                    "resample it.")
  return mu_law_encode(samples).astype(np.int32)


def _continue(run: TrainedRun, request: GenerationRequest, model: HasGenerate, prompts: list[np.ndarray],
              eos: int | None) -> list[Continuation]:
  """Return `num` continuations of each prompt."""
  return continue_prompts(
      model, run.params, jax.random.key(request.seed), [prompt for prompt in prompts for _ in range(request.num)],
      request.length, run.spec.require_discrete(run.config.model.name), eos, run.config.evaluation.batch_size,
      **dataclasses.asdict(request.choice), with_log_probs=request.with_probs or request.num_alternatives > 0,
      num_alternatives=request.num_alternatives)


@at_highest_precision
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
      prompted = {"prompt": prompt[rows], "prompt_length": prompt_length[rows]}
      out = model.generate(params, keys[rows], max_length=size, eos=eos,
                           **prompted if prompt.size else {"num": len(found[rows])}, **options)
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
