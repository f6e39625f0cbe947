"""N-grams with Kneser and Ney's smoothing, for text.

Variants: shakespeare; text for any text (with --config.data.path=...). The order is the best on the validation part of
tiny shakespeare in windows of 64 characters, nats per character of orders 2 to 8: 2.496, 2.064, 1.762, 1.617, 1.584,
1.580, 1.584. Words want a lower one, --config.model.order=3.
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {"text": {}, "shakespeare": {}}


def get_config(variant: str = "shakespeare") -> ml_collections.ConfigDict:
  config = defaults.get_config("ngram")
  config.update(data.choose(variant, VARIANTS))
  return config
