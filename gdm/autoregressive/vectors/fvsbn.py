"""The fully visible sigmoid belief network: a (multinomial) logistic regression of each variable on those before it.

Frey, Hinton and Dayan (1996); Neal (1992). With binary data of n dimensions it has n (n + 1) / 2 parameters, and stores
exactly these: the strictly triangular weights as a vector, and the biases. Its loss is convex.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from gdm.autoregressive.vectors.triangular import pack_upper, packed_size, unpack_upper
from gdm.autoregressive.vectors.vector_model import OneOrderModel


@dataclasses.dataclass(frozen=True)
class FVSBN(OneOrderModel):
  """A fully visible sigmoid belief network on binary or categorical data."""

  @property
  def head(self):
    return self.make_head()

  def init_parameters(self, key):
    size = self.head.num_columns
    return {"kernel": jnp.zeros(packed_size(size - 1)), "bias": jnp.zeros(size)}

  def output_masks(self):
    # The columns of a categorical or block variable do not see each other: those entries of the triangle are void.
    return {"kernel": pack_upper(self._mask()), "bias": np.ones(self.head.num_columns, bool)}

  def _mask(self) -> np.ndarray:
    positions = self.layout.positions
    return positions[:-1, None] < positions[None, 1:]

  def kernel(self, params):
    """Return weights [columns, columns] from inputs to logits, by slot."""
    upper = unpack_upper(params["kernel"], self.head.num_columns - 1)
    return jnp.pad(jnp.where(self._mask(), upper, 0.0), ((0, 1), (1, 0)))

  def outputs(self, params, inputs, key=None):
    return inputs @ self.kernel(params) + params["bias"]

  def init_cache(self, params, num):
    logits = jnp.broadcast_to(params["model"]["bias"], (num, self.head.num_columns))
    return {"logits": logits, "kernel": self.kernel(params["model"])}

  def conditional_step(self, params, cache, x_previous, index):
    """As in the base, in O(n): add the previous variable's weights to the logits of all later ones."""
    rows = jnp.asarray(self.layout.previous_slots)[index]
    weights = jnp.take(cache["kernel"], rows, axis=0, mode="fill", fill_value=0.0)
    logits = cache["logits"] + self.encode_previous(params["model"], x_previous, rows) @ weights
    return {**cache, "logits": logits}, logits[:, jnp.asarray(self.layout.slots)[index]]
