"""Convolutional classifier of images.

Variants: digits; mnist; digit_spectrograms, spoken digits and their speakers; images, any with labels (with
--config.data.path=...).
"""

import ml_collections

from configs.discriminative import shared

# Steps of convolutions are written out: a CPU takes their gradients in loops many times as long. 6,000 steps of 28x28
# images are eleven epochs of 55,000, within ten minutes of a processor.
_LONG = {"training": {"num_steps": 6000, "eval_every": 1000, "checkpoint_every": 1000}}

VARIANTS = {
    "digits": {"model": {"network": {"widths": (32, 64)}}},
    "mnist": _LONG,
    "digit_spectrograms": {"data": {"batch_size": 64}, "model": {"network": {"widths": (16, 32, 64)}},
                           "training": {"num_steps": 1500, "eval_every": 150}},
    "images": _LONG,
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "cnn_classifier", VARIANTS)
