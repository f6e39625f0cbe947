"""Continues text, or sound, by a trained model of sequences; or makes what captions ask for.

  python -m experiments.generate --workdir=runs/transformer [--prompt="ROMEO:" ...] [--prompt_file=FILE] [--num=4]
      [--length=500] [--temperature=0.8] [--top_k=20] [--top_p=0.9] [--seed=0]
      [--probs] [--alternatives=5] [--out=FILE.json]
      [--checkpoint=best|last|STEP] [--config.data.path=FILE]

Prints each prompt with its continuation, `--num` of each; `--prompt` may be repeated. A text ends at [EOS], where the
data have it, or after `--length` tokens (characters or words, as the model was trained). Beyond the model's context it
goes on from the last half of it (see gdm/studies/continuation.py).

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

from absl import flags

from experiments import cli
from gdm.errors import ConfigError
from gdm.inference.generation import TokenChoice
from gdm.studies.continuation import GenerationRequest, generate

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
  cli.at_least(num=1, length=1, seed=0, alternatives=0)
  if _PROMPT.value and _PROMPT_FILE.value:
    raise ConfigError("--prompt and --prompt_file are both given; give one of them.")
  choice = TokenChoice(_TEMPERATURE.value, _TOP_K.value, _TOP_P.value)  # says what is wrong before anything is loaded
  out, prompt_file = (cli.require_path(flag.name) if flag.value else None for flag in (_OUT, _PROMPT_FILE))
  request = GenerationRequest(tuple(_PROMPT.value or ()), prompt_file, _NUM.value, _LENGTH.value, choice, _SEED.value,
                              _PROBS.value, _ALTERNATIVES.value, out)
  cli.show(generate(cli.open_run(), request))


if __name__ == "__main__":
  cli.run(main)
