"""Transforms of data sets, by the names that configs use; with an argument after a colon ("quantize:8").

With a question mark at its end ("standardize?") one is left out where it does not apply to the kind of data.

  binarize          1 where x is at least half of the largest level
  binarize_fixed    one Bernoulli draw of each pixel with probability x / (levels - 1), the same for everyone
  binarize_dynamic  such a draw afresh in every epoch of training; one fixed draw in validation and test. This is
                    another data set than binarize_fixed: their likelihoods don't compare
  quantize:<n>      n levels: of discrete data by joining neighbours; of continuous data by equal bins between the
                    smallest and the largest value of each dimension in the training split, the outer ones open
  resize:<s>        images to s x s, bilinear and antialiased, rounded to the nearest level
  crop:<s>          the central s x s of images
  stack             images of one channel to colour images: the other two channels are of other images of the split,
                    drawn once, the same for everyone; labels become the numbers that the three labels make (stacked
                    MNIST: 1,000 modes)
  flatten           the event as one axis; lengths then count its dimensions
  standardize       continuous data to mean 0 and deviation 1 of each dimension over the training split
  standardize_context the same of a real-valued context, whatever kind the data are
  mutate:<n>        n per cent of the values replaced by random levels, in training afresh in every epoch
  transpose:<n>     music up to n semitones higher or lower, in training alone and afresh in every epoch
  clip:<samples>    sound of so many samples: longer recordings end there, shorter ones are followed by silence, which
                    is data then
  spectrogram:<n>   images [n, frames, 1] of sound of one length: its power in n bands of frequencies, in decibels; see
                    gdm/data/spectrogram.py
  events            piano rolls as tokens: the keys of each frame from the highest down, and its end; see
                    gdm/data/note_events.py
  blocks            finds groups of mutually exclusive columns of binary data in the training split: `DataSpec.blocks`;
                    other data pass unchanged
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from gdm.batches import dims_per_step
from gdm.data import draws, images
from gdm.data.blocks import find_blocks
from gdm.data.dataset import MOST_ROUNDING, Dataset, Modes, column_moments, smallest_dtype
from gdm.data.mutation import mutate
from gdm.data.note_events import events
from gdm.data.sound import clip, spectrogram
from gdm.data.split import Rows, Split, chunks
from gdm.data.transposition import transpose
from gdm.distributions.moments import ROUNDING
from gdm.errors import ConfigError, DataError, SpecError, nearest

FIXED_SEED = 20240604  # of binarize_fixed, whatever the config's seed
STACK_SEED = 20261130
DYNAMIC_SEED = 20240605  # of what binarize_dynamic serves in validation and test


# What a transform took from a training split, by its name: see `Dataset.info`.
Facts = Mapping[str, Any]


def binarize(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  del argument, seed, facts
  half = dataset.spec.require_discrete("binarize") // 2
  return dataset.map(_on_x(lambda x: (x >= half).astype(np.uint8)),
                     spec=dataclasses.replace(dataset.spec, levels=2, blocks=()))


def binarize_fixed(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  del argument, seed, facts
  return _binarize_by_draws(dataset, "binarize_fixed", dict.fromkeys(dataset.splits, FIXED_SEED), fresh=False)


def binarize_dynamic(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  del argument, facts
  seeds = {**dict.fromkeys(dataset.splits, DYNAMIC_SEED), "train": seed}
  return _binarize_by_draws(dataset, "binarize_dynamic", seeds, fresh=True)


def quantize(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  del seed
  old, new = dataset.spec.levels, argument
  most = 65536 if old is None else old
  if not 2 <= new <= most:
    have = "continuous data" if old is None else f"data with {old} levels"
    raise ConfigError(f"data.transforms: quantize:{new} of {have}; it can make 2 to {most} levels of it.")
  dtype = smallest_dtype(new)
  spec = dataclasses.replace(dataset.spec, levels=new, blocks=())
  if old is not None:
    if old * new >= 2**63:
      raise DataError(f"data.transforms: quantize:{new} of values up to {old - 1} is beyond 64 bits; shift the data.")
    return dataset.map(_on_x(lambda x: (x.astype(np.int64) * new // old).astype(dtype)), spec=spec)
  _require_whole(dataset, "quantize")
  low, high = _recorded(facts, "quantize", ("low", "high"), dataset.spec.event) or _column_range(dataset)
  width = np.where(high > low, high - low, 1.0)
  bins = {"low": low.ravel().tolist(), "high": high.ravel().tolist()}
  return dataset.map(_on_x(lambda x: np.clip((x - low) / width * new, 0, new - 1).astype(dtype)), spec=spec,
                     info={**dataset.info, "quantize": bins})


def resize(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  del seed, facts
  event = _require_image(dataset, f"resize:{argument}", argument)

  def to_size(x: np.ndarray) -> np.ndarray:
    resized = images.resize(x, argument)
    return resized if dataset.spec.levels is None else np.rint(resized).astype(x.dtype)

  return dataset.map(_on_x(to_size), spec=dataclasses.replace(dataset.spec, event=event, blocks=()))


def crop(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  del seed, facts
  event = _require_image(dataset, f"crop:{argument}", argument)
  if argument > min(dataset.spec.event[:2]):
    raise ConfigError(f"data.transforms: crop:{argument} is larger than the images of {dataset.name}, "
                      f"{dataset.spec.event}.")
  return dataset.map(_on_x(lambda x: images.center_crop(x, argument)),
                     spec=dataclasses.replace(dataset.spec, event=event, blocks=()))


def stack(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  del argument, seed, facts
  if _require_image(dataset, "stack", 1)[-1] != 1:
    raise SpecError(f"stack needs images of one channel, but those of {dataset.name} have {dataset.spec.event[-1]}.")
  rows, columns, classes = *dataset.spec.event[:2], dataset.spec.num_classes
  splits = {name: dataset.split(name).map(_stacked(dataset.split(name), draws.named(STACK_SEED, name), classes))
            for name in dataset.splits}
  spec = dataclasses.replace(dataset.spec, event=(rows, columns, 3), num_classes=classes and classes**3, blocks=())
  return dataclasses.replace(dataset, splits=splits, spec=spec, log_prob=None)


def _stacked(split: Split, seed: int, classes: int | None):
  """Return each image with two more of the split, by a permutation of its own for each channel."""
  orders = [np.random.Generator(np.random.Philox([seed, channel])).permutation(split.num_examples)
            for channel in (1, 2)]

  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    del epoch
    parts = [rows, *(split.rows(order[examples]) for order in orders)]
    stacked = {**rows, "x": np.concatenate([part["x"] for part in parts], axis=-1)}
    if classes and "y" in rows:
      first, second, third = (np.asarray(part["y"]).astype(np.int64) for part in parts)
      stacked["y"] = ((first * classes + second) * classes + third).astype(np.int32)
    return stacked

  return op


def flatten(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  del argument, seed, facts
  event = (dataset.spec.num_dims,)
  true_log_prob = dataset.log_prob
  old_event, per_step = dataset.spec.event, dims_per_step(dataset.spec)

  def to_one_axis(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    del examples, epoch
    lengths = {"length": rows["length"] * per_step} if "length" in rows else {}
    return {**rows, "x": rows["x"].reshape(-1, *event), **lengths}

  return dataset.map(to_one_axis, spec=dataclasses.replace(dataset.spec, event=event),
                     log_prob=true_log_prob and (lambda x: true_log_prob(x.reshape(-1, *old_event))))


def standardize(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  """Continuous data only; likelihoods are then about the standardized values. A known density is carried along."""
  del argument, seed
  dataset.spec.require_continuous("standardize")
  _require_whole(dataset, "standardize")
  mean, std = _recorded(facts, "standardize", ("mean", "std"), dataset.spec.event) or _moments(dataset)
  true_log_prob = dataset.log_prob
  log_det = float(np.log(std).sum())
  found = {"mean": mean.ravel().tolist(), "std": std.ravel().tolist()}
  modes = dataset.modes and Modes((dataset.modes.centers - mean) / std, dataset.modes.deviation / std)
  return dataset.map(_on_x(lambda x: ((x - mean) / std).astype(np.float32)),
                     info={**dataset.info, "standardize": found},
                     log_prob=true_log_prob and (lambda x: true_log_prob(x * std + mean) + log_det), modes=modes)


def standardize_context(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  del argument, seed
  if not dataset.spec.context_dims:
    raise SpecError(f"standardize_context needs a context, but {dataset.name} has none (spec.context_dims is 0); leave "
                    "it out.")
  mean, std = (_recorded(facts, "standardize_context", ("mean", "std"), (dataset.spec.context_dims,))
               or _context_moments(dataset))

  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    del examples, epoch
    return {**rows, "context": ((rows["context"] - mean) / std).astype(np.float32)}

  found = {"mean": mean.tolist(), "std": std.tolist()}
  splits = {name: dataset.split(name).map(op) for name in dataset.splits}
  return dataclasses.replace(dataset, splits=splits, info={**dataset.info, "standardize_context": found})


def blocks(dataset: Dataset, argument: int, seed: int, facts: Facts | None) -> Dataset:
  """Return the data stays as it is; only `spec.blocks` is new, and only for binary data. See gdm/data/blocks.py."""
  del argument, seed
  # A categorical dimension is what a block would become, and steps of a sequence are no columns: nothing to find.
  if dataset.spec.levels != 2 or dataset.spec.has_lengths or facts is not None:  # a model's spec has them already
    return dataset
  found = find_blocks(rows["x"].reshape(len(examples), -1) for examples, rows in chunks(dataset.split("train")))
  return dataclasses.replace(dataset, spec=dataclasses.replace(dataset.spec, blocks=found))


@dataclasses.dataclass(frozen=True)
class Transform:
  """A named transform: `apply(dataset, argument, seed, facts)`; `seed` is for what epochs draw anew, nothing else, and
  `facts` are those of another set's training split, to be used in place of the own one's; None for none."""

  apply: Callable[[Dataset, int, int, Facts | None], Dataset]
  argument: str = ""  # what the number after the colon is; "" if there is none


TRANSFORMS: dict[str, Transform] = {
    "binarize": Transform(binarize),
    "binarize_fixed": Transform(binarize_fixed),
    "binarize_dynamic": Transform(binarize_dynamic),
    "quantize": Transform(quantize, "levels"),
    "resize": Transform(resize, "size"),
    "crop": Transform(crop, "size"),
    "stack": Transform(stack),
    "flatten": Transform(flatten),
    "standardize": Transform(standardize),
    "standardize_context": Transform(standardize_context),
    "blocks": Transform(blocks),
    "mutate": Transform(mutate, "per cent"),
    "transpose": Transform(transpose, "semitones"),
    "clip": Transform(clip, "samples"),
    "spectrogram": Transform(spectrogram, "bands"),
    "events": Transform(events),
}


def apply_transforms(dataset: Dataset, names: Iterable[str], seed: int, facts: Facts | None = None) -> Dataset:
  """Return the set after all transforms in order; its name tells of those that changed its data.

  Args:
    dataset: the set.
    names: of transforms, with their arguments.
    seed: of what epochs draw anew.
    facts: `Dataset.info` of a set that was transformed by the same names, whose means, deviations and bins are then
      used; by default they are those of this set's training split.

  Raise ConfigError for an unknown name or argument, SpecError where a transform does not apply to the data.
  """
  if isinstance(names, str):
    raise ConfigError(f"data.transforms is the string {names!r}; it must be a tuple of names, as ({names!r},).")
  names, raw_spec = tuple(names), dataset.spec
  for each in names:
    text = each.removesuffix("?")
    name, colon, number = text.partition(":")
    if name not in TRANSFORMS:
      raise ConfigError(f"data.transforms: there is no transform {name!r}; {nearest(name, TRANSFORMS)}")
    transform = TRANSFORMS[name]
    if bool(colon) != bool(transform.argument) or (colon and not (number.isdecimal() and int(number) > 0)):
      right = f"{name}:<{transform.argument}>, a positive integer" if transform.argument else f"{name} alone"
      raise ConfigError(f"data.transforms: {text!r} must be {right}.")
    before = dataset
    try:
      dataset = transform.apply(dataset, int(number or 0), seed, facts)
    except SpecError:
      if each == text:
        raise
    if dataset.spec.levels != before.spec.levels:
      dataset = dataclasses.replace(dataset, info={**dataset.info, "levels": f"by {text}"})
    if any(split is not before.splits[key] for key, split in dataset.splits.items()):
      dataset = dataclasses.replace(dataset, name=f"{dataset.name}+{text}")
  return dataclasses.replace(dataset, transforms=(*dataset.transforms, *names), raw_spec=dataset.raw_spec or raw_spec)


def _on_x(function: Callable[[np.ndarray], np.ndarray]):
  """Return a change of "x" row by row, the same in every epoch, as an operation on rows."""
  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    del examples, epoch
    return {**rows, "x": function(rows["x"])}
  return op


def _binarize_by_draws(dataset: Dataset, who: str, seeds: dict[str, int], fresh: bool) -> Dataset:
  """One Bernoulli draw per pixel with probability x / (levels - 1); of the training split in every epoch if `fresh`."""
  levels = dataset.spec.require_discrete(who)
  splits = {}
  for name in dataset.splits:
    anew = fresh and name == "train"
    splits[name] = dataset.split(name).map(_bernoulli(draws.named(seeds[name], name), levels, anew), anew)
  return dataclasses.replace(dataset, splits=splits, spec=dataclasses.replace(dataset.spec, levels=2, blocks=()),
                             log_prob=None)


def _bernoulli(seed: int, levels: int, fresh: bool):
  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    x = rows["x"]
    u = draws.uniforms(seed, epoch if fresh else 0, examples, x[0].size)
    return {**rows, "x": (u.reshape(x.shape) * (levels - 1) < x).astype(np.uint8)}
  return op


def _recorded(facts: Facts | None, name: str, parts: tuple[str, str], shape: tuple[int, ...]
              ) -> list[np.ndarray] | None:
  """Return two recorded numbers of each dimension, in this shape; None where there are none."""
  if facts is None or name not in facts:
    return None
  return [np.array(facts[name][part], np.float64).reshape(shape) for part in parts]


def _moments(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
  """Return mean and deviation of each dimension of the training split. Raise DataError where one is constant."""
  train = dataset.split("train")
  mean, std = column_moments(train)
  # Moments are of float64, but numbers of a float32 file that should be equal differ by what float32 rounds.
  rounding = ROUNDING if train["x"][:1].dtype.itemsize <= 4 else MOST_ROUNDING
  constant = np.flatnonzero((std <= rounding * np.abs(mean)).ravel())
  if len(constant):
    raise DataError(f"standardize: dimension {constant[0]} of {dataset.name} is constant in the training split "
                    f"({mean.ravel()[constant[0]]:g} but for rounding); drop it from the data, a density of it would "
                    "be infinite.")
  return mean, std


def _context_moments(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
  train = dataset.split("train")
  mean, std = column_moments(train, "context")
  # Contexts are float64 by now; numbers of a float32 file are those that float32 has.
  is_single = all(np.array_equal(rows["context"], rows["context"].astype(np.float32)) for _, rows in chunks(train))
  if len(constant := np.flatnonzero(std <= (ROUNDING if is_single else MOST_ROUNDING) * np.abs(mean))):
    raise DataError(f"standardize_context: dimension {constant[0]} of the context of {dataset.name} is constant in the "
                    "training split; leave it out of the context, it says nothing.")
  return mean, std


def _column_range(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
  parts = [(rows["x"].min(axis=0), rows["x"].max(axis=0)) for _, rows in chunks(dataset.split("train"))]
  lows, highs = zip(*parts, strict=True)
  return np.min(lows, axis=0).astype(np.float64), np.max(highs, axis=0).astype(np.float64)


def _require_image(dataset: Dataset, who: str, size: int) -> tuple[int, int, int]:
  if not dataset.spec.is_image:
    raise SpecError(f"{who} needs images (height, width, channels), but the examples of {dataset.name} have shape "
                    f"{dataset.spec.event}.")
  _require_whole(dataset, who)
  return (size, size, dataset.spec.event[-1])


def _require_whole(dataset: Dataset, who: str) -> None:
  if dataset.spec.has_lengths:
    raise SpecError(f"{who} takes every example whole, but those of {dataset.name} have lengths, and what is beyond "
                    "them is no data; leave it out.")
