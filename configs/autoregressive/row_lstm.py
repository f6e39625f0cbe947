"""Row LSTM, on the sets of configs/autoregressive/images.py."""

import ml_collections

from configs.autoregressive import images

OWN = {
    "digits": {"model": {"network": {"width": 40, "num_layers": 4, "first_size": 5, "head_width": 64, "located": True,
                                     "input_dropout": 0.1, "dropout": 0.5}},
               "optimizer": {"learning_rate": 3e-3}, "training": {"num_steps": 1500}},
    "cifar10": {"model": {"network": {"width": 129, "num_layers": 12, "head_width": 1023}}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return images.get_config(variant, "row_lstm", OWN)
