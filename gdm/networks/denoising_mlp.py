"""A multi-layer perceptron that is told the time: the denoising network of vectors."""

import math

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from gdm.errors import ConfigError
from gdm.networks.blocks import end_of_block
from gdm.networks.dropout import dropout
from gdm.networks.linear import Linear
from gdm.networks.time_embedding import TimeEmbedding, require_embedding


class DenoisingMLP(nn.Module):
  """x [batch, *event] and times [batch] -> [batch, *event] with a last axis of its own size, at first zero.

  Each hidden layer is told the time and the class, and adds to the one below where both have the same size.

  Attributes:
    outputs: size of the output's last axis; 0 for `outputs_per_dim` times that of x.
    outputs_per_dim: numbers per entry of x, where `outputs` is 0: 2 for a mean and a variance.
    hidden: sizes of the hidden layers; one at least.
    context: width of the one-hot context; 0 for none.
    embedding: of the time: "sinusoidal" or "fourier".
    dropout: rate on hidden units, where an rng named "dropout" is given.
  """

  outputs: int = 0
  outputs_per_dim: int = 1
  hidden: tuple[int, ...] = (128, 128, 128)
  context: int = 0
  embedding: str = "sinusoidal"
  dropout: float = 0.0

  def __post_init__(self) -> None:
    if not self.hidden or min(self.hidden) < 2:
      raise ConfigError(f"hidden is {self.hidden}; a network needs one or more sizes of at least 2.")
    if self.outputs < 0 or self.outputs_per_dim < 1:
      raise ConfigError(f"outputs is {self.outputs} and outputs_per_dim {self.outputs_per_dim}; outputs must be at "
                        "least 1, or 0 for outputs_per_dim times the input's, and outputs_per_dim at least 1.")
    if not 0.0 <= self.dropout < 1.0:
      raise ConfigError(f"dropout is {self.dropout}; it must be at least 0 and below 1.")
    require_embedding(self.embedding)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"], time: Float[Array, " batch"],
               context: Float[Array, "batch classes"] | None = None) -> Float[Array, "batch *outputs"]:
    width = self.hidden[0] - self.hidden[0] % 2
    told = jax.nn.silu(TimeEmbedding(width, width, self.context, self.embedding, name="embedding")(time, context))
    h = x.reshape(x.shape[0], -1)
    for layer, size in enumerate(self.hidden):
      sums = Linear(size, h.shape[-1] ** -0.5, name=f"hidden_{layer}")(h)
      sums = sums + Linear(size, width**-0.5, use_bias=True, name=f"embedding_{layer}")(told)
      key = self.make_rng("dropout") if self.dropout > 0.0 and self.has_rng("dropout") else None
      made = dropout(key, jax.nn.silu(sums), self.dropout)
      h = end_of_block(h + made if layer and h.shape == made.shape else made)
    shape = (*x.shape[1:-1], self.outputs or self.outputs_per_dim * x.shape[-1])
    return Linear(math.prod(shape), 0.0, use_bias=True, name="last")(h).reshape(x.shape[0], *shape)
