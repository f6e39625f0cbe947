"""Results of a classifier's network."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Outputs(NamedTuple):
  """Results of a classifier's network.

  Attributes:
    logits: of each class, in nats.
    features: activations of the last hidden layer; the input of a network without one.
  """

  logits: Float[Array, "batch classes"]
  features: Float[Array, "batch features"]
