"""Texts of TensorFlow Datasets: `tfds:tiny_shakespeare`, `tfds:imdb_reviews#tokens=words&vocabulary=8000`.

Options are those of passages.py, and

  text=NAME          the feature, where there are several and none is called "text"; one within another is "outer/inner"
  unit=documents     each example is a document that ends with [EOS], cut into windows of the context where it is
                     longer; the default where a split has several examples. Empty ones fall out
  unit=stream        windows of running text, without [EOS]; the default where every split is one example. Of several
                     examples each is a text by itself, and no window reaches into the next one

Splits are those of TFDS: train, validation and test. Where validation is missing it is taken from train: of several
examples as tfds_prepared.py does for images, or the last 10 % where there is no test split either; of one example the
last 10 % (of the characters of a stream, of the lines, of the paragraphs), as of a file. Other splits are not read.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gdm.data.dataset import SPLITS, Dataset
from gdm.data.sources import passages
from gdm.data.sources.passages import Passage
from gdm.data.sources.request import Request
from gdm.data.sources.tfds_prepared import Part, Prepared, held_out, kind_of
from gdm.data.text_shards import DIVIDERS
from gdm.errors import ConfigError, DataError, nearest

OPTIONS = ("text", *passages.OPTIONS)
MEMORY_LIMIT = 256 << 20  # bytes of stored examples; Python objects of their tokens take about 20 times as much

_TFDS_NAMES = {"train": "train", "valid": "validation", "test": "test"}


def load(prepared: Prepared, request: Request, memory_limit: int = MEMORY_LIMIT) -> Dataset:
  """Return the set. Raise DataError where it is damaged, has no training split or is larger than memory, ConfigError
  for a feature that is no text, and what `passages.from_passages` raises."""
  feature, where = feature_of(prepared, request), prepared.where
  sizes = prepared.sizes
  splits = {name: sizes[theirs] for name, theirs in _TFDS_NAMES.items() if sizes.get(theirs)}
  if "train" not in splits:
    raise DataError(f"{where} has the splits {', '.join(sizes)}; it needs train.")
  require_small(prepared, tuple(splits), memory_limit)
  # A model that knows [EOS] was trained on documents, and is given documents.
  ends = max(splits.values()) > 1 if request.tokenizer is None else request.tokenizer.end is not None
  usual = "documents" if ends else "stream"
  choices = passages.choices_of(request, tuple(dict.fromkeys((usual, "documents", "stream", *DIVIDERS))))
  texts = {name: list(texts_of(prepared, feature, Part(_TFDS_NAMES[name], 0, num))) for name, num in splits.items()}
  parts, rule = _parts(texts, choices.unit)
  chosen = f"text={feature}" if "text" in request.options else ""
  shown = "&".join(filter(None, (chosen, choices.shown(usual).removeprefix("#"))))
  return passages.from_passages(parts, choices, request, f"tfds:{request.argument}{f'#{shown}' if shown else ''}",
                                where, {**prepared.facts, "text": feature, **rule})


def feature_of(prepared: Prepared, request: Request) -> str:
  """Return the path of the text: the one that is asked for, the only one, or "text"."""
  import tensorflow_datasets as tfds

  features = prepared.features
  if "text" in request.options:
    name = request.names("text")[0] if request.names("text") else ""
    known = [path for path, feature in features.items()
             if isinstance(feature, tfds.features.Tensor) and _is_text(feature)]
    if name not in known:
      is_there = f", which is {kind_of(features[name])}" if name in features else ""
      raise ConfigError(f"data.name: option text={name} of tfds must be a text of {prepared.where}{is_there}; "
                        f"{nearest(name, known) if known else 'it has none.'}")
    return name
  texts = [path for path, feature in features.items()
           if isinstance(feature, tfds.features.Text) and _is_text(feature)]
  if not texts:
    raise DataError(f"{prepared.where} has text as numbers; its features are {prepared.shown_features}.")
  if len(texts) > 1 and "text" not in texts:
    raise ConfigError(f"data.name: {prepared.where} has several texts: {', '.join(texts)}; choose one, as "
                      f"#text={texts[0]}.")
  return "text" if "text" in texts else texts[0]


def _is_text(feature) -> bool:
  return feature.shape == () and np.dtype(feature.np_dtype).kind in "OSU"


def require_small(prepared: Prepared, splits: Sequence[str], memory_limit: int) -> None:
  """Raise DataError where the splits do not fit in memory."""
  size = sum(prepared.builder.info.splits[_TFDS_NAMES[name]].num_bytes for name in splits)
  if size > memory_limit:
    raise DataError(f"{prepared.where} has {size >> 20:,} MiB of text, and up to {memory_limit >> 20} MiB are loaded; "
                    "write its texts to files, one for each document, make tokens of their folder by python -m "
                    "experiments.prepare text:FOLDER --out=DIR, and take data.name=tokens:DIR.")


def texts_of(prepared: Prepared, feature: str, part: Part) -> Iterator[str]:
  """Yield the text of each example. Raise DataError for one that is not UTF-8."""
  for number, example in enumerate(prepared.examples([feature], part), part.start):
    try:
      yield passages.normalized(example[feature].decode())
    except UnicodeDecodeError as error:
      raise DataError(f"{prepared.where}, split {part.split}, example {number}: its {feature!r} is not UTF-8: byte "
                      f"{error.start} is {error.object[error.start]:#04x}.") from error


def _parts(texts: Mapping[str, Sequence[str]], unit: str) -> tuple[dict[str, list[Passage]], dict[str, str]]:
  """Return the passages of each split, and the rule of a validation split that TFDS does not have."""
  parts = {name: [passage for number, text in enumerate(each) if unit == "stream" or text.strip()
                  for passage in passages.passages_of(text, unit, number)] for name, each in texts.items()}
  rule = {}
  if "valid" not in parts:
    if len(texts["train"]) == 1:
      rule = {"valid": "the last 10 % of TFDS's train"}
      parts |= passages.split_text(texts["train"][0], unit)
    else:
      num = len(texts["train"])
      first = held_out(num, len(texts["test"]))[0].num if "test" in texts else int(passages.TRAIN_FRACTION * num)
      rule = {"valid": f"the last {num - first} of TFDS's train"}
      train = parts["train"]
      parts["train"] = [passage for passage in train if (passage.example or 0) < first]
      parts["valid"] = [passage for passage in train if (passage.example or 0) >= first]
  return {name: parts[name] for name in SPLITS if name in parts}, rule
