"""A convolutional network as a classifier of images."""

import flax.linen as nn

from gdm.dataspec import DataSpec
from gdm.discriminative.classifier import Classifier
from gdm.discriminative.networks.convolutional import Convolutional
from gdm.errors import SpecError


def cnn_classifier(spec: DataSpec, *, network: nn.Module = Convolutional(), label_smoothing: float = 0.0,
                   noise: float = 0.0) -> Classifier:
  """Return a classifier of images. Raise SpecError for other events.

  Args:
    spec: the data.
    network: its layers and their sizes.
    label_smoothing: share of each label, in the objective, that is spread evenly over all classes, in [0, 1).
    noise: the largest deviation of normal noise in training, see `Classifier`; 0 is none.

  Example:
    model = cnn_classifier(spec, network=Convolutional(widths=(32, 64), convolutions=2))
  """
  if len(spec.event) != 3:
    raise SpecError(f"cnn_classifier needs images of (height, width, channels), but spec.event is {spec.event}; choose "
                    "mlp_classifier.")
  return Classifier(spec, network, label_smoothing, noise)
