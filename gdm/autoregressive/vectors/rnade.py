"""RNADE, the real-valued neural autoregressive density estimator (Uria, Murray and Larochelle, arXiv:1306.0186).

NADE's recursion, a_i = c + sum_{j<i} x_j W_j, gives each real dimension a mixture of K Gaussians or logistics whose
log-weights, means and log-scales are linear in h_i = f(rho_i a_i) (section 3). The weights W are tied: one
matrix serves all conditionals, so that all of them together cost O(n d). The factor rho_i, learned and one per
dimension, rescales pre-activations that would otherwise grow along the ordering; it starts at 1/i.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gdm import checks
from gdm.autoregressive.vectors.heads import MixtureSettings
from gdm.autoregressive.vectors.nade_recursion import blocked, recursion
from gdm.autoregressive.vectors.vector_model import OneOrderModel, data_units, output_shift, require_no_context
from gdm.batches import context_width
from gdm.networks.activations import activation, initializer
from gdm.networks.dropout import dropout_scale


@dataclasses.dataclass(frozen=True)
class RNADE(OneOrderModel):
  """An RNADE of one hidden layer, in a fixed order, on real data.

  Attributes:
    hidden: hidden units d.
    activation: of the hidden units; the paper's best are "relu".
    rescale: whether pre-activations are rescaled by rho.
    mixture: the mixtures that are the outputs; the kind of their components is `heads`: "gaussian" (as "auto") or
      "logistic".
    dropout: rate on hidden units, one mask per example for all its conditionals.
    weight_init: name of an initializer, see gdm/networks/activations.py.
    block: variables per step of the recursion: 1 is best on a CPU, 16 to 64 on an accelerator. The model is the same.
  """

  hidden: int = 50
  activation: str = "relu"
  rescale: bool = True
  mixture: MixtureSettings = MixtureSettings()
  dropout: float = 0.0
  weight_init: str = "glorot_uniform"
  block: int = 1

  def __post_init__(self) -> None:
    self.spec.require_continuous("RNADE")
    super().__post_init__()
    activation(self.activation)
    initializer(self.weight_init)
    checks.at_least("hidden", self.hidden, 1)
    checks.at_least("block", self.block, 1)
    checks.rate("dropout", self.dropout)

  @property
  def head(self):
    return self.make_head(self.mixture)

  @property
  def context_conditional(self) -> bool:
    """Whether it is p(x | context), as where the data have a context."""
    return self.spec.context_dims > 0

  def init_parameters(self, key):
    w_key, v_key = jax.random.split(key)
    n, columns, init = self.head.num_variables, self.head.num_columns, initializer(self.weight_init)
    # V maps hidden units to outputs, so its fan-in is d: drawn in that shape, stored with one row per output.
    params = {"W": init(w_key, (n, self.hidden)), "V": init(v_key, (self.hidden, columns)).T,
              "c": jnp.zeros(self.hidden), "bias": jnp.zeros(columns)}
    if width := context_width(self):  # outputs begin without the context
      params |= {"context_hidden": init(jax.random.fold_in(w_key, 1), (width, self.hidden)),
                 "context_outputs": jnp.zeros((width, columns))}
    return {**params, "rho": 1.0 / jnp.arange(1.0, n + 1.0)} if self.rescale else params

  def output_masks(self):
    n, columns = self.head.num_variables, self.head.num_columns
    # The last variable's W feeds nothing; it stays, as in NADE's count.
    masks = {"W": np.ones((n, self.hidden), bool), "V": np.ones((columns, self.hidden), bool),
             "c": np.ones(self.hidden, bool), "bias": np.ones(columns, bool)}
    if width := context_width(self):
      masks |= {"context_hidden": np.ones((width, self.hidden), bool),
                "context_outputs": np.ones((width, columns), bool)}
    return {**masks, "rho": np.ones(n, bool)} if self.rescale else masks

  def outputs(self, params, inputs, key=None, context=None):
    scale = dropout_scale(key, (inputs.shape[0], self.hidden), self.dropout)
    weights, start = params["W"][:, None, :], params["c"] + self._hidden_shift(params, context)
    columns = inputs.T[:, :, None]  # [variables, batch, 1]
    if self.rescale:
      # The recursion's state carries rho as one more unit, which a constant input raises by rho_{i+1} - rho_i.
      rho = params["rho"]
      steps = jnp.append(jnp.diff(rho), 0.0)[:, None, None]
      weights = jnp.concatenate([jnp.pad(weights, ((0, 0), (0, 0), (0, 1))),
                                 jnp.pad(steps, ((0, 0), (0, 0), (self.hidden, 0)))], axis=1)
      columns = jnp.concatenate([columns, jnp.ones_like(columns)], axis=-1)
      start = jnp.concatenate([start, jnp.full((*start.shape[:-1], 1), rho[0])], axis=-1)
    arguments = (self._activate, columns, weights, self.layout.pad(params["V"]), start, scale)
    outputs = recursion(*arguments) if self.block == 1 else blocked(*arguments, self.block)
    return self.layout.flatten(jnp.moveaxis(outputs, 2, 1)).T + params["bias"] + output_shift(params, context)

  def _activate(self, state):
    """Return hidden units h [..., d] from the recursion's state: a [..., d], and rho [..., 1] behind it."""
    if not self.rescale:
      return activation(self.activation)(state)
    return activation(self.activation)(state[..., :-1] * state[..., -1:])

  def init_cache(self, params, num, context=None):
    if context is None:
      require_no_context(self)
    model = params["model"]
    hidden = jnp.broadcast_to(model["c"] + self._hidden_shift(model, context), (num, self.hidden))
    return hidden, output_shift(model, context)

  def _hidden_shift(self, params, context):
    """Return what a context adds to the first state, [batch, hidden]; 0 without one."""
    return jnp.zeros(self.hidden) if context is None else context @ params["context_hidden"]

  def conditional_step(self, params, cache, x_previous, index):
    """As in the base, in O(d): add the previous variable's weights to the pre-activation, which is the cache."""
    model, head, order = params["model"], self.head, jnp.asarray(self.layout.order)
    rows = jnp.asarray(self.input_layout.previous_slots)[index]
    slots = jnp.asarray(self.layout.slots)[index]
    weights = jnp.take(model["W"], rows, axis=0, mode="fill", fill_value=0.0)
    x_previous = head.standardize(data_units(params), x_previous, order[index - 1])
    state, shift = cache
    state = state + self.encode_previous(model, x_previous, rows) @ weights
    h = activation(self.activation)(state * model["rho"][index] if self.rescale else state)
    logits = h @ model["V"][slots].T + model["bias"][slots] + shift[:, slots]
    return (state, shift), head.in_units(data_units(params), logits, order[index])
