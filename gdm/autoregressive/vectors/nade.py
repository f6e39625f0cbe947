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
from gdm.autoregressive.vectors.vector_model import OneOrderModel, output_shift, require_no_context
from gdm.batches import context_width
from gdm.networks.activations import activation, initializer
from gdm.networks.dropout import dropout_scale


@dataclasses.dataclass(frozen=True)
class NADE(OneOrderModel):
  """A NADE of one hidden layer, in a fixed order, on binary or categorical data.

  Given a context, it shifts the biases of the hidden units and of the outputs (Boulanger-Lewandowski et al.,
  arXiv:1206.6392, section 3.4, of a recurrent network's state).

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

  @property
  def context_conditional(self) -> bool:
    """Whether it is p(x | context), as where the data have a context."""
    return self.spec.context_dims > 0

  def init_parameters(self, key):
    w_key, v_key = jax.random.split(key)
    shape = (self.head.num_columns, self.hidden)
    init = initializer(self.weight_init)
    # V maps hidden units to logits, so its fan-in is d: drawn in that shape, stored with one row per logit.
    params = {"W": init(w_key, shape), "V": init(v_key, shape[::-1]).T, "c": jnp.zeros(self.hidden),
              "bias": jnp.zeros(shape[0])}
    if width := context_width(self):  # outputs begin without the context
      params |= {"context_hidden": init(jax.random.fold_in(w_key, 1), (width, self.hidden)),
                 "context_outputs": jnp.zeros((width, shape[0]))}
    return params

  def output_masks(self):
    # The last variable's W feeds nothing; it stays, as in the paper's count.
    shape = (self.head.num_columns, self.hidden)
    masks = {"W": np.ones(shape, bool), "V": np.ones(shape, bool), "c": np.ones(self.hidden, bool),
             "bias": np.ones(shape[0], bool)}
    if width := context_width(self):
      masks |= {"context_hidden": np.ones((width, self.hidden), bool),
                "context_outputs": np.ones((width, shape[0]), bool)}
    return masks

  def outputs(self, params, inputs, key=None, context=None):
    scale = dropout_scale(key, (inputs.shape[0], self.hidden), self.dropout)
    pad = self.layout.pad
    columns = jnp.moveaxis(pad(inputs.T), 1, 2)  # [variables, batch, width]
    arguments = (activation(self.activation), columns, pad(params["W"]), pad(params["V"]),
                 self._start(params, context), scale)
    logits = recursion(*arguments) if self.block == 1 else blocked(*arguments, self.block)
    return self.layout.flatten(jnp.moveaxis(logits, 2, 1)).T + params["bias"] + output_shift(params, context)

  def _start(self, params, context):
    """Return the pre-activation before the first variable: c, and what the context adds, [batch, hidden] then."""
    return params["c"] if context is None else params["c"] + context @ params["context_hidden"]

  def init_cache(self, params, num, context=None):
    if context is None:
      require_no_context(self)
    model = params["model"]
    return jnp.broadcast_to(self._start(model, context), (num, self.hidden)), output_shift(model, context)

  def conditional_step(self, params, cache, x_previous, index):
    """As in the base, in O(d): add the previous variable's weights to the pre-activation, which is in the
    cache beside the context's part of the outputs."""
    model = params["model"]
    rows = jnp.asarray(self.layout.previous_slots)[index]
    slots = jnp.asarray(self.layout.slots)[index]
    weights = jnp.take(model["W"], rows, axis=0, mode="fill", fill_value=0.0)
    state, shift = cache
    state = state + self.encode_previous(model, x_previous, rows) @ weights
    logits = activation(self.activation)(state) @ model["V"][slots].T + model["bias"][slots]
    return (state, shift), logits + shift[:, slots]
