"""Recurrent networks: tanh units, LSTM and GRU, by --config.model.network.cell=rnn | lstm | gru.

Variants: digits (pixels in raster order); shakespeare, nanoGPT's CPU setting; shakespeare_long, within ten minutes on
two cores; text for any text (with --config.data.path=...).
"""

import ml_collections

from configs.autoregressive import sequences

OWN = {
    "digits": {"model": {"network": {"dropout": 0.2}}, "training": {"num_steps": 2000}},
    # Longer windows, larger batches and dropout: within ten minutes on two CPU cores.
    "shakespeare_long": {
        "data": {"batch_size": 32},
        "model": {"network": {"dropout": 0.2}},
        "optimizer": {"learning_rate": 4e-3, "weight_decay": 0.1},
        "training": {"num_steps": 3000, "eval_every": 500, "ema_decay": 0.0},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return sequences.get_config(variant, "recurrent", OWN)
