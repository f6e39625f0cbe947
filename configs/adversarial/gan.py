"""GAN, with a penalty of the critic's gradient at real examples (R1).

Variants: grid, ring8 and eight_gaussians, densities in the plane; npz, tables (with --config.data.path=...); digits;
mnist and images, any images of integers (with --config.data.path=...). Another loss is --config.model.loss=hinge,
say.
"""

import ml_collections

from configs.adversarial import shared

OWN = {
    **{name: {"model": {"r1": 0.01}} for name in shared.PLANE},
    **{name: {"model": {"r1": 1.0, "generator": shared.GENERATOR, "critic": shared.CRITIC}}
       for name in shared.IMAGES},
    "npz": {"model": {"r1": 0.1}},
}


def get_config(variant: str = "grid") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config("gan", variant, {**shared.PLANE, **shared.TABLES, **shared.IMAGES}, OWN.get(variant, {}))
