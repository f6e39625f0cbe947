"""WGAN-GP, by a critic whose gradients are held near a norm of 1.

Variants: grid, ring8 and eight_gaussians, densities in the plane; npz, tables (with --config.data.path=...); digits;
mnist and images, any images of integers (with --config.data.path=...).
"""

import ml_collections

from configs.adversarial import shared

OWN = {
    # Points in the plane: the authors' weight of the penalty; two steps of the critic do as well as five.
    **{name: {"model": {"gradient_penalty": 0.1, "critic_steps": 2, "critic": {"activation": "relu"}},
              "optimizer": {"b2": 0.9}} for name in shared.PLANE},
    # No batch normalization in the critic: its penalty is of each example's own gradient.
    **{name: {"model": {"generator": shared.GENERATOR, "critic": {**shared.CRITIC, "normalization": "layer"}},
              "optimizer": {"b2": 0.9}} for name in shared.IMAGES},
    "npz": {"optimizer": {"b2": 0.9}},
}


def get_config(variant: str = "grid") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config("wgan_gp", variant, {**shared.PLANE, **shared.TABLES, **shared.IMAGES}, OWN.get(variant, {}))
