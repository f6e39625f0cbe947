"""Models whose conditional tables are counted in one pass, and drawn from one dimension after the other."""

import abc
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from gdm.baselines import examples, tables
from gdm.baselines.solved import SolvedDiscrete
from gdm.model import Batch, Carry, Params, Samples


class Tabular(SolvedDiscrete, abc.ABC):
  """A model of discrete data with a table for each dimension given its parents (`gdm.baselines.tables`).

  Parameters: "logits" [rows, levels].
  """

  alpha: float

  @property
  @abc.abstractmethod
  def table_layout(self) -> tables.Layout:
    """The place of each dimension's table."""

  @property
  @abc.abstractmethod
  def dims_in_order(self) -> Sequence[int]:
    """Dimensions in an order in which parents come before children."""

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return uniform tables."""
    logits = jnp.full((self.table_layout.num_rows, self.levels), -np.log(self.levels), jnp.float32)
    return {"model": {"logits": logits}}, {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report=None) -> tuple[Params, Carry]:
    """Return smoothed frequencies, counted in one pass."""
    layout = self.table_layout
    counted = examples.accumulate(self.spec, jax.jit(lambda x, w: tables.counts(layout, self.levels, x, w)), batches)
    return {"model": {"logits": jnp.asarray(tables.estimate(layout, counted, self.alpha))}}, {}

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw [num, *event], parents before children; `temperature` divides each conditional's log-probability."""
    examples.check_options(condition, temperature, type(self).__name__)
    dims = self.spec.num_dims
    return self.draw(params, key, jnp.zeros((num, dims), jnp.int32), np.zeros(dims, bool), temperature)

  def draw(self, params: Params, key: Key[Array, ""], x: Int[Array, "num dims"], known: Bool[np.ndarray, " dims"],
           temperature: float = 1.0) -> Samples:
    """Draw what is not known of x."""
    order = np.asarray(self.dims_in_order)
    drawn = tables.ancestral(self.table_layout, params["model"]["logits"], order, key, x, known, temperature)
    return examples.as_samples(self.spec, drawn)
