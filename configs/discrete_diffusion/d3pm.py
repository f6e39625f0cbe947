"""D3PM with uniform or Gaussian noise. For the variants, all but texts, see configs/discrete_diffusion/shared.py.

Digits take Gaussian noise: their levels are a scale.
"""

import ml_collections

from configs.discrete_diffusion import shared

OWN = {"digits": {"model": {"transitions": "gaussian", "auxiliary": 0.001}}, "images": {"model": {
    "transitions": "gaussian", "auxiliary": 0.001}}}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "d3pm", OWN, with_sequences=False)
