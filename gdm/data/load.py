"""Loading of a data set by its name: a table of sources, then the transforms in order."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping

from gdm.data import partition
from gdm.data.dataset import Dataset, as_served, check
from gdm.data.description import Description
from gdm.data.sources import (
  arrays,
  audio,
  delimited,
  digits,
  folder,
  hdf5,
  hub,
  midi,
  npy,
  npz,
  parquet,
  text,
  tfds,
  tokens,
  toy2d,
)
from gdm.data.sources.request import Request
from gdm.data.token_files import is_prepared
from gdm.data.transforms import apply_transforms
from gdm.errors import ConfigError, DataError, nearest
from gdm.storage import local_data


@dataclasses.dataclass(frozen=True)
class Source:
  """A kind of source.

  Attributes:
    load: makes the data set.
    argument: what must follow the colon, in words; "" if nothing may.
    options: the keys it knows after "#".
  """

  load: Callable[[Request], Dataset]
  argument: str = ""
  options: tuple[str, ...] = ()


OF_SPLITS = ("fold", "valid", "test", "split")  # options that say how a file is split, not how it is read
PLACES = ("a path", "a folder")  # arguments that say where data lie, not what they are

SOURCES: dict[str, Source] = {
    "digits": Source(digits.load),
    "toy2d": Source(toy2d.load, "a density", ("train",)),
    "tfds": Source(tfds.load, "a set", tfds.OPTIONS),
    "npz": Source(npz.load, "a path", arrays.OPTIONS),
    "npy": Source(npy.load, "a path", ("layout", *partition.OPTIONS)),
    "folder": Source(folder.load, "a path", folder.OPTIONS),
    "images": Source(folder.load, "a path", folder.OPTIONS),
    "csv": Source(delimited.load, "a path", delimited.OPTIONS),
    "tsv": Source(delimited.load, "a path", delimited.OPTIONS),
    "parquet": Source(parquet.load, "a path", parquet.OPTIONS),
    "hdf5": Source(hdf5.load, "a path", hdf5.OPTIONS),
    "hf": Source(hub.load, "a set or a folder", hub.OPTIONS),
    "text": Source(text.load, "a path", text.OPTIONS),
    "tokens": Source(tokens.load, "a path", tokens.OPTIONS),
    "midi": Source(midi.load, "a path", midi.OPTIONS),
    "wav": Source(audio.load, "a path", audio.OPTIONS),
}

# A file or folder named as an archive, as the variants `npz` and `images` of configs name any, is read as what it is.
BY_ENDING = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".npy": "npy", ".h5": "hdf5", ".hdf5": "hdf5"}


def load_dataset(name: str, *, path: str = "", data_dir: str = "", transforms: Iterable[str] = (),
                 seed: int = 0) -> Dataset:
  """Return the data set of that name, transformed and checked.

  Args:
    name: a source of `SOURCES` and, after a colon, what it reads: digits, toy2d:<density>, tfds:<set>, npz:<path>,
      folder:<path>, csv:<path> and so on; options follow as "#key=value&key=value".
    path: the file or folder, where the name is a source alone.
    data_dir: where TFDS data lies; "" is TFDS's own place.
    transforms: names from `gdm.data.transforms`, in order.
    seed: of what training sees anew in every epoch. What evaluation sees never depends on it.

  Raises:
    ConfigError: an unknown name, option or transform, with the nearest known one.
    DataError: data that is missing, damaged, or not what its spec promises.
    SpecError: a transform that does not apply to this kind of data.
  """
  dataset = as_served(apply_transforms(_load_source(_parse(name, path, data_dir, seed)), transforms, seed))
  check(dataset)
  return dataset


def load_like(like: Description, name: str, *, path: str = "", data_dir: str = "", seed: int = 0) -> Dataset:
  """Return the data set of that name as a model of other data was trained to see it; see `Description.transformed`.

  Args:
    like: the data that the model was trained with.
    name, path, data_dir, seed: as for `load_dataset`.

  Data of the same kind of source that names no options is read by those of the training data, but for how these were
  split; text by the model's own vocabulary, and the columns of a table by the integers, categories and bins that the
  model knows. Rows or images that bring no splits, or one alone, are the split "test", all of them: a model that was
  not trained on them is scored on each. If they are the training data, in another place, they are split as then.

  Raise as `load_dataset` does, and DataError for examples of another kind.
  """
  request = _parse(name, path, data_dir, seed)
  if request.kind == like.info.get("kind") and not request.options:
    kept = {key: value for key, value in like.info["options"].items() if key not in OF_SPLITS}
    request = dataclasses.replace(request, options=kept)
  request = dataclasses.replace(request, tokenizer=like.tokenizer, prefix_tokenizer=like.prefix_tokenizer,
                                prefix_steps=like.spec.prefix_steps, levels=like.raw_spec.levels or 0,
                                columns=like.info.get("columns", ()),
                                labels=(like.info.get("label_column", ""), like.info.get("labels", ())), whole=True)
  dataset = _read_like(like, request)
  if dataset.info.get("split") != partition.WHOLE:
    return dataset
  if dataset.num_examples("train") == sum(like.sizes.values()):
    split = _read_like(like, dataclasses.replace(request, whole=False))
    if split.identity.get("train") == like.identity.get("train"):
      return split
  return dataclasses.replace(dataset, splits={"test": dataset.split("train")})


def _read_like(like: Description, request: Request) -> Dataset:
  """Return other data transformed as a model was trained to see data; raise as `load_like` does."""
  found = _load_source(request)
  _require_same_codes(found, like)
  dataset = like.transformed(found, request.seed)
  check(dataset)
  return dataset


def text_request(name: str, more: Mapping[str, str]) -> Request:
  """Return the request for a text to prepare, with more options. Raise ConfigError where it is no text, or for an
  option that `text:` lacks, or that is of reading and not of preparing."""
  if name.partition("#")[0].partition(":")[0] != "text":
    raise ConfigError(f"{name!r} is not text; name it as text:book.txt.")
  request = _parse(name, "", "", 0)
  if request.kind != "text" or "context" in request.options:
    what = "a folder of tokens already" if request.kind != "text" else "given a context, which tokens: takes"
    raise ConfigError(f"{name!r} is {what}; name a text file, or a folder of some.")
  return dataclasses.replace(request, options={**request.options, **more})


def says_where(name: str) -> bool:
  """Return whether a `data.name` says all of where the data are, so that `data.path` would not be read.

  Example: `says_where("npz:a.npz")` and `says_where("digits")`, but not `says_where("npz#fold=3")`.
  """
  kind, colon, _ = name.partition("#")[0].partition(":")
  return bool(colon) or (kind in SOURCES and not SOURCES[kind].argument)


def source_of(name: str, path: str) -> str:
  """Return a `data.name` without the place of its file: what may not change in a run, beside the content.

  Example: `source_of("npz", "/a/wine.npz#fold=3")` is "npz#fold=3".
  """
  head, _, fragment = name.partition("#")
  kind, _, argument = head.partition(":")
  if kind not in SOURCES or SOURCES[kind].argument not in PLACES:
    return name
  fragment = fragment or ("" if argument else path.partition("#")[2])
  return f"{kind}#{fragment}" if fragment else kind


def _require_same_codes(found: Dataset, like: Description) -> None:
  """Raise a DataError where numbers of x or labels stand for other things than in the data that a model knows."""
  for ours, theirs in zip(found.info.get("columns", ()), like.info.get("columns", ()), strict=False):
    if dict(ours) != dict(theirs):
      raise DataError(f"{found.name}: column {ours['name']!r} is coded as {dict(ours)}, but the run was trained on "
                      f"{like.name}, where it is {dict(theirs)}; choose the same columns, with the same values.")
  if "labels" in like.info and "labels" in found.info and list(found.info["labels"]) != list(like.info["labels"]):
    raise DataError(f"{found.name} has the labels {', '.join(found.info['labels'])}, but the run was trained on "
                    f"{', '.join(like.info['labels'])}; bring the same ones.")
  _require_same_rate(found, like)
  if found.tokenizer is not None and found.tokenizer != like.tokenizer:
    raise DataError(f"{found.name} has another vocabulary than {like.name}, which the run was trained on; bring text "
                    "of that vocabulary.")


def _require_same_rate(found: Dataset, like: Description) -> None:
  """Raise a DataError where sound has another rate, or music other steps, than a model was trained on."""
  ours = like.sample_rate or like.info.get("clip", {}).get("rate")
  if ours and found.sample_rate and found.sample_rate != ours:
    raise DataError(f"{found.name} has {found.sample_rate} samples per second, but the run was trained on {like.name}, "
                    f"which has {ours}; resample it.")
  steps = [info.get("music", {}).get("steps_per_quarter") for info in (found.info, like.info)]
  if None not in steps and steps[0] != steps[1]:
    raise DataError(f"{found.name} has {steps[0]} steps of a quarter note, but the run was trained on {like.name}, "
                    f"which has {steps[1]}; say #steps={steps[1]}.")


def _parse(name: str, path: str, data_dir: str, seed: int) -> Request:
  head, _, fragment = name.partition("#")
  kind, _, argument = head.partition(":")
  if kind not in SOURCES:
    raise ConfigError(f"data.name is {name!r}, but there is no source {kind!r}; {nearest(kind, SOURCES)}")
  source = SOURCES[kind]
  if path and (argument or not source.argument):
    raise ConfigError(f"data.name is {name!r} and data.path is {path!r}, which would not be read; "
                      + (f"say where the data lie once, as data.name={kind} with data.path." if source.argument
                         else "leave data.path empty."))
  if not argument and source.argument:
    argument, _, of_path = path.partition("#")
    if fragment and of_path:
      raise ConfigError(f"data.name is {name!r} and data.path is {path!r}; give the options after # in one of them.")
    fragment = fragment or of_path
  if bool(argument) != bool(source.argument):
    needs = f"needs {source.argument}, as {kind}:<name>" if source.argument else "takes nothing after a colon"
    raise ConfigError(f"data.name is {name!r}, but {kind} {needs}"
                      f"{' or by data.path' if source.argument == 'a path' else ''}.")
  if source.argument == "a path":
    argument = str(local_data(argument, "data.path" if path else "data.name"))
    if kind == "text" and is_prepared(argument):  # as the variants `text` of configs name any
      kind = "tokens"
    if kind == "npz":
      kind = _kind_of(pathlib.Path(argument))
  options = {}
  for pair in filter(None, fragment.split("&")):
    key, _, value = pair.partition("=")
    if key not in (known_options := SOURCES[kind].options):
      known = nearest(key, known_options) if known_options else "it has none."
      raise ConfigError(f"data.name is {name!r}, but {kind} has no option {key!r}; {known}")
    if key in options:
      raise ConfigError(f"data.name: option {key} of {kind} comes twice, as {options[key]!r} and as {value!r}; give it "
                        "once.")
    if not value and pair != "label=":  # no column of labels, where one would be taken
      raise ConfigError(f"data.name: option {key} of {kind} is empty; write {key}=..., or leave it out.")
    options[key] = value
  return Request(kind, argument, options, data_dir, seed)


def _kind_of(path: pathlib.Path) -> str:
  """Return the source that reads a file or folder of one's own, by what it is."""
  return "images" if path.is_dir() else BY_ENDING.get(path.suffix.lower(), "npz")


def _load_source(request: Request) -> Dataset:
  dataset = SOURCES[request.kind].load(request)
  check(dataset)
  repeats = partition.repeated(dataset)
  facts = {"kind": request.kind, "options": dict(request.options), **({"repeated": repeats} if repeats else {})}
  return dataclasses.replace(dataset, info={**dataset.info, **facts})
