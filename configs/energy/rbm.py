"""Restricted Boltzmann machine on binary data.

Variants: binarized_digits, binarized_mnist; npz for any binary set (with --config.data.path=...); adult, dna and
mushrooms are npz with settings chosen on the validation split.

Mean test log-likelihood in nats, three seeds: RAISE, and how far above it that by log Z is (the published RBMs have 23
hidden units):

  adult      -14.730 -14.743 -14.791    0.050  0.120  0.095    published -16.26
  dna        -90.754 -90.725 -90.638    0.035  0.013  0.046              -96.74
  mushrooms  -12.987 -12.721 -12.897    0.110  0.064 -0.299              -15.15
  digits     -16.378 -16.341 -16.381    0.052 -0.004  0.064
"""

import ml_collections

from configs import data
from configs.energy import shared

VARIANTS = {
    "binarized_digits": {
        "model": {"num_hidden": 200, "num_steps": 5},
        "optimizer": {"learning_rate": 4e-3, "weight_decay": 1e-3},
        "training": {"num_steps": 10_000},
    },
    "binarized_mnist": {"model": {"num_hidden": 500}},
    "npz": {},
    "adult": {
        "model": {"num_steps": 5},
        "optimizer": {"learning_rate": 3e-3},
        "training": {"num_steps": 20_000, "eval_every": 5000},
    },
    "dna": {
        "model": {"num_hidden": 200, "num_steps": 5},
        "optimizer": {"weight_decay": 3e-3},
        "training": {"num_steps": 10_000},
    },
    # Few patterns, far apart: the chains between them need many temperatures. Without decay some seeds grow a mode that
    # no chain of training visits, and only annealing finds (log Z is then nats above what RAISE allows).
    "mushrooms": {
        "model": {"num_hidden": 50, "num_steps": 5, "num_temperatures": 10_000, "num_chains": 1000},
        "optimizer": {"learning_rate": 3e-3, "weight_decay": 1e-3},
        "training": {"num_steps": 20_000, "eval_every": 5000},
    },
}


def get_config(variant: str = "binarized_digits") -> ml_collections.ConfigDict:
  config = shared.get_config("rbm")
  config.update(data.choose(variant, VARIANTS))
  return config
