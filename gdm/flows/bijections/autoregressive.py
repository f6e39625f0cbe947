"""Masked autoregressive bijections: each number is transformed given those before it.

MAF (Papamakarios et al., arXiv:1705.07057) with `transforms.Affine`, autoregressive neural spline flows (Durkan et al.,
arXiv:1906.04032) with `transforms.RationalQuadratic`. `Inverse` of one is an inverse autoregressive flow (Kingma et
al., arXiv:1606.04934), which samples in one pass.

Forward, from the data to the base, is one pass of the network; inverse takes a step for each number. A step computes
the hidden units that have just become final and no others, so that all steps together multiply as much as one pass
does, where the usual inverse runs a whole pass for each of them.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm.errors import ConfigError, SpecError, nearest
from gdm.flows.bijections.bijection import Bijection, Transformed
from gdm.flows.bijections.transforms import ElementwiseTransform
from gdm.networks.masked_mlp import AutoregressiveMLP

ORDERINGS = ("natural", "reversed")


class MaskedAutoregressive(Bijection):
  """y_i = T(x_i; parameters of x_<i and the context), in an ordering of the flattened event; at first the identity.

  Attributes:
    transform: T.
    hidden: sizes of the network's hidden layers.
    ordering: "natural", "reversed", or the dimension at each position.
    context: width of the context; 0 for none.
    residual, activation, dropout, weight_init, output_scale: see gdm.networks.masked_mlp.AutoregressiveMLP.

  Example:
    layer, x = MaskedAutoregressive(RationalQuadratic(), hidden=(32,)), jax.random.normal(key, (16, 4))
    variables = layer.init(key, x)
    y, log_det = layer.apply(variables, x)
    x = layer.apply(variables, y, method="inverse").value
  """

  transform: ElementwiseTransform
  hidden: tuple[int, ...] = (64, 64)
  ordering: str | tuple[int, ...] = "natural"
  context: int = 0
  residual: bool = False
  activation: str = "relu"
  dropout: float = 0.0
  weight_init: str = "glorot_uniform"
  output_scale: float = 0.0

  def __post_init__(self) -> None:
    if isinstance(self.ordering, str) and self.ordering not in ORDERINGS:
      raise ConfigError(f"ordering is {self.ordering!r}; {nearest(self.ordering, ORDERINGS)}")
    super().__post_init__()

  def order(self, dims: int) -> Int[np.ndarray, " dims"]:
    """Return the dimension at each position; a SpecError where the ordering is of other dimensions than the data's."""
    if isinstance(self.ordering, str):
      return np.arange(dims)[::-1] if self.ordering == "reversed" else np.arange(dims)
    if sorted(self.ordering) != list(range(dims)):
      raise SpecError(f"ordering is {self.ordering}; of {dims} dimensions it must hold 0 to {dims - 1}, each once.")
    return np.asarray(self.ordering)

  @nn.compact
  def network(self, dims: int) -> AutoregressiveMLP:
    """Return the network that makes the parameters, of positions."""
    return AutoregressiveMLP(dims, self.transform.num_parameters, self.hidden, self.context, self.residual,
                             self.activation, self.dropout, self.weight_init, self.output_scale, name="network")

  def forward(self, x, context=None):
    order = self.order(math.prod(x.shape[1:]))
    arranged = arrange(x.reshape(x.shape[0], -1), order)
    y, log_det = self.transform.forward(arranged, self.network(len(order))(arranged, context))
    return Transformed(arrange(y, np.argsort(order)).reshape(x.shape), jnp.sum(log_det, axis=-1))

  def inverse(self, y, context=None):
    order = self.order(math.prod(y.shape[1:]))
    arranged = arrange(y.reshape(y.shape[0], -1), order).T
    # The loop is over arrays alone: a module cannot be called inside one.
    walk = self.network(len(order)).steps(y.shape[0], context)

    def position(values, step):
      index, target, step = step
      values, parameters = walk.advance(values, step)
      x, log_det = self.transform.inverse(target, parameters.T)
      values = [jax.lax.dynamic_update_index_in_dim(values[0], x.astype(values[0].dtype), index, axis=0), *values[1:]]
      return values, (x, log_det)

    _, (x, log_det) = jax.lax.scan(position, walk.values, (jnp.arange(len(order)), arranged, walk.steps))
    return Transformed(arrange(x.T, np.argsort(order)).reshape(y.shape), jnp.sum(log_det, axis=0))


def arrange(x: Float[Array, "batch dims"], order: Int[np.ndarray, " dims"]) -> Float[Array, "batch dims"]:
  """Return the dimensions in another order; the two that are common cost no gather, whose gradient is a scatter."""
  positions = np.arange(len(order))
  if np.array_equal(order, positions):
    return x
  return x[:, ::-1] if np.array_equal(order, positions[::-1]) else x[:, order]
