"""A perceptron as a classifier."""

import flax.linen as nn

from gdm.dataspec import DataSpec
from gdm.discriminative.classifier import Classifier
from gdm.discriminative.networks.mlp import ClassifierPerceptron


def mlp_classifier(spec: DataSpec, *, network: nn.Module = ClassifierPerceptron(), label_smoothing: float = 0.0,
                   noise: float = 0.0) -> Classifier:
  """Return a classifier of examples of any shape, which are flattened.

  Args:
    spec: the data.
    network: its layers and their sizes.
    label_smoothing: share of each label, in the objective, that is spread evenly over all classes, in [0, 1).
    noise: the largest deviation of normal noise in training, see `Classifier`; 0 is none.

  Example:
    model = mlp_classifier(spec, network=ClassifierPerceptron(hidden=(512,), dropout=0.5, batch_norm=True))
  """
  return Classifier(spec, network, label_smoothing, noise)
