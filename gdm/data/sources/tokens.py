"""Prepared tokens: `tokens:<folder>`, and after "#" context=64, the tokens of an example.

The folder is one that `python -m experiments.prepare text:<path> --out=<folder>` wrote. Its windows are those of the
same text read by `text:`, in training and in evaluation, so that numbers compare; but nothing of it is loaded: each
batch is read from its places in the files.
"""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from gdm.data.dataset import Dataset, smallest_dtype
from gdm.data.sources.passages import DEFAULT_CONTEXT
from gdm.data.sources.request import Request
from gdm.data.split import DiskSplit, Indices, Rows
from gdm.data.token_files import TokenFolder, TokenReader, read_manifest
from gdm.data.windows import RandomPlaces
from gdm.dataspec import DataSpec
from gdm.errors import DataError

OPTIONS = ("context",)

_BLOCK = 1024  # documents whose windows are counted together


def load(request: Request) -> Dataset:
  """Windows "x" [N, context] of token ids with "length" [N], on disk.

  Raise DataError for a folder that is missing, unfinished, damaged or cut short, or a text shorter than a window.
  """
  context = request.integer("context", DEFAULT_CONTEXT, minimum=1)
  folder = Path(request.argument)
  found = read_manifest(folder)
  if found.unit == "stream" and found.splits["train"].tokens < context:
    raise DataError(f"folder of tokens {folder} is too short: its training split has {found.splits['train'].tokens} "
                    f"tokens; it needs at least {context}, the context.")
  splits = {name: _split(folder, found, name, context, request.seed) for name in found.splits}
  info = {"source": str(folder), "context": context, "tokens": found.tokens, "unit": found.unit,
          "vocabulary": found.tokenizer.vocabulary}
  return Dataset(f"tokens:{found.name}{found.shown}",
                 DataSpec(event=(context,), levels=len(found.tokenizer), has_lengths=True), splits, info,
                 tokenizer=found.tokenizer, units={name: dict(split.units) for name, split in found.splits.items()})


def _split(folder: Path, found: TokenFolder, name: str, context: int, seed: int) -> DiskSplit:
  reader, dtype = TokenReader(folder, found, name), smallest_dtype(len(found.tokenizer))
  ends = np.memmap(folder / f"{name}.ends", "<u8", "r") if found.splits[name].documents else np.zeros(0, "<u8")
  windows = _Windows(ends, context)

  def rows(starts: Integer[np.ndarray, " batch"], lengths: Integer[np.ndarray, " batch"]) -> Rows:
    x = np.zeros((len(starts), context), dtype)
    for row, start, length in zip(x, starts.tolist(), lengths.tolist(), strict=True):
      row[:length] = reader.read(start, length)
    return {"x": x, "length": lengths}

  def at_random(examples: Indices, epoch: int) -> Rows:
    return rows(*places(examples, epoch))

  moves = name == "train" and found.unit == "stream"
  places = RandomPlaces(np.asarray(ends if moves else ends[:0]), context, seed)
  content = hashlib.sha256("".join(found.splits[name].digests).encode()).hexdigest()[:16]
  return DiskSplit(f"tokens:{found.name}", windows.num, ("x", "length"), lambda examples: rows(*windows(examples)),
                   content=f"{content} {context}", fresh=at_random if moves else None)


class _Windows:
  """Windows that don't overlap, in order: `windows(examples)` returns the first token and the length of each.

  Args:
    ends: number of tokens up to the end of each document.
    context: tokens of a window; the last one of a document may be shorter.

  Only the number of windows up to every 1024th document is kept.
  """

  def __init__(self, ends: Integer[np.ndarray, " documents"], context: int):
    self._ends, self._context = ends, context
    before, nums = 0, []
    for start in range(0, len(ends), 1 << 20):
      part = np.asarray(ends[start:start + (1 << 20)], np.int64)
      counts = -(-np.diff(part, prepend=before) // context)
      nums.append(np.add.reduceat(counts, np.arange(0, len(counts), _BLOCK)))
      before = int(part[-1])
    self._stops = np.cumsum(np.concatenate([np.zeros(0, np.int64), *nums]))

  @property
  def num(self) -> int:
    return int(self._stops[-1]) if len(self._stops) else 0

  def __call__(self, examples: Indices) -> tuple[Integer[np.ndarray, " batch"], Integer[np.ndarray, " batch"]]:
    starts, lengths = np.zeros(len(examples), np.int64), np.zeros(len(examples), np.int32)
    blocks = np.searchsorted(self._stops, examples, side="right")
    for block in np.unique(blocks):  # examples that come in order share one
      mine = blocks == block
      first = int(block) * _BLOCK
      ends = np.asarray(self._ends[first:first + _BLOCK], np.int64)
      begins = np.concatenate([[int(self._ends[first - 1]) if first else 0], ends[:-1]])
      stops = np.cumsum(-(-(ends - begins) // self._context))
      place = examples[mine] - (int(self._stops[block - 1]) if block else 0)
      document = np.searchsorted(stops, place, side="right")
      within = place - np.where(document > 0, stops[document - 1], 0)
      starts[mine] = begins[document] + within * self._context
      lengths[mine] = np.minimum(ends[document] - starts[mine], self._context)
    return starts, lengths
