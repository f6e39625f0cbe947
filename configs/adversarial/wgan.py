"""WGAN, by a critic of bounded weights.

Variants: grid, ring8 and eight_gaussians, densities in the plane; npz, tables (with --config.data.path=...); digits;
mnist and images, any images of integers (with --config.data.path=...).
"""

import ml_collections

from configs.adversarial import shared

# Momentum makes it unstable (arXiv:1701.07875, section 4).
OPTIMIZER = {"optimizer": {"name": "rmsprop", "learning_rate": 5e-5}}
OWN = {
    # Perceptrons of four layers pass on next to nothing of weights below 0.01.
    **{name: {"model": {"clip": 0.1}, "optimizer": {"learning_rate": 2e-3}} for name in shared.PLANE},
    **{name: {"model": {"generator": shared.GENERATOR, "critic": shared.CRITIC}} for name in shared.IMAGES},
}


def get_config(variant: str = "grid") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config("wgan", variant, {**shared.PLANE, **shared.TABLES, **shared.IMAGES}, OPTIMIZER,
                           OWN.get(variant, {}))
