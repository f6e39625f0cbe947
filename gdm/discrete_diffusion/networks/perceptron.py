"""A perceptron over all dimensions at once: vectors and tables of a few hundred columns."""

import flax.linen as nn

from gdm import checks
from gdm.discrete_diffusion.networks.network import LogitsNetwork, conditioning, drop, features
from gdm.networks.activations import activation
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage


class Perceptron(LogitsNetwork):
  """Any event, flattened; see `LogitsNetwork` for the other attributes.

  Example:
    network = Perceptron(hidden=(32,), event=(4,), levels=5)
    x = jnp.array([[2, 0, 5, 5]])  # the last two are masked
    params = network.init(key, x)
    logits = network.apply(params, x)  # [1, 4, 5]

  Attributes:
    hidden: sizes of the hidden layers.
    residual: whether each hidden layer but the first adds to the one below; all must be of one size.
    activation: of the hidden units.
  """

  hidden: tuple[int, ...] = (500, 500)
  residual: bool = True
  activation: str = "relu"

  def __post_init__(self) -> None:
    checks.sizes("network.hidden", self.hidden)
    checks.equal_sizes("network.hidden", self.hidden, self.residual)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x, time=None, context=None):
    act = activation(self.activation)
    dims = self.positions * self.channels
    inputs = features(x.reshape(x.shape[0], dims, 1), self.levels).reshape(x.shape[0], -1)
    h = Linear(self.hidden[0], dims**-0.5, use_bias=True, name="hidden_0")(inputs)
    h = h + conditioning(self.hidden[0], time, context)
    h = end_of_stage(drop(self, act(h), self.dropout))
    for layer, size in enumerate(self.hidden[1:], start=1):
      made = Linear(size, (2.0 / h.shape[-1]) ** 0.5, use_bias=True, name=f"hidden_{layer}")(h)
      made = drop(self, act(made), self.dropout)
      h = end_of_stage(h + made if self.residual else made)
    logits = Linear(dims * self.levels, 0.02, use_bias=True, name="last")(h)
    return logits.reshape(*x.shape, self.levels)
