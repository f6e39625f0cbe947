"""Text by characters: `text:<path>#context=128`.

The first 90 % of the characters are the training split, the last 10 % the validation split; there is no test split, as
is the custom with small corpora. The vocabulary is that of the training split. Evaluation, and a pass over the training
split, sees windows that don't overlap, so every character is scored once; the last window is shorter and says so in
"length". Training sees as many windows per epoch, at random offsets.
"""

import math
import pathlib

import numpy as np
from jaxtyping import Integer

from gdm.data import draws
from gdm.data.dataset import Dataset, smallest_dtype
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit, Rows
from gdm.dataspec import DataSpec
from gdm.errors import DataError

DEFAULT_CONTEXT = 64
TRAIN_FRACTION = 0.9


def load(request: Request) -> Dataset:
  """Windows "x" [N, context] of token ids with "length" [N]; info["vocabulary"][i] is the character of id i.

  Raises:
    DataError: file missing, not UTF-8, empty, too short for one window, or with characters in its last 10 % that the
      training split does not know.
  """
  context = request.integer("context", DEFAULT_CONTEXT, minimum=1)
  path = pathlib.Path(request.argument)
  text = _read(path)
  cut = int(TRAIN_FRACTION * len(text))
  vocabulary = "".join(sorted(set(text[:cut])))
  if cut < context or len(vocabulary) < 2:
    raise DataError(f"text file {path} is too short: its training part has {cut} characters, {len(vocabulary)} "
                    f"different; it needs at least context={context} characters, two of them different.")
  ids = {char: i for i, char in enumerate(vocabulary)}
  unknown = next((i for i in range(cut, len(text)) if text[i] not in ids), None)
  if unknown is not None:
    raise DataError(f"text file {path}: the character {text[unknown]!r} at position {unknown}, in the validation part, "
                    f"does not occur in the training part (the first {cut} characters).")
  tokens = np.array([ids[char] for char in text], smallest_dtype(len(vocabulary)))
  train = windows(tokens[:cut], context)
  splits = {"train": MemorySplit(train, train, (_random_windows(tokens[:cut], context, request.seed),)),
            "valid": MemorySplit(windows(tokens[cut:], context))}
  info = {"source": str(path), "vocabulary": vocabulary, "context": context}
  return Dataset(f"text:{path.stem}", DataSpec(event=(context,), levels=len(vocabulary)), splits, info)


def windows(tokens: Integer[np.ndarray, " num"], context: int) -> dict[str, np.ndarray]:
  """All tokens once, in windows "x" [ceil(num / context), context] padded with 0, and "length" [...] of each."""
  num = math.ceil(len(tokens) / context)
  x = np.zeros(num * context, tokens.dtype)
  x[:len(tokens)] = tokens
  length = np.full(num, context, np.int32)
  length[-1] = len(tokens) - (num - 1) * context
  return {"x": x.reshape(num, context), "length": length}


def _random_windows(tokens: Integer[np.ndarray, " num"], context: int, seed: int):
  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    offset = (draws.uniforms(seed, epoch, examples, 1)[:, 0] * (len(tokens) - context + 1)).astype(np.int64)
    return {**rows, "x": tokens[offset[:, None] + np.arange(context)],
            "length": np.full(len(examples), context, np.int32)}
  return op


def _read(path: pathlib.Path) -> str:
  if not path.is_file():
    raise DataError(f"text file {str(path)!r} does not exist; name it by data.path or text:<path>.")
  try:
    text = path.read_bytes().decode("utf-8")
  except UnicodeDecodeError as error:
    raise DataError(f"text file {path} is not UTF-8: byte {error.start} is "
                    f"{error.object[error.start]:#04x}.") from error
  if not text:
    raise DataError(f"text file {path} is empty.")
  return text
