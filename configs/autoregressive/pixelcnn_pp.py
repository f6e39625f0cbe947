"""PixelCNN++, on the sets of configs/autoregressive/images.py."""

import ml_collections

from configs.autoregressive import images

OWN = {
    "digits": {"model": {"network": {"width": 32, "num_blocks": 1, "located": True, "input_dropout": 0.1,
                                     "dropout": 0.5}},
               "optimizer": {"learning_rate": 3e-3}, "training": {"num_steps": 900, "eval_every": 150,
                                                                  "ema_decay": 0.995}},
    # Sides of 28 and 32 are halved twice. On CIFAR-10 five blocks and three resolutions as in the paper, narrower.
    "binarized_mnist": {"model": {"network": {"num_scales": 3}, "pixels": {"mixture_size": 1}}},
    "cifar10": {"model": {"network": {"width": 128, "num_blocks": 5, "num_scales": 3, "dropout": 0.5}}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return images.get_config(variant, "pixelcnn_pp", OWN)
