"""A text of any size made into a folder of tokens: in passes over shards, by several processes, resumable.

  survey   counts characters, or lines and paragraphs, from which follows where the validation split begins
  counts   counts the tokens of the training split, from which follows the vocabulary
  tokens   writes the ids of each shard; those of the validation split first, in which a token may be unknown

The rules are those of gdm/data/sources/passages.py, so that both give the same windows. A shard's result counts once
its record lies in `parts/`, so that after a kill only shards that were under way are done again; `manifest.json` is
written last. Memory does not grow with the text: it holds a chunk for each process, and the distinct words.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gdm.data.byte_pairs import BytePairs
from gdm.data.sources.passages import (
  TRAIN_FRACTION,
  Choices,
  byte_pairs_of,
  require_enough,
  rule_of,
  tokenizer_of,
  unseen,
)
from gdm.data.text_shards import (
  TextRange,
  cut_of,
  grouped,
  pieces_of,
  ranges_of,
  read_texts,
  split_at,
  text_files,
)
from gdm.data.token_files import MANIFEST, TokenFolder, TokenSplit, is_prepared, read_manifest
from gdm.data.tokens import CHARACTERS, Tokenizer
from gdm.errors import DataError
from gdm.paths import write_whole

SHARD_BYTES = 1 << 26  # of text, at least
_MOST_SHARDS = 512  # files of a folder, about
_PLAN, _PARTS, _TOKENIZER = "plan.json", "parts", "tokenizer.json"

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Job:
  """One shard of one pass.

  Attributes:
    work: the pass.
    out: the folder of tokens.
    name: of the record in `parts/`, and of the file of tokens.
    shard: what of the text it is.
    choices: how the text is cut.
  """

  work: str
  out: Path
  name: str
  shard: tuple[TextRange, ...]
  choices: Choices

  @property
  def record(self) -> Path:
    return self.out / _PARTS / f"{self.name}.json"

  @property
  def cut(self) -> str:
    return cut_of(self.choices.unit, self.choices.tokens)


def prepare(source: Path, out: Path, choices: Choices, *, tokenizer: Tokenizer | None = None, num_workers: int = 0,
            shard_bytes: int = 0, tell: Callable[[str], None] = lambda line: None) -> TokenFolder:
  """Make a folder of tokens of a text, or go on with one that was begun; return what it is.

  Args:
    source: a text file, or a folder of some: each is a document, in order of their paths.
    out: the folder; a finished one of the same text and options is left as it is.
    choices: tokens, unit, vocabulary and [UNK], see `gdm.data.sources.passages.choices_of`.
    tokenizer: of another text, to be used for this one; None for the text's own.
    num_workers: processes; 0 for as many as there are cores.
    shard_bytes: of text in a file of tokens; 0 for a number that makes at most 512 files.
    tell: is given a line after each pass.

  Raise DataError for a text that cannot be used, and where `out` is of another text or has other files.

  Example: `prepare(Path("book.txt"), Path("book.tokens"), Choices("characters", "stream", None, False))`.
  """
  paths = text_files(source)
  sizes = [path.stat() for path in paths]
  plan = {"files": [[str(path), size.st_size, size.st_mtime_ns] for path, size in zip(paths, sizes, strict=True)],
          "choices": list(choices), "tokenizer": tokenizer and tokenizer.to_json(), "shard_bytes": shard_bytes}
  digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
  with _claimed(out, digest):
    if is_prepared(out):
      tell(f"{out} is prepared already.")
      return read_manifest(out)
    size = shard_bytes or max(SHARD_BYTES, -(-sum(size.st_size for size in sizes) // _MOST_SHARDS))
    run = functools.partial(_run, num_workers=num_workers or os.cpu_count() or 1, tell=tell)
    splits = _survey(paths, out, choices, size, run)
    where = f"text {source}"
    tokenizer = _tokenizer(where, splits["train"], out, choices, size, run, tokenizer)
    _write_json(out / _PARTS / _TOKENIZER, tokenizer.to_json())
    jobs = {name: _jobs("tokens", name, grouped(ranges, size), out, choices) for name, ranges in splits.items()}
    records = run([*jobs["valid"], *jobs["train"]])
    written = {"valid": records[:len(jobs["valid"])], "train": records[len(jobs["valid"]):]}
    found = TokenFolder(source.stem, choices.shown(), choices.tokens, choices.unit, _dtype(tokenizer).str, tokenizer,
                        {name: _finish(out, name, jobs[name], written[name], tokenizer) for name in ("train", "valid")},
                        digest)
    if not found.splits["train"].tokens or not found.splits["valid"].tokens:
      raise DataError(f"{where} is too short: one of its splits has no tokens.")
    _write_json(out / MANIFEST, found.to_json())
    shutil.rmtree(out / _PARTS)
  return found


@contextlib.contextmanager
def _claimed(out: Path, plan: str) -> Iterator[None]:
  """Make the folder, or find in it what this very call began; hold a lock meanwhile."""
  if out.exists() and not out.is_dir():
    raise DataError(f"--out is {out}, a file; name a folder.")
  if out.is_dir() and any(out.iterdir()):
    try:
      theirs = json.loads((out / _PLAN).read_bytes())["plan"]
    except (OSError, ValueError, KeyError, TypeError):
      raise DataError(f"--out is {out}, which has files that are no tokens; name another folder.") from None
    if theirs != plan:
      raise DataError(f"--out is {out}, which holds tokens of another text, or made by other options; name another "
                      "folder.")
  else:
    (out / _PARTS).mkdir(parents=True, exist_ok=True)
    _write_json(out / _PLAN, {"plan": plan})
  with (out / _PLAN).open("rb") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise DataError(f"--out is {out}, which another process is preparing; wait for it.") from None
    except OSError:
      pass  # a file system without locks: results are renamed into place, whoever made them
    yield


def _jobs(work: str, name: str, shards: Sequence[tuple[TextRange, ...]], out: Path, choices: Choices) -> list[_Job]:
  return [_Job(work, out, f"{name}-{number:05d}", shard, choices) for number, shard in enumerate(shards)]


def _run(jobs: Sequence[_Job], num_workers: int, tell: Callable[[str], None]) -> list[Record]:
  """Do those jobs that have no record yet, and return all records in order."""
  todo = [job for job in jobs if not job.record.is_file()]
  if num_workers < 2 or len(todo) < 2:
    for job in todo:
      _do(job)
  else:
    # Processes of their own and no forks: libraries that are loaded here may have threads.
    with concurrent.futures.ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn")) as pool:
      futures = [pool.submit(_do, job) for job in todo]
      try:
        for future in concurrent.futures.as_completed(futures):
          future.result()
      except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
  if jobs:
    tell(f"{jobs[0].work}: {len(jobs)} shards" + (f", {len(jobs) - len(todo)} of them from before"
                                                  if len(todo) < len(jobs) else ""))
  return [json.loads(job.record.read_bytes()) for job in jobs]


def _do(job: _Job) -> None:
  """Do a job and write its record, whole."""
  _write_json(job.record, {"survey": _survey_shard, "counts": _count_shard, "tokens": _encode_shard}[job.work](job))


def _survey(paths: Sequence[Path], out: Path, choices: Choices, size: int, run) -> dict[str, list[TextRange]]:
  """Return the ranges of each split, with their offsets."""
  ranges = ranges_of(paths, cut_of(choices.unit, choices.tokens), size)
  jobs = _jobs("survey", "survey", grouped(ranges, size), out, choices)
  sizes = [tuple(pair) for record in run(jobs) for pair in record["sizes"]]
  units = [characters if choices.unit == "stream" else pieces for characters, pieces in sizes]
  left, splits, offset = int(TRAIN_FRACTION * sum(units)), {"train": [], "valid": []}, 0
  for number, (part, num) in enumerate(zip(ranges, units, strict=True)):
    if not number or part.path != ranges[number - 1].path:
      offset = 0
    part = dataclasses.replace(part, offset=offset)
    offset += sizes[number][0]
    if num <= left:
      splits["train"].append(part)
    elif left <= 0:
      splits["valid"].append(part)
    else:
      before, after = split_at(part, choices.unit, cut_of(choices.unit, choices.tokens), left)
      characters = sum(map(len, read_texts(before, cut_of(choices.unit, choices.tokens))))
      splits["train"].append(before)
      splits["valid"].append(dataclasses.replace(after, offset=part.offset + characters))
    left -= num
  return splits


def _survey_shard(job: _Job) -> Record:
  sizes = []
  for part in job.shard:
    texts = [(len(text), 0 if job.choices.unit == "stream" else len(pieces_of(text, job.choices.unit)))
             for text in read_texts(part, job.cut)]
    sizes.append([sum(column) for column in zip(*texts, strict=True)] or [0, 0])
  return {"sizes": sizes}


def _tokenizer(where: str, train: Sequence[TextRange], out: Path, choices: Choices, size: int, run,
               given: Tokenizer | None) -> Tokenizer:
  """Return the tokenizer of the training split, or check the given one against the choices."""
  end = choices.unit != "stream"
  if given is not None:
    if (given.end is not None) != end:
      raise DataError(f"--tokenizer {'has' if given.end is not None else 'lacks'} [EOS], but examples of "
                      f"unit={choices.unit} {'end' if end else 'do not end'} with it; choose another unit.")
    return given
  rule = rule_of(choices.tokens)
  if rule is None:
    cut = cut_of(choices.unit, choices.tokens)
    texts = (piece for part in train for text in read_texts(part, cut) for piece in _pieces(text, choices.unit))
    rule = byte_pairs_of(where, texts, choices.limit)
    return Tokenizer.of(rule, rule.vocabulary, False, end)
  counts: collections.Counter[str] = collections.Counter()
  jobs = _jobs("counts", "counts", grouped(train, size), out, choices)
  for record in run(jobs):
    counts.update(record["counts"])
  require_enough(where, counts, 1, rule)
  return tokenizer_of(where, rule, counts, choices.limit, choices.unknown, end)


def _pieces(text: str, unit: str) -> list[str]:
  return [text] if unit == "stream" else [text[start:stop] for start, stop in pieces_of(text, unit)]


def _count_shard(job: _Job) -> Record:
  rule, counts = rule_of(job.choices.tokens), collections.Counter()
  assert rule is not None
  codes = np.zeros(0x110000, np.int64)
  for text in (text for part in job.shard for text in read_texts(part, job.cut)):
    for piece in _pieces(text, job.choices.unit):
      if rule is CHARACTERS:
        found = np.bincount(_codes(piece))
        codes[:len(found)] += found
      else:
        counts.update(token for token, _ in rule.split(piece))
  return {"counts": {**counts, **{chr(code): int(codes[code]) for code in np.flatnonzero(codes)}}}


def _encode_shard(job: _Job) -> Record:
  """Write the ids of a shard, and of lines and paragraphs their ends; return how many, and their digests."""
  encoder = _encoder((job.out / _PARTS / _TOKENIZER).read_bytes())
  path, aside = job.out / f"{job.name}.tokens", job.out / _PARTS / f"{job.name}.partial"
  hasher, ranges, ends, total = hashlib.sha256(), [], [], 0
  try:
    with aside.open("wb") as file:
      for part in job.shard:
        units: collections.Counter[str] = collections.Counter()
        first = last = None
        offset = part.offset
        for text in read_texts(part, job.cut):
          ids, nums, seam = encoder.encode(text, job.choices.unit, f"text file {part.path}", offset)
          hasher.update(ids.tobytes())
          file.write(ids.tobytes())
          units.update(nums)
          if seam is not None and job.choices.unit == "stream":
            units["characters"] += encoder.glue(last, seam[0])
            first, last = first if first is not None else seam[0], seam[1]
          if job.choices.unit != "stream":
            ends.append(total + np.flatnonzero(ids == encoder.tokenizer.end) + 1)
          total += len(ids)
          offset += len(text)
        ranges.append({"path": part.path, "units": dict(units), "first": first, "last": last})
      file.flush()
      os.fsync(file.fileno())
    np.concatenate([np.zeros(0, "<u8"), *ends]).astype("<u8").tofile(job.record.with_suffix(".ends"))
    os.replace(aside, path)
  except OSError as error:
    raise DataError(f"{path} cannot be written: {error.strerror}.") from error
  return {"tokens": total, "sha256": hasher.hexdigest(), "ranges": ranges}


class _Encoder:
  """A tokenizer as shards need it: fast, and with what their seams add."""

  def __init__(self, tokenizer: Tokenizer):
    self.tokenizer = tokenizer
    self.dtype = _dtype(tokenizer)
    if tokenizer.rule is CHARACTERS:
      unknown = -1 if tokenizer.unknown is None else tokenizer.unknown
      self._table = np.full(0x110000, unknown, np.int64)
      specials = (tokenizer.unknown, tokenizer.end)
      for number, character in enumerate(tokenizer.vocabulary):
        if number not in specials:
          self._table[ord(character)] = number

  def encode(self, text: str, unit: str, where: str, offset: int) -> tuple[np.ndarray, Record, tuple[str, str] | None]:
    """Return the ids of a chunk, its units, and of words its first and last one."""
    if unit == "stream":
      ids, characters, seam = self._ids(text, where, offset)
    else:
      last, seam, characters = np.array([self.tokenizer.end], self.dtype), None, 0
      found = [np.zeros(0, self.dtype)]
      for start, stop in pieces_of(text, unit):
        ids, num, _ = self._ids(text[start:stop], where, offset + start)
        found += [ids, last]
        characters += num + 1
      ids = np.concatenate(found)
    unknown = 0 if self.tokenizer.unknown is None else int(np.sum(ids == self.tokenizer.unknown))
    return ids, {"tokens": len(ids), "unknown": unknown, "characters": characters}, seam

  def glue(self, before: str | None, after: str) -> int:
    """Return how many characters a join puts between two tokens."""
    return 0 if before is None else len(self.tokenizer.rule.join([before, after])) - len(before) - len(after)

  def _ids(self, text: str, where: str, offset: int) -> tuple[np.ndarray, int, tuple[str, str] | None]:
    rule = self.tokenizer.rule
    if rule is CHARACTERS:
      ids = self._table[_codes(text)]
      if len(ids) and ids.min() < 0:
        place = int(np.argmax(ids < 0))
        raise unseen(where, text[place], offset + place, rule)
      return ids.astype(self.dtype), len(text), None
    if isinstance(rule, BytePairs):
      return np.array(rule.encode(text), self.dtype), len(text), None
    tokens = [token for token, _ in rule.split(text)]
    ids = self.tokenizer.find(tokens)
    if None in ids:
      token, place = list(rule.split(text))[ids.index(None)]
      raise unseen(where, token, offset + place, rule)
    return np.array(ids, self.dtype), len(rule.join(tokens)), (tokens[0], tokens[-1]) if tokens else None


def _finish(out: Path, name: str, jobs: Sequence[_Job], records: Sequence[Record], tokenizer: Tokenizer) -> TokenSplit:
  """Write the ends of a split's documents; return the split."""
  encoder, units = _Encoder(tokenizer), collections.Counter({"tokens": 0, "unknown": 0, "characters": 0})
  stream = tokenizer.end is None
  hasher, documents, total = hashlib.sha256(), 0, 0

  def write(file: BinaryIO) -> None:
    nonlocal documents, total
    path, last = None, None

    def add(ends: np.ndarray) -> None:
      nonlocal documents
      raw = ends.astype("<u8").tobytes()
      file.write(raw)
      hasher.update(raw)
      documents += len(ends)

    for job, record in zip(jobs, records, strict=True):
      if not stream:
        add(np.fromfile(job.record.with_suffix(".ends"), "<u8") + np.uint64(total))
      for part in record["ranges"]:
        units.update(part["units"])
        if stream and path is not None and part["path"] != path:  # each file is a document
          add(np.array([total]))
          last = None
        if part["first"] is not None:
          units["characters"] += encoder.glue(last, part["first"])
          last = part["last"]
        path, total = part["path"], total + part["units"].get("tokens", 0)
    if stream and total:
      add(np.array([total]))

  write_whole(out / f"{name}.ends", write)
  digests = (*(record["sha256"] for record in records), hasher.hexdigest())
  shards = tuple((f"{job.name}.tokens", record["tokens"]) for job, record in zip(jobs, records, strict=True))
  return TokenSplit(total, documents, shards, digests, dict(units))


@functools.lru_cache(maxsize=1)
def _encoder(record: bytes) -> _Encoder:
  """Return the encoder of a tokenizer's record, made once for all shards of a process."""
  return _Encoder(Tokenizer.from_json(json.loads(record)))


def _codes(text: str) -> np.ndarray:
  return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _dtype(tokenizer: Tokenizer) -> np.dtype:
  return np.dtype("<u1" if len(tokenizer) <= 1 << 8 else "<u2" if len(tokenizer) <= 1 << 16 else "<u4")


def _write_json(path: Path, record: Record) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  write_whole(path, lambda file: file.write(json.dumps(record).encode()))
