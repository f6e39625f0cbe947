"""WaveNet.

Variants: digits (pixels in raster order); shakespeare, nanoGPT's CPU setting; text for any text (with
--config.data.path=...); audio for any sound (with --config.data.path=FILE.wav, or a folder of WAV files).
"""

import ml_collections

from configs.autoregressive import sequences

OWN = {
    "digits": {"model": {"network": {"dropout": 0.2}}, "training": {"num_steps": 2000}},
    # Sees the last 1,023 samples: 64 ms of sound at 16 kHz.
    "audio": {
        "data": {"batch_size": 4},
        "model": {"network": {"num_layers": 9, "width": 64}},
        "training": {"num_steps": 2000},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return sequences.get_config(variant, "wavenet", OWN)
