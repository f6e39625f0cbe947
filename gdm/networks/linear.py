"""A linear layer over the last axis of activations of any rank."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float


class Linear(nn.Module):
  """x [..., inputs] -> [..., outputs].

  Leading axes are flattened into one: on a CPU the weight gradient of a product over two batch axes runs through
  transposed copies.

  Attributes:
    outputs: size of the output.
    stddev: weights start normal with this standard deviation.
    use_bias: whether a bias, at first zero, is added.
  """

  outputs: int
  stddev: float = 0.02
  use_bias: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "*shape inputs"]) -> Float[Array, "*shape outputs"]:
    kernel = self.param("kernel", jax.nn.initializers.normal(self.stddev), (x.shape[-1], self.outputs))
    y = x.reshape(-1, x.shape[-1]) @ kernel
    if self.use_bias:
      y = y + self.param("bias", jax.nn.initializers.zeros, (self.outputs,))
    return y.reshape(*x.shape[:-1], self.outputs)
