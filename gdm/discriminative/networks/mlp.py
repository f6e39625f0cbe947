"""Multi-layer perceptrons as classifiers."""

import flax.linen as nn
from jaxtyping import Array, Float

from gdm import checks
from gdm.discriminative.networks.outputs import Outputs
from gdm.networks.activations import activation
from gdm.networks.dropout import dropout
from gdm.networks.from_data import from_data
from gdm.networks.linear import Linear
from gdm.networks.normalization import batch_norm
from gdm.stages import end_of_stage


class ClassifierPerceptron(nn.Module):
  """Examples, flattened -> logits; a hidden layer is linear, normalized, activated, and dropped out.

  Attributes:
    hidden: sizes of the hidden layers; () is a linear classifier.
    activation: of the hidden units.
    dropout: rate on hidden units, in training, where an rng named "dropout" is given.
    batch_norm: whether hidden layers are normalized by the batch.
    momentum: share of the running statistics that is kept in each step.
    outputs: classes.
  """

  hidden: tuple[int, ...] = (256, 256)
  activation: str = "relu"
  dropout: float = 0.2
  batch_norm: bool = False
  momentum: float = 0.99
  outputs: int = from_data(2)

  def __post_init__(self) -> None:
    if self.hidden:
      checks.sizes("network.hidden", self.hidden)
    checks.rate("network.dropout", self.dropout)
    checks.rate("network.momentum", self.momentum)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"], train: bool = False) -> Outputs:
    act, h = activation(self.activation), x.reshape(x.shape[0], -1)
    for i, size in enumerate(self.hidden):
      # A rectifier halves the second moment.
      h = Linear(size, (2.0 / h.shape[1])**0.5, use_bias=not self.batch_norm, name=f"hidden_{i}")(h)
      if self.batch_norm:
        h = batch_norm(train, self.momentum, name=f"norm_{i}")(h)
      h = end_of_stage(act(h))
      if train and self.dropout and self.has_rng("dropout"):
        h = dropout(self.make_rng("dropout"), h, self.dropout)
    return Outputs(Linear(self.outputs, h.shape[1]**-0.5, use_bias=True, name="last")(h), h)
