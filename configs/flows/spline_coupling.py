"""Neural spline flow of couplings.

Variants: two_moons, eight_gaussians, rings, and rings_100k with more points, densities in the plane; npz and red_wine,
tables of real numbers, and images, any images of integers (with --config.data.path=...); digits; mnist and cifar10, for
an accelerator.
"""

import ml_collections

from configs.flows import shared

_RINGS = {"data": {"batch_size": 512}, "model": {"num_bins": 24, "num_steps": 8, "hidden": (96, 96)},
          "optimizer": {"learning_rate": 3e-3}, "training": {"num_steps": 12_000}}
OWN = {
    "rings": _RINGS,
    "rings_100k": {**_RINGS, "evaluation": {"batch_size": 1000}, "sampling": {"num": 4000}},
    "digits": {"model": {"num_steps": 4, "width": 32, "dropout": 0.2}},
}


def get_config(variant: str = "two_moons") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "spline_coupling", OWN)
