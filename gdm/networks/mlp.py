"""A plain multi-layer perceptron with a context: the conditioner of couplings of vectors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.errors import ConfigError, SpecError
from gdm.networks.activations import activation, initializer
from gdm.networks.dropout import dropout_scale
from gdm.stages import end_of_stage


class MLP(nn.Module):
  """Vectors [batch, inputs] -> [batch, outputs]; at first all outputs are zero.

  Inside, the examples lie along the last axis, as in gdm/networks/masked_mlp.py.

  Attributes:
    outputs: size of the output.
    hidden: sizes of the hidden layers; () is one linear layer.
    num_parameters: of each number that the outputs are about; they come number by number, but lie in memory parameter
      by parameter, so that a transform finds them in place. 1 where they are nothing of the kind.
    context: width of the context; 0 for none.
    residual: each hidden layer but the first adds to the one below; all must be of one size.
    activation: of the hidden units.
    dropout: rate on hidden units, where an rng named "dropout" is given.
    weight_init: name of an initializer of the hidden layers.
    output_scale: of the initial weights of the last layer, drawn as the others are; 0 starts at zero.
  """

  outputs: int
  hidden: tuple[int, ...] = (64, 64)
  num_parameters: int = 1
  context: int = 0
  residual: bool = False
  activation: str = "relu"
  dropout: float = 0.0
  weight_init: str = "glorot_uniform"
  output_scale: float = 0.0

  def __post_init__(self) -> None:
    if self.hidden:
      checks.sizes("hidden", self.hidden)
    checks.equal_sizes("hidden", self.hidden, self.residual)
    checks.rate("dropout", self.dropout)
    if self.num_parameters < 1 or self.outputs % self.num_parameters:
      raise ConfigError(f"num_parameters is {self.num_parameters}; it must divide the {self.outputs} outputs.")
    activation(self.activation)
    initializer(self.weight_init)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch inputs"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch outputs"]:
    width = 0 if context is None else context.shape[-1]
    if width != self.context:
      raise SpecError(f"the context has width {width}, but the network takes one of {self.context} (0 is none).")
    zeros, init = jax.nn.initializers.zeros, initializer(self.weight_init)
    h = x.T if context is None else jnp.concatenate([x.T, context.T])
    for layer, size in enumerate(self.hidden):
      kernel = self.param(f"hidden_{layer}_kernel", init, (h.shape[0], size))
      sums = jnp.einsum("ib,io->ob", h, kernel) + self.param(f"hidden_bias_{layer}", zeros, (size,))[:, None]
      made = activation(self.activation)(sums)
      if self.dropout > 0.0 and self.has_rng("dropout"):
        made = made * dropout_scale(self.make_rng("dropout"), made.shape, self.dropout)
      h = end_of_stage((made + h if self.residual and layer else made).T).T

    def last_init(key, shape):
      return self.output_scale * init(key, shape) if self.output_scale else jnp.zeros(shape)

    numbers = self.outputs // self.num_parameters
    kernel = self.param("output_kernel", last_init, (h.shape[0], self.outputs))
    bias = self.param("bias", zeros, (numbers, self.num_parameters)).T.reshape(1, -1)
    # As a row of the kernel: adding to many outputs and summing their gradients would each be a pass over memory.
    outputs = jnp.einsum("ib,io->ob", jnp.concatenate([h, jnp.ones_like(h[:1])]), jnp.concatenate([kernel, bias]))
    return outputs.reshape(self.num_parameters, numbers, -1).T.reshape(-1, self.outputs)
