"""The description of an example: its shape, its levels or that it is continuous, its labels, its blocks.

A `DataSpec` is all that a model knows about its data before it sees any. Sources make one, transforms change it,
models check it and say what they need.
"""

import dataclasses
import math

from gdm.errors import SpecError


@dataclasses.dataclass(frozen=True)
class DataSpec:
  """The kind of one example.

  Attributes:
    event: shape of one example without the batch axis; images are (height, width, channels).
    levels: number of values a discrete dimension takes, so that x is an integer in [0, levels); None for real numbers.
    num_classes: number of values of the label `y`, or None where there is none.
    blocks: a partition of the flattened binary dimensions, in order of their first members, into groups of mutually
      exclusive columns (a one-hot code is one block), found from the training split by the `blocks` transform; ()
      where it was not asked for.
    has_lengths: whether examples are sequences of different lengths, which batches have in their entry "length": it
      counts along the first axis of the event, and what lies beyond is padding and no data. A model that heeds lengths
      counts the real dimensions as its `num_dims`; any other refuses the spec.
    context_dims: width of the real-valued condition that batches have in their entry "context", [batch, context_dims];
      0 where there is none. Models that are not conditional leave it alone, as they do labels.
    prefix_steps: length of the tokens that batches have in their entry "prefix", [batch, prefix_steps], as a condition:
      a caption, or a sentence to translate; 0 where there is none.
    prefix_levels: number of values of such a token, so that it is an integer in [0, prefix_levels); 0 is no token, and
      fills up shorter ones.
  """

  event: tuple[int, ...]
  levels: int | None
  num_classes: int | None = None
  blocks: tuple[tuple[int, ...], ...] = ()
  has_lengths: bool = False
  context_dims: int = 0
  prefix_steps: int = 0
  prefix_levels: int = 0

  def __post_init__(self) -> None:
    if any(size < 1 for size in self.event):
      raise SpecError(f"spec.event is {self.event}; every size must be at least 1.")
    if self.levels is not None and self.levels < 2:
      raise SpecError(f"spec.levels is {self.levels}; discrete data needs at least 2 levels (None means continuous).")
    if self.context_dims < 0:
      raise SpecError(f"spec.context_dims is {self.context_dims}; it must be at least 1, or 0 for no context.")
    if (self.prefix_steps, self.prefix_levels) != (0, 0) and (self.prefix_steps < 1 or self.prefix_levels < 2):
      raise SpecError(f"spec.prefix_steps is {self.prefix_steps} and spec.prefix_levels {self.prefix_levels}; a prefix "
                      "has at least 1 step and 2 levels, one of which is no token.")
    members = sorted(i for block in self.blocks for i in block)
    if self.blocks and (self.levels != 2 or members != list(range(self.num_dims))):
      raise SpecError(f"spec.blocks must partition the {self.num_dims} dimensions of binary data; levels is "
                      f"{self.levels} and the blocks hold {len(members)} indices.")

  @property
  def num_dims(self) -> int:
    """Number of scalar dimensions of one example."""
    return math.prod(self.event)

  @property
  def is_discrete(self) -> bool:
    return self.levels is not None

  @property
  def is_image(self) -> bool:
    """True for (height, width, channels) with one or three channels."""
    return len(self.event) == 3 and self.event[-1] in (1, 3)

  def require_discrete(self, who: str) -> int:
    """Return the number of levels, or a SpecError that says that `who` needs discrete data."""
    if self.levels is None:
      raise SpecError(f"{who} needs discrete data, but the data is continuous (spec.levels is None); add a "
                      "`quantize` or `binarize` transform, or choose a model of densities.")
    return self.levels

  def require_binary(self, who: str) -> None:
    """Raise a SpecError unless the data is binary."""
    if self.levels != 2:
      have = "continuous" if self.levels is None else f"of {self.levels} levels"
      raise SpecError(f"{who} needs binary data (spec.levels 2), but the data is {have}; add a `binarize` transform, "
                      "or choose a categorical model.")

  def require_whole(self, who: str) -> None:
    """Raise a SpecError where examples have lengths, which `who` would take padding for data of."""
    if self.has_lengths:
      raise SpecError(f"{who} takes every example whole, but the data has lengths (spec.has_lengths): it would score "
                      "padding as data; choose a model of sequences, such as transformer, recurrent or ngram.")

  def require_continuous(self, who: str) -> None:
    """Raise a SpecError unless the data is continuous."""
    if self.levels is not None:
      raise SpecError(f"{who} needs continuous data (spec.levels None), but the data has {self.levels} levels; choose "
                      "a model of discrete data.")
