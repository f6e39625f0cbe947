"""Diagonal BiLSTM, on the sets of configs/autoregressive/images.py."""

import ml_collections

from configs.autoregressive import images

OWN = {
    "digits": {"model": {"network": {"width": 32, "num_layers": 3, "first_size": 5, "head_width": 64, "located": True,
                                     "input_dropout": 0.1, "dropout": 0.3}},
               "optimizer": {"learning_rate": 3e-3}, "training": {"num_steps": 2000}},
    "cifar10": {"model": {"network": {"width": 129, "num_layers": 12, "head_width": 1023}}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return images.get_config(variant, "diagonal_bilstm", OWN)
