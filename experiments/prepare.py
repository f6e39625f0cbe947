"""Makes a folder of tokens of a text of any size, which training and evaluation read by position.

  python -m experiments.prepare text:FILE_OR_FOLDER --out=DIR [--tokens=characters|words|bpe] [--tokenizer=DIR]
      [--workers=N] [--verify]

DIR is used as --config.data.name=tokens:DIR, and gives the same windows as text:FILE, without loading them. Options of
`text:` follow after "#", as 'text:book.txt#unit=lines&vocabulary=8000' (see docs/guides/data.md). Of a folder, every
file is a document. The same command goes on with what was killed. With --tokenizer the vocabulary is taken from another
folder of tokens, so that models of that one can score this one. With --verify the digests of a finished folder are
compared with its files.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import cli
from gdm.data.load import text_request
from gdm.data.preparation import prepare
from gdm.data.sources.passages import choices_of
from gdm.data.token_files import TokenFolder, read_manifest, verify
from gdm.errors import ConfigError
from gdm.paths import local_path

_OUT = flags.DEFINE_string("out", None, "The folder to write; one that was begun by the same command is gone on with.")
_TOKENS = flags.DEFINE_enum("tokens", None, ["characters", "words", "bpe"], "What a token is, in place of #tokens=.")
_TOKENIZER = flags.DEFINE_string("tokenizer", None, "A folder of tokens whose vocabulary is to be used.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes; 0 for as many as there are cores.", lower_bound=0)
_VERIFY = flags.DEFINE_boolean("verify", False, "Compare the digests of a folder that is finished.")


def main(arguments: Sequence[str]) -> None:
  out = cli.require_path("out")
  if len(arguments) != 1:
    raise ConfigError(f"{len(arguments)} texts are given; name one, as text:book.txt.")
  request = text_request(arguments[0], {} if _TOKENS.value is None else {"tokens": _TOKENS.value})
  tokenizer = None
  if _TOKENIZER.value:
    tokenizer = read_manifest(local_path(_TOKENIZER.value, "--tokenizer")).tokenizer
  start = time.perf_counter()
  found = prepare(Path(request.argument), out, choices_of(request), tokenizer=tokenizer, num_workers=_WORKERS.value,
                  tell=lambda line: print(f"{time.perf_counter() - start:7.1f} s  {line}"))
  print(_line(found, out))
  if _VERIFY.value:
    print(f"{verify(out):,} bytes are as they were written.")


def _line(found: TokenFolder, out: Path) -> str:
  splits = ", ".join(f"{split.tokens:,} tokens in {split.documents:,} documents ({name})"
                     for name, split in found.splits.items())
  return f"{out}: {splits}; {len(found.tokenizer)} levels, {found.dtype.lstrip('<|')}."


if __name__ == "__main__":
  cli.run(main, with_arguments=True)
