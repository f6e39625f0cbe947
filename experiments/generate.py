"""Continues text, or sound, by a trained model of sequences; or makes what captions ask for.

  python -m experiments.generate --workdir=runs/transformer [--prompt="ROMEO:" ...] [--prompt_file=FILE] [--num=4]
      [--length=500] [--temperature=0.8] [--top_k=20] [--top_p=0.9] [--seed=0]
      [--probs] [--alternatives=5] [--out=FILE.json]
      [--checkpoint=best|last|STEP] [--config.data.path=FILE]

Prints each prompt with its continuation, `--num` of each; `--prompt` may be repeated. A text ends at [EOS], where the
data have it, or after `--length` tokens (characters or words, as the model was trained). Beyond the model's context it
goes on from the last half of it (see gdm/runs/continuation.py).

`--out` also writes JSON, by default `generated.json` in the workdir where `--probs` or `--alternatives` ask for it: for
each drawn token its log-probability in nats under the model itself (before temperature, top_k and top_p), and the
likeliest alternatives.

Of a model of pictures given captions:

  python -m experiments.generate --workdir=runs/emoji --prompt="red heart" [--prompt=...] [--num=4] [--seed=0]
      [--config.sampling.guidance=3]

writes `generated.npz` and `generated.png`, `--num` pictures of each prompt, a row for each.

A model of sound writes 16-bit WAV files into the folder `--out`, by default `generated` in the workdir; `--length`
counts samples, and `--prompt_file` is a WAV file.
"""

from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import cli
from gdm.batches import given
from gdm.data.mu_law import mu_law_decode, mu_law_encode
from gdm.data.sources.audio import read_sound, write_wav
from gdm.data.tokens import Tokenizer
from gdm.errors import ConfigError, DataError, WorkdirError
from gdm.inference.generation import TokenChoice
from gdm.model import HasGenerate
from gdm.paths import write_whole
from gdm.runs.continuation import Continuation, continue_prompts, require_generator
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import write_json
from gdm.visualization.images import save_grid

_PROMPT = flags.DEFINE_multi_string("prompt", None, "How the text begins; may be given several times.")
_PROMPT_FILE = flags.DEFINE_string("prompt_file", None, "A file that the text, or the sound, begins with.")
_NUM = flags.DEFINE_integer("num", 4, "How many continuations of each prompt.")
_LENGTH = flags.DEFINE_integer("length", 500, "How many tokens to draw: characters, words or samples.")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "Divides the logits; lower is more of the likeliest.")
_TOP_K = flags.DEFINE_integer("top_k", None, "Draw among the k likeliest tokens only.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Draw among the likeliest tokens that have this probability together.")
_SEED = flags.DEFINE_integer("seed", 0, "Another seed draws other texts.")
_PROBS = flags.DEFINE_boolean("probs", False, "Tell the log-probability of each drawn token.")
_ALTERNATIVES = flags.DEFINE_integer("alternatives", 0, "Tell so many likeliest tokens at each place.")
_OUT = flags.DEFINE_string("out", None, "JSON file of texts, or folder of WAV files.")
cli.define_run("sampling", "data", "evaluation")


def main() -> None:
  for name, value, least in (("num", _NUM.value, 1), ("length", _LENGTH.value, 1), ("seed", _SEED.value, 0),
                             ("alternatives", _ALTERNATIVES.value, 0)):
    if value < least:
      raise ConfigError(f"--{name} is {value}; it must be at least {least}.")
  if _PROMPT.value and _PROMPT_FILE.value:
    raise ConfigError("--prompt and --prompt_file are both given; give one of them.")
  TokenChoice(_TEMPERATURE.value, _TOP_K.value, _TOP_P.value)  # says what is wrong with them before anything is loaded
  for name in ("out", "prompt_file"):
    if flags.FLAGS[name].value:
      cli.require_path(name)  # before the run is loaded
  run = cli.open_run()
  if "prefix" in given(run.model) and run.data.prefix_tokenizer is not None:
    _generate_examples(run)
    return
  model = require_generator(run.config.model.name, run.model, run.data)
  if run.data.tokenizer is not None:
    _generate_text(run, model, run.data.tokenizer)
  elif run.data.sample_rate is not None:
    _generate_sound(run, model, run.data.sample_rate)


def _generate_text(run: TrainedRun, model: HasGenerate, tokenizer: Tokenizer) -> None:
  found = _continue(run, model, _text_prompts(tokenizer), eos=tokenizer.end)
  for number, item in enumerate(found, start=1):
    print(f"--- {number} of {len(found)}{', ended' if item.ended else ''} ---")
    print(tokenizer.decode(item.prompt + item.drawn))
  if _OUT.value or _PROBS.value or _ALTERNATIVES.value:
    path = cli.require_path("out") if _OUT.value else run.folder / "generated.json"
    write_json(path, {
        "model": run.config.model.name, "dataset": run.data.name, "step": run.step, "seed": _SEED.value,
        "temperature": _TEMPERATURE.value, "top_k": _TOP_K.value, "top_p": _TOP_P.value,
        "texts": [_described(item, tokenizer) for item in found]})
    print(f"--- written to {path} ---")


def _generate_examples(run: TrainedRun) -> None:
  """Draw examples given captions, and write them."""
  prompts = _PROMPT.value
  if not prompts or _PROMPT_FILE.value or _PROBS.value or _ALTERNATIVES.value:
    raise ConfigError(f"{run.name} makes examples of captions: it takes --prompt, and neither --prompt_file, --probs "
                      "nor --alternatives.")
  captions = [prompt for prompt in prompts for _ in range(_NUM.value)]
  x = run.sample(len(captions), seed=_SEED.value, prefix=captions)
  write_whole(run.folder / "generated.npz", lambda file: np.savez_compressed(
      file, allow_pickle=False, x=x, caption=np.asarray(captions)))
  if run.spec.is_image:
    save_grid(run.folder / "generated.png", x, levels=run.spec.levels, columns=_NUM.value)
  print(f"{_NUM.value} of each of {len(prompts)} prompts in {run.folder / 'generated'}.npz"
        + (" and generated.png, a row for each" if run.spec.is_image else ""))


def _text_prompts(tokenizer: Tokenizer) -> list[np.ndarray]:
  """Return the prompts' tokens; one prompt without any where the text starts from nothing."""
  texts = _PROMPT.value or []
  if _PROMPT_FILE.value:
    path = cli.require_path("prompt_file")
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
  """One text for the JSON file, with as much about its tokens as was asked for."""
  tokens: list[dict[str, Any]] = [{"token": tokenizer.vocabulary[token]} for token in item.drawn]
  for entry, value in zip(tokens, item.log_probs, strict=False):
    entry["log_prob"] = value
  for entry, others in zip(tokens, item.alternatives, strict=False):
    entry["alternatives"] = [{"token": tokenizer.vocabulary[token], "log_prob": value} for token, value in others]
  return {"prompt": tokenizer.decode(item.prompt), "text": tokenizer.decode(item.prompt + item.drawn),
          "ended": item.ended, **({"tokens": tokens} if item.log_probs else {})}


def _generate_sound(run: TrainedRun, model: HasGenerate, rate: int) -> None:
  if _PROBS.value or _ALTERNATIVES.value or _PROMPT.value:
    raise ConfigError(f"--prompt, --probs and --alternatives are for text, but {run.data.name} is sound; it takes "
                      "--prompt_file=FILE.wav.")
  found = _continue(run, model, [_sound_prompt(rate)], eos=None)
  folder = cli.require_path("out") if _OUT.value else run.folder / "generated"
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise WorkdirError(f"--out {folder} cannot be a folder for WAV files: {error.strerror}.") from error
  for number, item in enumerate(found):
    write_wav(folder / f"{number:03}.wav", mu_law_decode(np.array(item.prompt + item.drawn)), rate)
  print(f"{len(found)} WAV files in {folder}, {_LENGTH.value / rate:.3g} s drawn in each")


def _sound_prompt(rate: int) -> np.ndarray:
  if not _PROMPT_FILE.value:
    return np.zeros(0, np.int32)
  path = cli.require_path("prompt_file")
  if not path.is_file():
    raise DataError(f"--prompt_file {path} does not exist; name a WAV file.")
  samples, its_rate = read_sound(path)
  if its_rate != rate:
    raise DataError(f"--prompt_file {path} has {its_rate} samples per second, but the model was trained on {rate}; "
                    "resample it.")
  return mu_law_encode(samples).astype(np.int32)


def _continue(run: TrainedRun, model: HasGenerate, prompts: list[np.ndarray], eos: int | None) -> list[Continuation]:
  """`--num` continuations of each prompt, by the flags."""
  return continue_prompts(
      model, run.params, jax.random.key(_SEED.value), [prompt for prompt in prompts for _ in range(_NUM.value)],
      _LENGTH.value, run.spec.require_discrete(run.config.model.name), eos,
      run.config.evaluation.batch_size, temperature=_TEMPERATURE.value,
      top_k=_TOP_K.value, top_p=_TOP_P.value, with_log_probs=_PROBS.value or _ALTERNATIVES.value > 0,
      num_alternatives=_ALTERNATIVES.value)


if __name__ == "__main__":
  cli.run(main)
