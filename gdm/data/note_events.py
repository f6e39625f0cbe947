"""Music as tokens, for models of sequences: the keys that sound in each frame, and where it ends.

A frame of a piano roll becomes the numbers of its keys, 1 for the lowest, from the highest key down, and then 0. So
each roll is one string of tokens, and that string is that roll: with the chain rule over tokens, log p(string) is a
likelihood of rolls of so many frames. Strings that no roll is written as (a key twice, or keys upwards) read as rolls
all the same, so that it is a lower bound of log p(roll) under "draw a string and read it", by as much as the model
thinks of such strings.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer, UInt8

from gdm.data.dataset import Dataset
from gdm.data.music import Music
from gdm.data.split import Rows, chunks
from gdm.errors import SpecError

END_OF_FRAME = 0


def to_events(roll: Integer[np.ndarray, "frames keys"]) -> Int32[np.ndarray, " tokens"]:
  """Return a roll as tokens: as many as it has notes and frames.

  Example: `to_events(np.array([[1, 0, 1], [0, 0, 0]]))` is [3, 1, 0, 0].
  """
  keys = roll.shape[1]
  frame, down = np.nonzero(roll[:, ::-1])
  tokens = np.full(len(frame) + len(roll), END_OF_FRAME, np.int32)
  tokens[np.arange(len(frame)) + frame] = keys - down
  return tokens


def from_events(tokens: Integer[np.ndarray, " tokens"], keys: int) -> UInt8[np.ndarray, "frames keys"]:
  """Return the roll that tokens are read as, whatever the order of the keys in a frame; a last frame without an end is
  left out."""
  tokens = np.asarray(tokens).astype(np.int64)
  ends = tokens == END_OF_FRAME
  frame = np.cumsum(ends) - ends
  roll = np.zeros((int(ends.sum()), keys), np.uint8)
  notes = ~ends & (frame < len(roll))
  roll[frame[notes], tokens[notes] - 1] = 1
  return roll


def num_frames(tokens: Integer[np.ndarray, "num tokens"], length: Integer[np.ndarray, " num"]) -> int:
  """Return how many frames the real tokens of examples end."""
  real = np.arange(tokens.shape[1]) < np.asarray(length)[:, None]
  return int(np.sum((tokens == END_OF_FRAME) & real))


def events(dataset: Dataset, argument: int, seed: int, facts: Mapping[str, Any] | None) -> Dataset:
  """Make tokens of piano rolls; their lengths then count tokens.

  Raise SpecError for data that are no piano rolls.
  """
  del argument, seed
  spec, music = dataset.spec, Music.of(dataset.info) or Music.of(facts or {})
  if music is None or spec.levels != 2 or len(spec.event) != 2 or not spec.has_lengths:
    raise SpecError(f"events needs piano rolls with lengths, but the examples of {dataset.name} have shape "
                    f"{spec.event} and {spec.levels} levels; leave it out, or say that they are music: #music=roll:1.")
  keys = spec.event[1]
  # As many as any window of these pieces can have: training may cut others than those that are seen here.
  most = max(int(rows["x"].sum(axis=2, dtype=np.int64).max()) for name in dataset.splits
             for _, rows in chunks(dataset.split(name)))
  steps = spec.event[0] * (most + 1)
  if recorded := (facts or {}).get("events"):
    steps = max(steps, int(recorded["steps"]))

  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    del examples, epoch
    x, length = np.zeros((len(rows["x"]), steps), np.int32), np.zeros(len(rows["x"]), np.int32)
    for i, (roll, frames) in enumerate(zip(rows["x"], rows["length"], strict=True)):
      tokens = to_events(roll[:frames])
      x[i, :len(tokens)], length[i] = tokens, len(tokens)
    return {**rows, "x": x.astype(np.uint8), "length": length}

  changed = dataclasses.replace(spec, event=(steps,), levels=keys + 1)
  info = {**dataset.info, "music": dataclasses.asdict(dataclasses.replace(music, form="events")),
          "events": {"steps": steps, "keys": keys}}
  return dataset.map(op, spec=changed, info=info)
