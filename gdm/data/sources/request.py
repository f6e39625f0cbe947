"""A request to a source, taken apart: `npz:wine.npz#fold=3` is an argument and options."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from gdm.data.tokens import Tokenizer
from gdm.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Request:
  """A parsed `data.name`.

  Attributes:
    kind: the source, the part before the colon.
    argument: the part after it, or `data.path`: a file, or which set of the kind.
    options: key=value pairs after "#", joined by "&".
    data_dir: `data.data_dir`, where TFDS data lies; "" is TFDS's own place.
    seed: the seed of what the source draws anew in every epoch; never of what evaluation sees.
    tokenizer: of text for a model that knows its vocabulary already; None where the text's own is to be found.
    prefix_tokenizer: likewise, of texts that examples are conditional on.
    prefix_steps: words that such a model takes of them; 0 where the longest text decides.
    columns: likewise, what the numbers of a table stand for (gdm/data/columns.py); () where the table decides.
    labels: likewise, the column of a table's labels and their names, in order; of images "" and the sub-folders.
    levels: likewise, of integers in a file that declares none; 0 where the file decides.
    whole: whether a set of rows that brings no splits, or one alone, is a single split, "train"; see
      `gdm.data.partition.complete`.
  """

  kind: str
  argument: str = ""
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)
  data_dir: str = ""
  seed: int = 0
  tokenizer: Tokenizer | None = None
  prefix_tokenizer: Tokenizer | None = None
  prefix_steps: int = 0
  columns: Sequence[Mapping[str, Any]] = ()
  labels: tuple[str, Sequence[str]] = ("", ())
  levels: int = 0
  whole: bool = False

  def integer(self, option: str, default: int = 0, minimum: int = 0) -> int:
    """Return the option as an integer. Raise ConfigError where it is not one or below `minimum`."""
    if option not in self.options:
      return default
    text = self.options[option]
    if not text.removeprefix("-").isdecimal() or int(text) < minimum:
      raise ConfigError(f"data.name: option {option}={text!r} of {self.kind} must be an integer of at least {minimum}.")
    return int(text)

  def number(self, option: str, default: float) -> float:
    """Return the option as a number. Raise ConfigError where it is none."""
    text = self.options.get(option, str(default))
    try:
      return float(text)
    except ValueError as error:
      raise ConfigError(f"data.name: option {option}={text!r} of {self.kind} must be a number.") from error

  def names(self, option: str) -> tuple[str, ...]:
    """Return the option as names that commas part; () where it is not given. In a name %2C is a comma, %26 is "&"."""
    return tuple(unquote(name.strip()) for name in self.options.get(option, "").split(",") if name.strip())

  @property
  def shown(self) -> str:
    """The options as they follow the name of the set: "" or "#key=value&key=value"."""
    return "#" + "&".join(f"{key}={value}" for key, value in self.options.items()) if self.options else ""

  def choice(self, option: str, known: Sequence[str], default: str) -> str:
    """Return the option as one of the known words. Raise ConfigError naming the nearest where it is another."""
    word = self.options.get(option, default)
    if word not in known:
      raise ConfigError(f"data.name: option {option}={word!r} of {self.kind} is unknown; {nearest(word, known)}")
    return word
