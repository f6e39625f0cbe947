"""PixelCNN, on the sets of configs/autoregressive/images.py."""

import ml_collections

from configs.autoregressive import images

OWN = {
    "digits": {"model": {"network": {"width": 48, "num_blocks": 5, "first_size": 5, "kernel_size": 5, "head_width": 64,
                                     "located": True, "input_dropout": 0.1, "dropout": 0.5}},
               "optimizer": {"learning_rate": 3e-3, "weight_decay": 0.05}, "training": {"num_steps": 1500}},
    "cifar10": {"model": {"network": {"width": 126, "num_blocks": 15, "head_width": 1023}}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return images.get_config(variant, "pixelcnn", OWN)
