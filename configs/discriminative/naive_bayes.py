"""Naive Bayes, in closed form.

Variants: digits; mnist; images and npz, any images and tables with labels (with --config.data.path=...).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {"digits": {}, "mnist": {}, "images": {}, "npz": {}}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return defaults.get_config("naive_bayes", data.choose(variant, VARIANTS))
