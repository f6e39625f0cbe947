"""PixelSNAIL, on the sets of configs/autoregressive/images.py."""

import ml_collections

from configs.autoregressive import images

OWN = {
    "digits": {"model": {"network": {"width": 48, "num_blocks": 2, "num_layers": 2, "first_size": 5, "heads": 4,
                                     "head_size": 8, "head_width": 64, "located": True, "input_dropout": 0.1,
                                     "dropout": 0.4}},
               "optimizer": {"learning_rate": 3e-3, "weight_decay": 0.05}, "training": {"num_steps": 2000}},
    "cifar10": {"model": {"network": {"width": 126, "num_blocks": 8, "num_layers": 4, "head_width": 1023}}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return images.get_config(variant, "pixelsnail", OWN)
