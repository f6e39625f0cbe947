"""WaveNet.

Variants: digits (pixels in raster order); shakespeare, nanoGPT's CPU setting; text for any text (with
--config.data.path=...); spoken_digits, given the digit; digit_sounds, whole ones
given digit and speaker; audio for any sound (with --config.data.path=FILE.wav, or a
folder of WAV files).
"""

import ml_collections

from configs.autoregressive import sequences

OWN = {
    "digits": {"model": {"network": {"dropout": 0.2}}, "training": {"num_steps": 2000}},
    # Sees the last 1,023 samples: 64 ms of sound at 16 kHz.
    # Given the digit; sees the last 511 samples, 64 ms: as short as a few minutes on two CPU cores allow.
    "spoken_digits": {
        "data": {"batch_size": 4},
        "model": {"network": {"num_layers": 9, "num_stacks": 1, "width": 48, "skip_width": 64},
                  "class_conditional": True},
        "optimizer": {"learning_rate": 2e-3},
        "training": {"num_steps": 1500, "eval_every": 500, "steps_per_call": 5},
        "evaluation": {"batch_size": 40},
    },
    # Sees the last 1,023 samples, 128 ms.
    "digit_sounds": {
        "data": {"batch_size": 2},
        "model": {"network": {"num_layers": 10, "num_stacks": 1, "width": 48, "skip_width": 64, "smooth": 16},
                  "class_conditional": True},
        "optimizer": {"learning_rate": 2e-3, "warmup_steps": 50},
        "training": {"num_steps": 2300, "eval_every": 1150, "steps_per_call": 5, "ema_decay": 0.99, "log_every": 50,
                     "checkpoint_every": 1150},
        "evaluation": {"batch_size": 20},
    },
    "audio": {
        "data": {"batch_size": 4},
        "model": {"network": {"num_layers": 9, "width": 64}},
        "training": {"num_steps": 2000},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return sequences.get_config(variant, "wavenet", OWN)
