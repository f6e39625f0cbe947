"""Bayesian network over a given graph; here every pixel depends on its neighbours to the left and above.

Variants: digits, binarized_mnist, npz (with --config.data.path=...; the two preceding dimensions are parents, and
--config.model.parents=... with --config.model.offsets='()' gives a graph of one's own).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

# (row, column, channel), the most telling first: the table of a rarely seen context falls back on the first few.
NEAREST = ((0, -1, 0), (-1, 0, 0))
AROUND = (*NEAREST, (-1, 1, 0), (-1, -1, 0), (0, -2, 0), (-2, 0, 0), (-1, 2, 0), (-1, -2, 0))

VARIANTS = {
    "digits": {"model": {"offsets": NEAREST, "alpha": 2.0}},
    "binarized_mnist": {"model": {"offsets": AROUND}},
    "npz": {"model": {"offsets": ((-1,), (-2,))}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = defaults.get_config("bayesian_network")
  config.update(data.choose(variant, VARIANTS))
  return config
