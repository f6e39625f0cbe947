"""NADE, the neural autoregressive distribution estimator: tied weights, O(nd) for all n conditionals.

Larochelle and Murray (AISTATS 2011); Uria et al. (arXiv:1605.02226, section 2). With binary data of n dimensions and d
hidden units it has 2nd + d + n parameters.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gdm import checks
from gdm.autoregressive.vectors.nade_recursion import blocked, recursion
from gdm.autoregressive.vectors.vector_model import OneOrderModel
from gdm.networks.activations import activation, initializer
from gdm.networks.dropout import dropout_scale


@dataclasses.dataclass(frozen=True)
class NADE(OneOrderModel):
  """A NADE of one hidden layer, in a fixed order, on binary or categorical data.

  Attributes:
    hidden: hidden units d.
    activation: of the hidden units; the paper's are "sigmoid" and "relu".
    dropout: rate on hidden units, one mask per example for all its conditionals.
    weight_init: name of an initializer, see gdm/networks/activations.py.
    block: variables per step of the recursion: 1 is best on a CPU, 16 to 64 on an accelerator. The model is the same.
  """

  hidden: int = 500
  activation: str = "sigmoid"
  dropout: float = 0.0
  weight_init: str = "glorot_uniform"
  block: int = 1

  def __post_init__(self) -> None:
    super().__post_init__()
    activation(self.activation)
    initializer(self.weight_init)
    checks.at_least("hidden", self.hidden, 1)
    checks.at_least("block", self.block, 1)
    checks.rate("dropout", self.dropout)

  @property
  def head(self):
    return self.make_head()

  def init_parameters(self, key):
    w_key, v_key = jax.random.split(key)
    shape = (self.head.num_columns, self.hidden)
    init = initializer(self.weight_init)
    # V maps hidden units to logits, so its fan-in is d: drawn in that shape, stored with one row per logit.
    return {"W": init(w_key, shape), "V": init(v_key, shape[::-1]).T, "c": jnp.zeros(self.hidden),
            "bias": jnp.zeros(shape[0])}

  def output_masks(self):
    # The last variable's W feeds nothing; it stays, as in the paper's count.
    shape = (self.head.num_columns, self.hidden)
    return {"W": np.ones(shape, bool), "V": np.ones(shape, bool), "c": np.ones(self.hidden, bool),
            "bias": np.ones(shape[0], bool)}

  def outputs(self, params, inputs, key=None):
    scale = dropout_scale(key, (inputs.shape[0], self.hidden), self.dropout)
    pad = self.layout.pad
    columns = jnp.moveaxis(pad(inputs.T), 1, 2)  # [variables, batch, width]
    arguments = (activation(self.activation), columns, pad(params["W"]), pad(params["V"]), params["c"], scale)
    logits = recursion(*arguments) if self.block == 1 else blocked(*arguments, self.block)
    return self.layout.flatten(jnp.moveaxis(logits, 2, 1)).T + params["bias"]

  def init_cache(self, params, num):
    return jnp.broadcast_to(params["model"]["c"], (num, self.hidden))

  def conditional_step(self, params, cache, x_previous, index):
    """As in the base, in O(d): add the previous variable's weights to the pre-activation, which is the cache."""
    model = params["model"]
    rows = jnp.asarray(self.layout.previous_slots)[index]
    slots = jnp.asarray(self.layout.slots)[index]
    weights = jnp.take(model["W"], rows, axis=0, mode="fill", fill_value=0.0)
    cache = cache + self.encode_previous(model, x_previous, rows) @ weights
    return cache, activation(self.activation)(cache) @ model["V"][slots].T + model["bias"][slots]
