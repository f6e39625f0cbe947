"""Transformer decoder.

Variants: digits (pixels in raster order); shakespeare, nanoGPT's CPU setting; jsb_events, chorales as notes;
text for any text (with --config.data.path=...).
"""

import ml_collections

from configs.autoregressive import sequences

OWN = {
    "digits": {"model": {"network": {"num_layers": 2, "width": 64, "dropout": 0.1}},
               "optimizer": {"learning_rate": 3e-3}, "training": {"num_steps": 2000}},
    "jsb_events": {"data": {"batch_size": 8},
                   "model": {"network": {"num_layers": 3, "width": 96, "positions": "rotary", "dropout": 0.2}},
                   "optimizer": {"learning_rate": 3e-3, "b2": 0.99, "weight_decay": 0.1},
                   "training": {"num_steps": 1500, "ema_decay": 0.99},
                   "evaluation": {"batch_size": 40}},
    "shakespeare": {"model": {"network": {"positions": "rotary", "tie_embeddings": False}},
                    "optimizer": {"learning_rate": 6e-3, "b2": 0.99}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return sequences.get_config(variant, "transformer", OWN)
