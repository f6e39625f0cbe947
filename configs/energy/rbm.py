"""Restricted Boltzmann machine on binary data.

Variants: digits (binarized), binarized_mnist; npz for any binary set (with --config.data.path=...); adult, dna and
mushrooms are npz with settings chosen on the validation split.

Test log-likelihood in nats, one seed, from both ends (experiments.evaluate and the last point of experiments.bracket,
which draws anew; the published RBMs have 23 hidden units):

              pessimistic  bracket, and its width                  published
  adult          -14.730   -14.727 to -14.677   0.050 +- 0.029      -16.26
  dna            -90.754   -90.742 to -90.707   0.035 +- 0.018      -96.74
  mushrooms      -12.255   -12.257 to -11.936   0.321 +- 0.028      -15.15
  digits         -16.378   -16.370 to -16.318   0.052 +- 0.027
"""

import ml_collections

from configs import base
from configs.energy import shared

VARIANTS = {
    "digits": {
        "data": {"name": "digits", "transforms": ("binarize",)},
        "model": {"num_hidden": 200, "num_steps": 5},
        "optimizer": {"learning_rate": 4e-3, "weight_decay": 1e-3},
        "training": {"num_steps": 10_000},
    },
    "binarized_mnist": {"data": {"name": "tfds:binarized_mnist"}, "model": {"num_hidden": 500}},
    "npz": {"data": {"name": "npz"}},
    "adult": {
        "data": {"name": "npz"},
        "model": {"num_steps": 5},
        "optimizer": {"learning_rate": 3e-3},
        "training": {"num_steps": 20_000, "eval_every": 5000},
    },
    "dna": {
        "data": {"name": "npz"},
        "model": {"num_hidden": 200, "num_steps": 5},
        "optimizer": {"weight_decay": 3e-3},
        "training": {"num_steps": 10_000},
    },
    # Few patterns, far apart: the chains between them need many temperatures.
    "mushrooms": {
        "data": {"name": "npz"},
        "model": {"num_hidden": 50, "num_steps": 5, "num_temperatures": 10_000, "num_chains": 1000},
        "optimizer": {"learning_rate": 3e-3},
        "training": {"num_steps": 20_000, "eval_every": 5000},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = shared.get_config("rbm", num_hidden=100, init_scale=0.01)
  config.update(base.choose(variant, VARIANTS))
  return config
